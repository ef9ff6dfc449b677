"""A vision transformer's weights for volumes or patches of other sides than it was trained on."""

from collections.abc import Mapping
from math import prod

from torch import Tensor
from torch.nn import functional

from rlaif.models.encoders.positions import interpolated_positions
from rlaif.models.encoders.settings import Size, ViTSettings


def at_resolution(weights: Mapping[str, Tensor], found: ViTSettings, wanted: ViTSettings) -> dict[str, Tensor]:
    """The weights of a `ViT3D` of the settings `found` for one of `wanted`, which may have another grid and patch.

    Positions are interpolated and the patch embedding's kernel is resampled; all else stays. Argus goes so from its
    normal to its high resolution.
    """
    return {
        **weights,
        "positions": interpolated_positions(weights["positions"], found.grid, wanted.grid),
        "patch_embedding.weight": resampled_kernel(weights["patch_embedding.weight"], found.patch, wanted.patch),
    }


def resampled_kernel(kernel: Tensor, found: Size, wanted: Size) -> Tensor:
    """A patch embedding's kernel `[hidden, voxels]` of one patch (depth, height, width) for patches of other sides.

    It is interpolated trilinearly between voxel centres, and scaled so that a patch of one value keeps its embedding:
    the weights' sum stays. Raises ValueError where the kernel is not one of the patch that is said to be its own.
    """
    if kernel.dim() != 2 or kernel.shape[1] != prod(found):
        raise ValueError(f"a kernel of shape {list(kernel.shape)} is not one of patches of {found} voxels")
    if found == wanted:
        return kernel
    volume = kernel.float().unflatten(1, (1, *found))
    resized = functional.interpolate(volume, size=wanted, mode="trilinear", align_corners=False).flatten(1)
    scaled = resized * (prod(found) / prod(wanted))
    # Doubled and halved sides keep the sum already. Others weigh some voxels more than their neighbours, and a factor
    # for each row would blow up those whose weights nearly cancel: what is left over is spread evenly.
    left = kernel.float().sum(dim=1, keepdim=True) - scaled.sum(dim=1, keepdim=True)
    return (scaled + left / prod(wanted)).to(kernel.dtype)
