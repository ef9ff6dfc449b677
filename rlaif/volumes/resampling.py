"""A recipe applied: from a volume's HU to an encoder's input."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from rlaif.volumes.recipes import Recipe
from rlaif.volumes.volume import Volume, VolumeError

# Resampled axes beyond this come from a wrong spacing, and would take the memory of the machine.
MAX_RESAMPLED_AXIS = 16_384
SLICES_AT_ONCE = 8


@dataclass(frozen=True)
class _Span:
    """How one axis is filled: `length` samples of a resampled axis, from `crop` on, written from `pad` on."""

    resampled: int
    crop: int
    pad: int
    length: int


def apply(recipe: Recipe, volume: Volume) -> npt.NDArray[np.float32]:
    """The encoder's input for a volume: float32 `[1, depth, height, width]` within the recipe's value range.

    Slices are made a few at a time, so that memory stays near the output's size whatever the input's.
    Equal to trilinear `interpolate(align_corners=False)` of the whole clipped volume, cropped or padded.
    Raises VolumeError where the spacing would blow the volume up beyond any body.
    """
    voxels = torch.from_numpy(volume.voxels)
    low, high = recipe.window_hu
    output = torch.full(recipe.size, low, dtype=torch.float32)
    # The volume's axes stay as they are in memory; a transposed encoder gets a transposed view to be written to.
    order = (0, 1, 2) if recipe.in_plane == "yx" else (0, 2, 1)
    depth, height, width = (
        _span(
            voxels.shape[axis],
            volume.spacing_mm[axis],
            None if recipe.spacing_mm is None else recipe.spacing_mm[order[axis]],
            recipe.size[order[axis]],
        )
        for axis in range(3)
    )
    canvas = output.permute(order)
    rows = slice(height.crop, height.crop + height.length)
    columns = slice(width.crop, width.crop + width.length)
    for start in range(0, depth.length, SLICES_AT_ONCE):
        stop = min(start + SLICES_AT_ONCE, depth.length)
        resampled = functional.interpolate(
            _slices(voxels, depth, start, stop, low, high)[None],
            size=(height.resampled, width.resampled),
            mode="bilinear",
            align_corners=False,
        )[0, :, rows, columns]
        written = canvas[depth.pad + start : depth.pad + stop, height.pad : height.pad + height.length]
        written[:, :, width.pad : width.pad + width.length] = resampled
    range_low, range_high = recipe.value_range
    output.sub_(low).mul_((range_high - range_low) / (high - low)).add_(range_low).clamp_(range_low, range_high)
    values: npt.NDArray[np.float32] = output[None].numpy()
    return values


def _span(voxels: int, spacing_mm: float, wanted_mm: float | None, size: int) -> _Span:
    """Where an axis of `voxels` samples `spacing_mm` apart comes to lie in `size` samples `wanted_mm` apart."""
    if wanted_mm is None:
        return _Span(resampled=size, crop=0, pad=0, length=size)
    # Rounded down, as CT-CLIP's code does.
    resampled = max(1, int(voxels * (spacing_mm / wanted_mm)))
    if resampled > MAX_RESAMPLED_AXIS:
        raise VolumeError(
            f"an axis of {voxels} voxels at {spacing_mm:g} mm would become {resampled} at {wanted_mm:g} mm; "
            "the spacing in the header is wrong"
        )
    crop, pad = max(0, (resampled - size) // 2), max(0, (size - resampled) // 2)
    return _Span(resampled, crop, pad, min(resampled, size))


def _slices(voxels: torch.Tensor, depth: _Span, start: int, stop: int, low: float, high: float) -> torch.Tensor:
    """Slices `start` to `stop` of the cropped resampled depth, float32 `[slice, height, width]`, clipped first."""
    count = voxels.shape[0]
    places = torch.arange(depth.crop + start, depth.crop + stop, dtype=torch.float64)
    positions = ((places + 0.5) * (count / depth.resampled) - 0.5).clamp(0, count - 1)
    below = positions.floor().long()
    above = (below + 1).clamp(max=count - 1)
    weights = (positions - below).float()[:, None, None]
    return torch.lerp(voxels[below].clamp(low, high).float(), voxels[above].clamp(low, high).float(), weights)
