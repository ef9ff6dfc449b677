"""Every system's published preprocessing, as plainly as its code or paper has it: what recipes are measured against.

Each takes a scan as nibabel gives it (float64 HU `[x, y, z]`) with its spacing in mm in the same order, and returns
what that system feeds its encoder. Sources stand in `rlaif/volumes/recipes.py`. Nothing here is fast or frugal.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Compose, CropForeground, Resize, ScaleIntensityRangePercentiles
from monai.transforms.spatial.functional import resize
from torch.nn import functional

Array = npt.NDArray[np.float64]
Spacing = tuple[float, float, float]


def ctclip_v1(hounsfield: Array, spacing_mm: Spacing) -> npt.NDArray[np.float32]:
    return _centred((_ctclip_resized(hounsfield.clip(-1000, 200), spacing_mm) + 400) / 600, (240, 480, 480))


def ctclip_v2(hounsfield: Array, spacing_mm: Spacing) -> npt.NDArray[np.float32]:
    return _centred(_ctclip_resized(hounsfield.clip(-1000, 1000), spacing_mm) / 1000, (240, 480, 480))


def phantom(hounsfield: Array, spacing_mm: Spacing) -> npt.NDArray[np.float32]:
    """The project's own recipe, in the manner of CT-CLIP but with slices as `[y, x]`."""
    slices = torch.from_numpy(hounsfield.clip(-1000, 400).transpose(2, 1, 0).copy())
    values = _to_spacing(slices, spacing_mm[::-1], (10.0, 7.0, 7.0)).numpy()
    return _centred((values + 300) / 700, (32, 48, 48))


def argus(hounsfield: Array, spacing_mm: Spacing) -> npt.NDArray[np.float32]:
    return _argus(hounsfield, spacing_mm, (256, 256, 64))


def argus_high(hounsfield: Array, spacing_mm: Spacing) -> npt.NDArray[np.float32]:
    return _argus(hounsfield, spacing_mm, (512, 512, 256))


def m3d(hounsfield: Array, spacing_mm: Spacing) -> npt.NDArray[np.float32]:
    image = hounsfield.transpose(2, 1, 0)[np.newaxis]
    image = image - image.min()
    image = image / np.clip(image.max(), a_min=1e-8, a_max=None)
    steps = Compose([CropForeground(), Resize(spatial_size=[32, 256, 256], mode="bilinear")])
    return np.asarray(steps(image))


def mu2(hounsfield: Array, spacing_mm: Spacing) -> npt.NDArray[np.float32]:
    steps = Compose(
        [ScaleIntensityRangePercentiles(lower=0.5, upper=99.5, b_min=0.0, b_max=1.0, clip=True), CropForeground()]
    )
    data = steps(torch.tensor(hounsfield.transpose(2, 0, 1)[np.newaxis]))[0]
    data = data.permute(1, 2, 0)
    ratio = min(256 / data.shape[axis] for axis in range(2))
    rows, columns = (int(data.shape[axis] * ratio) for axis in range(2))
    depth = min(data.shape[2], 256)
    data = resize(
        img=data.unsqueeze(0),
        out_size=[rows, columns, depth],
        mode="bilinear",
        align_corners=True,
        dtype=None,
        input_ndim=3,
        anti_aliasing=True,
        anti_aliasing_sigma=None,
        lazy=False,
        transform_info=None,
    )
    padded = functional.pad(torch.as_tensor(data), (0, 256 - depth, 0, 256 - columns, 0, 256 - rows), value=0)
    return padded.permute(0, 3, 1, 2).reshape(-1, 32, 256, 256).numpy()


def reg2rg(hounsfield: Array, spacing_mm: Spacing) -> npt.NDArray[np.float32]:
    steps = Compose([CropForeground(select_fn=lambda voxels: voxels > -1000), Resize(spatial_size=(256, 256, 64))])
    image = torch.as_tensor(steps(hounsfield[np.newaxis])).clamp(-1000, 200)
    return ((image + 400) / 600).repeat(3, 1, 1, 1).numpy()


STEPS: dict[str, Callable[[Array, Spacing], npt.NDArray[np.float32]]] = {
    steps.__name__: steps for steps in (phantom, ctclip_v1, ctclip_v2, argus, argus_high, m3d, mu2, reg2rg)
}


def _ctclip_resized(clipped: Array, spacing_mm: Spacing) -> Array:
    """The clipped scan as `[z, x, y]`, 1.5 mm by 0.75 mm by 0.75 mm."""
    x, y, z = spacing_mm
    slices = torch.from_numpy(clipped.transpose(2, 0, 1).copy())
    resized: Array = _to_spacing(slices, (z, x, y), (1.5, 0.75, 0.75)).numpy()
    return resized


def _argus(hounsfield: Array, spacing_mm: Spacing, size: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    values = torch.from_numpy((hounsfield.clip(-1000, 1000) + 1000) / 2000)
    normalised = _to_spacing(values, spacing_mm, (1.0, 1.0, 4.0))
    return functional.interpolate(normalised[None, None], size=size, mode="trilinear")[0].float().numpy()


def _to_spacing(tensor: torch.Tensor, spacing_mm: Spacing, wanted_mm: Spacing) -> torch.Tensor:
    factors = [here / there for here, there in zip(spacing_mm, wanted_mm, strict=True)]
    size = [int(voxels * factor) for voxels, factor in zip(tensor.shape, factors, strict=True)]
    return functional.interpolate(tensor[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]


def _centred(values: Array, size: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Cropped or padded with -1 about the centre, as `[1, ...]`."""
    starts = [max((voxels - wanted) // 2, 0) for voxels, wanted in zip(values.shape, size, strict=True)]
    cropped = values[tuple(slice(start, start + wanted) for start, wanted in zip(starts, size, strict=True))]
    missing = [wanted - voxels for voxels, wanted in zip(cropped.shape, size, strict=True)]
    padding = [(lack // 2, lack - lack // 2) for lack in missing]
    return np.pad(cropped, padding, constant_values=-1)[np.newaxis].astype(np.float32)
