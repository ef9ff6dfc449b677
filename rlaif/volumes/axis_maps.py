"""Resampling of one axis as a sparse matrix: steps after one another are a product of matrices."""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array, eye_array

from rlaif.volumes.recipes import Recipe
from rlaif.volumes.volume import VolumeError

# Resampled axes beyond this come from a wrong spacing, and would take the memory of the machine.
MAX_RESAMPLED_AXIS = 16_384
# Where the Gaussian filter of MONAI ends, in standard deviations.
TRUNCATED_AT = 4.0


@dataclass(frozen=True)
class AxisMap:
    """How one axis is filled: `matrix` is float32 `[samples, voxels]`, its samples are written from `start` on."""

    matrix: csr_array
    start: int

    @property
    def filled(self) -> slice:
        """The part of the recipe's axis that holds the scan; the rest is padding."""
        return slice(self.start, self.start + self.matrix.shape[0])


def axis_maps(
    recipe: Recipe, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> tuple[AxisMap, AxisMap, AxisMap]:
    """The maps of depth, height and width for a volume whose axes are in the recipe's order already.

    Raises VolumeError where the spacing would blow an axis up beyond any body.
    """
    resampled = shape
    if recipe.spacing_mm is not None:
        resampled = cast(
            tuple[int, int, int],
            tuple(_resampled(*axis) for axis in zip(shape, spacing_mm, recipe.spacing_mm, strict=True)),
        )
    fitted = _fitted(recipe, resampled)
    depth, height, width = (
        _axis_map(recipe, *axis) for axis in zip(shape, resampled, fitted, recipe.size, strict=True)
    )
    return depth, height, width


def _resampled(voxels: int, spacing_mm: float, wanted_mm: float) -> int:
    """How many samples `wanted_mm` apart an axis has, rounded down as CT-CLIP's code does."""
    samples = max(1, int(voxels * (spacing_mm / wanted_mm)))
    if samples > MAX_RESAMPLED_AXIS:
        raise VolumeError(
            f"an axis of {voxels} voxels at {spacing_mm:g} mm would become {samples} at {wanted_mm:g} mm; "
            "the spacing in the header is wrong"
        )
    return samples


def _fitted(recipe: Recipe, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """How many samples each axis has before it is cropped or padded to the recipe's size."""
    if recipe.fit == "stretch":
        return recipe.size
    if recipe.fit == "crop_or_pad":
        return shape
    ratio = min(recipe.size[1] / shape[1], recipe.size[2] / shape[2])
    # Rounded down like the published code: 333 * (256 / 333) is a little less than 256.
    height, width = (max(1, int(voxels * ratio)) for voxels in shape[1:])
    return min(shape[0], recipe.size[0]), height, width


def _axis_map(recipe: Recipe, voxels: int, resampled: int, fitted: int, size: int) -> AxisMap:
    matrix = eye_array(voxels, format="csr")
    if resampled != voxels:
        matrix = _interpolated(recipe, voxels, resampled)
    if fitted != resampled:
        if recipe.anti_aliasing and fitted < resampled:
            matrix = _gaussian(resampled, sigma=(resampled / fitted - 1.0) / 2.0) @ matrix
        matrix = _interpolated(recipe, resampled, fitted) @ matrix
    crop, pad = max(0, (fitted - size) // 2), max(0, (size - fitted) // 2)
    start = 0 if recipe.fit == "keep_aspect" else pad
    return AxisMap(csr_array(matrix[crop : crop + size], dtype=np.float32), start)


def _interpolated(recipe: Recipe, voxels: int, samples: int) -> csr_array:
    """The `[samples, voxels]` matrix of the recipe's interpolation between the ends of an axis."""
    if recipe.interpolation == "area":
        return _area(voxels, samples)
    places = np.arange(samples, dtype=np.float64)
    if recipe.interpolation == "linear":
        positions = ((places + 0.5) * (voxels / samples) - 0.5).clip(0, voxels - 1)
    else:
        positions = places * ((voxels - 1) / max(1, samples - 1))
    below = np.minimum(positions.astype(np.int64), voxels - 1)
    above = np.minimum(below + 1, voxels - 1)
    weights = positions - below
    return _matrix(np.stack([below, above], 1), np.stack([1.0 - weights, weights], 1), voxels)


def _area(voxels: int, samples: int) -> csr_array:
    """Each sample the plain mean of all voxels that its area touches, as torch's adaptive pooling has it."""
    places = np.arange(samples)
    first, end = places * voxels // samples, -((places + 1) * voxels // -samples)
    columns = first[:, None] + np.arange((end - first).max())
    inside = columns < end[:, None]
    return _matrix(np.where(inside, columns, 0), inside / (end - first)[:, None], voxels)


def _gaussian(voxels: int, sigma: float) -> csr_array:
    """A Gaussian filter integrated over each voxel and truncated, zero beyond the ends, as MONAI's GaussianFilter."""
    tail = int(max(sigma * TRUNCATED_AT, 0.5) + 0.5)
    offsets = [offset for offset in range(-tail, tail + 1) if abs(offset) < voxels]
    edges = [math.erf((offset - 0.5) / (sigma * math.sqrt(2.0))) for offset in (*offsets, offsets[-1] + 1)]
    kernel = np.diff(edges) / 2.0
    return csr_array(diags_array(kernel, offsets=offsets, shape=(voxels, voxels)))


def _matrix(columns: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], voxels: int) -> csr_array:
    """The sparse matrix with `weights[row, n]` in column `columns[row, n]`; equal places add up."""
    samples, taps = columns.shape
    rows = np.repeat(np.arange(samples), taps)
    matrix = csr_array((weights.ravel(), (rows, columns.ravel())), shape=(samples, voxels))
    matrix.eliminate_zeros()
    return matrix
