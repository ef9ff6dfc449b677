"""Stored values become a volume in HU, a few planes at a time while they are still in the processor's cache."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from rlaif.volumes.orientation import Axes
from rlaif.volumes.stream import VoxelStream
from rlaif.volumes.volume import Volume, VolumeError

# Where planes are not axial their voxels lie scattered in the volume: several at once share its cache lines.
PLANES_AT_ONCE = 16
BYTES_AT_ONCE = 16 * 2**20
_INT16 = np.iinfo(np.int16)


def read_planes(
    stream: VoxelStream,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    axes: Axes,
    slope: float = 1.0,
    intercept: float = 0.0,
) -> Volume:
    """The stream's voxels, `shape` along `(i, j, k)` with i fastest, as a Volume in HU.

    Integers stay int16 where their HU fit, everything else becomes float32. Memory beside the volume is a few
    planes, and none is taken for voxels that the file cannot hold. Raises VolumeError for a truncated or damaged
    stream, values that are not finite, and those that slope and intercept make so.
    """
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise VolumeError(f"voxels are {dtype}, which no CT is; convert the file to int16 HU")
    stream.check_announced(math.prod(shape) * dtype.itemsize)
    columns, rows, count = shape
    writer = _Writer(shape, dtype, axes, slope, intercept)
    axial = axes.source[0] == 2
    at_once = 1 if axial else max(1, min(PLANES_AT_ONCE, BYTES_AT_ONCE // (columns * rows * dtype.itemsize)))
    planes = np.empty((min(at_once, count), rows, columns), dtype)
    for start in range(0, count, at_once):
        part = planes[: count - start]
        stream.fill(part)
        writer.write(start, part)
    stream.finish()
    return Volume(writer.voxels, axes.spacing_mm, axes.remarks)


class _Writer:
    """Puts planes of stored values into the voxels of a volume: int16 as long as their HU fit, float32 from then on."""

    def __init__(
        self, shape: tuple[int, int, int], dtype: np.dtype[Any], axes: Axes, slope: float, intercept: float
    ) -> None:
        self._axes, self._slope, self._intercept = axes, slope, intercept
        whole = dtype.kind in "iu" and slope == 1.0 and intercept.is_integer() and abs(intercept) <= _INT16.max
        self.voxels = np.empty(axes.volume_shape(shape), np.int16 if whole else np.float32)

    def write(self, start: int, planes: npt.NDArray[Any]) -> None:
        """Write planes `[k, j, i]` from `start` on."""
        low, high = float(planes.min()), float(planes.max())
        if math.isnan(low):
            raise VolumeError("holds voxels that are NaN, not finite numbers; convert the scan again")
        if not (math.isfinite(low) and math.isfinite(high)):
            raise VolumeError("holds voxels that are infinite, not finite numbers; convert the scan again")
        if self.voxels.dtype == np.int16:
            fits = _INT16.min <= low + self._intercept and high + self._intercept <= _INT16.max
            if not fits:
                self.voxels = self.voxels.astype(np.float32)
        target = self._axes.as_stored(self.voxels)[start : start + len(planes)]
        if target.dtype == np.float32:
            target[...] = self._scaled(planes)
        elif self._intercept:
            # uint16 may wrap in the conversion; adding the intercept wraps it back
            np.add(planes.astype(np.int16), np.int16(self._intercept), out=target)
        else:
            target[...] = planes

    def _scaled(self, planes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = planes.astype(np.float32)
            if self._slope != 1.0:
                scaled *= np.float32(self._slope)
            if self._intercept:
                scaled += np.float32(self._intercept)
        if not (np.isfinite(scaled.min()) and np.isfinite(scaled.max())):
            raise VolumeError(
                "voxels overflow when the header's slope and intercept are applied; convert the scan again"
            )
        return scaled
