"""The geometry of a DICOM series: slices in order, their distances, the gantry's tilt."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlaif.volumes.orientation import TILT_DEGREES
from rlaif.volumes.volume import VolumeError, check_spacing

# Positions are rounded to 0.1 mm by some scanners, so gaps of thin slices differ by up to a fifth.
GAP_TOLERANCE = 0.25
UNEVEN_GAP = 0.02
SHIFT_MM = 1.0


@dataclass(frozen=True)
class Slice:
    """What a slice's header says; vectors are in mm, in LPS directions, the tilt is in degrees."""

    path: Path
    instance: str
    shape: tuple[int, int]
    pixel_spacing: tuple[float, float]
    along_columns: tuple[float, float, float]
    along_rows: tuple[float, float, float]
    origin: tuple[float, float, float]
    slope: float
    intercept: float
    tilt: float

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """The direction in which slices follow each other."""
        return np.asarray(np.cross(self.along_columns, self.along_rows), dtype=np.float64)

    @property
    def position(self) -> float:
        """The distance from the scanner's origin along the slice normal, in mm."""
        return float(np.dot(self.normal, self.origin))


def check_alike(slices: list[Slice]) -> None:
    """Raise VolumeError unless all slices have the first one's size, pixel spacing and orientation."""
    first = slices[0]
    for one in slices:
        if one.shape != first.shape or not np.allclose(one.pixel_spacing, first.pixel_spacing, rtol=1e-3):
            raise VolumeError(f"slices differ in size or pixel spacing: {first.path.name} and {one.path.name}")
        turned = np.abs(np.subtract(one.along_columns + one.along_rows, first.along_columns + first.along_rows))
        if turned.max() > 1e-2:
            raise VolumeError(f"slices differ in orientation: {first.path.name} and {one.path.name}")


def stack_affine(slices: list[Slice]) -> npt.NDArray[np.float64]:
    """The 4x4 map of (column, row, slice, 1) to mm in LPS directions; VolumeError for uneven gaps."""
    positions = np.array([one.position for one in slices])
    gaps = np.diff(positions)
    usual = float(np.median(gaps))
    for (below, above), gap in zip(pairwise(slices), gaps, strict=True):
        if abs(gap - usual) > GAP_TOLERANCE * usual:
            raise VolumeError(
                f"slices are missing or unevenly spaced: {below.path.name} and {above.path.name} lie {gap:.2f} mm "
                f"apart where {usual:.2f} mm is usual; export the whole series again"
            )
    first = slices[0]
    row_distance, column_distance = first.pixel_spacing
    distance = float(positions[-1] - positions[0]) / (len(slices) - 1)
    check_spacing((distance, row_distance, column_distance))
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.along_columns) * column_distance
    affine[:3, 1] = np.array(first.along_rows) * row_distance
    # Along the normal, not from origin to origin: a tilted gantry shifts the slices, and is not sheared back.
    affine[:3, 2] = first.normal * distance
    affine[:3, 3] = first.origin
    return affine


def stack_remarks(slices: list[Slice]) -> list[str]:
    """What a person should know of slices in order: tilt, shifts in their plane, gaps that differ a little."""
    remarks = []
    origins = np.array([one.origin for one in slices])
    positions = np.array([one.position for one in slices])
    path, normal = origins[-1] - origins[0], slices[0].normal
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(path, normal)), path @ normal)))
    told = max((abs(one.tilt) for one in slices), default=0.0)
    if tilt > TILT_DEGREES:
        remarks.append(f"gantry tilted by {tilt:.1f} degrees: slices are stacked along their normal, not sheared back")
    elif told > TILT_DEGREES:
        remarks.append(f"gantry tilted by {told:.1f} degrees by its tag, yet slices lie straight above each other")
    along = (positions - positions[0]) / (positions[-1] - positions[0])
    shift = float(np.linalg.norm(origins - (origins[0] + along[:, None] * path), axis=1).max())
    if shift > SHIFT_MM:
        remarks.append(f"slices are shifted against each other in their plane by up to {shift:.1f} mm")
    gaps = np.diff(positions)
    usual = float(np.median(gaps))
    if np.abs(gaps - usual).max() > UNEVEN_GAP * usual:
        remarks.append(f"slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart: {gaps.mean():.2f} mm is taken")
    return remarks
