"""A recipe applied: from a volume's HU to an encoder's input."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array

from rlaif.volumes.axis_maps import axis_maps
from rlaif.volumes.intensity import Voxels, foreground, intensity_range
from rlaif.volumes.recipes import Recipe
from rlaif.volumes.volume import Volume


def apply(recipe: Recipe, volume: Volume) -> npt.NDArray[np.float32]:
    """The encoder's input for a volume: float32 `[1, depth, height, width]` within the recipe's value range.

    Made slice by slice, so that memory stays near the output's size whatever the input's. Nothing is
    flipped or turned; where the recipe's `in_plane` is `xy`, height runs along x and width along y.
    Raises VolumeError where the spacing would blow the volume up beyond any body, where nothing lies
    in the foreground, or where all voxels have the one value.
    """
    low, high = intensity_range(recipe.intensity, volume.voxels)
    voxels = volume.voxels[foreground(volume.voxels, low)] if recipe.crop_foreground else volume.voxels
    # The recipe's depth, height and width as axes of the volume.
    order = (0, 1, 2) if recipe.in_plane == "yx" else (0, 2, 1)
    depth, height, width = axis_maps(
        recipe,
        (voxels.shape[order[0]], voxels.shape[order[1]], voxels.shape[order[2]]),
        (volume.spacing_mm[order[0]], volume.spacing_mm[order[1]], volume.spacing_mm[order[2]]),
    )
    range_low, range_high = recipe.value_range
    scale = (range_high - range_low) / (high - low)
    output = np.full((1, *recipe.size), range_low, np.float32)
    canvas = torch.from_numpy(output)[0, depth.filled, height.filled, width.filled]
    clipped_to = high if recipe.clip == "before" else None
    for row, written in enumerate(canvas):
        plane = _weighted_slices(voxels, depth.matrix, row, low, clipped_to)
        if recipe.in_plane == "yx":
            plane = _transposed(plane)
        # A sparse matrix works down the columns of a slice, so a transposition lies between the two axes.
        plane = _product(height.matrix, _transposed(_product(width.matrix, plane)))
        torch.add(plane.mul_(scale), range_low, out=written).clamp_(range_low, range_high)
    return output


def _weighted_slices(voxels: Voxels, depth: csr_array, row: int, low: float, clipped_to: float | None) -> torch.Tensor:
    """One slice of the resampled depth, float32 `[y, x]`, counted from `low` HU."""
    total = torch.zeros(voxels.shape[1:])
    taps = slice(depth.indptr[row], depth.indptr[row + 1])
    for index, weight in zip(depth.indices[taps], depth.data[taps], strict=True):
        # astype copies, so the scan stays as it is and may be read-only.
        plane = torch.from_numpy(voxels[index].astype(np.float32))
        if clipped_to is not None:
            plane.clamp_(low, clipped_to)
        total.add_(plane.sub_(low), alpha=float(weight))
    return total


def _product(matrix: csr_array, plane: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(matrix @ plane.numpy())


def _transposed(plane: torch.Tensor) -> torch.Tensor:
    return plane.t().contiguous()
