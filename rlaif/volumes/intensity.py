"""The range of HU that a recipe takes from a volume, and the box around what lies above it."""

from typing import cast

import numpy as np
import numpy.typing as npt

from rlaif.volumes.recipes import Percentiles, Window
from rlaif.volumes.volume import VolumeError

Voxels = npt.NDArray[np.int16] | npt.NDArray[np.float32]
Box = tuple[slice, slice, slice]

_INT16_VALUES = 2**16


def intensity_range(intensity: Window | Percentiles, voxels: Voxels) -> tuple[float, float]:
    """The low and high HU of a volume `[depth, height, width]` for its recipe.

    Percentiles are exact, linear between neighbouring ranks. Raises VolumeError where both ends are
    one value, so that nothing tells tissue from background.
    """
    if isinstance(intensity, Window):
        return intensity.low_hu, intensity.high_hu
    low, high = _percentiles(voxels, (intensity.lower, intensity.upper))
    if low == high:
        raise VolumeError(
            f"the voxels from percentile {intensity.lower:g} to {intensity.upper:g} all have the value {low:g}; "
            "it is an empty image"
        )
    return low, high


def foreground(voxels: Voxels, low: float) -> Box:
    """The smallest box of a `[depth, height, width]` volume that holds all voxels above `low` HU.

    Raises VolumeError where there is none.
    """
    slices = np.zeros(voxels.shape[0], bool)
    rows, columns = np.zeros(voxels.shape[1], bool), np.zeros(voxels.shape[2], bool)
    for index, plane in enumerate(voxels):
        above = plane > low
        in_rows = above.any(axis=1)
        slices[index] = in_rows.any()
        rows |= in_rows
        columns |= above.any(axis=0)
    if not slices.any():
        raise VolumeError(
            f"no voxel is above {low:g} HU, so there is nothing to crop to: it is an empty image or region"
        )
    return cast(Box, tuple(_extent(axis) for axis in (slices, rows, columns)))


def _extent(marked: npt.NDArray[np.bool_]) -> slice:
    places = np.flatnonzero(marked)
    return slice(int(places[0]), int(places[-1]) + 1)


def _percentiles(voxels: Voxels, percents: tuple[float, float]) -> tuple[float, float]:
    if voxels.dtype != np.int16:
        low, high = np.percentile(voxels, percents)
        return float(low), float(high)
    # Counting values is eight times faster than ordering them, and takes no second volume.
    counts = np.zeros(_INT16_VALUES, np.int64)
    for plane in voxels:
        counts += np.bincount(plane.view(np.uint16).ravel(), minlength=_INT16_VALUES)
    ends = np.roll(counts, _INT16_VALUES // 2).cumsum()  # negative values come first
    ranks = np.array(percents) / 100.0 * (voxels.size - 1)
    below, above = (
        np.searchsorted(ends, places, side="right") - _INT16_VALUES // 2 for places in (np.floor(ranks), np.ceil(ranks))
    )
    low, high = below + (above - below) * (ranks - np.floor(ranks))
    return float(low), float(high)
