"""How a file's axes come to lie in a volume: by permutation and flips only, or just as they are stored."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import io_orientation

from rlaif.volumes.volume import VolumeError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A patient is never straight on the table to the degree; beyond this the axes are no longer the patient's.
OBLIQUE_DEGREES = 5.0
TILT_DEGREES = 0.5


@dataclass(frozen=True)
class Axes:
    """Where a file's axes `(i, j, k)` go: `source` is the one that becomes z, y and x, `flipped` whether backwards.

    `spacing_mm` is that of the volume, `(z, y, x)`; `remarks` are those of Volume.
    """

    source: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    spacing_mm: tuple[float, float, float]
    remarks: tuple[str, ...] = ()

    def volume_shape(self, stored: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape `[z, y, x]` of a volume whose file has `stored` voxels along i, j and k."""
        z, y, x = self.source
        return stored[z], stored[y], stored[x]

    def as_stored(self, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A volume `[z, y, x]` as a view `[k, j, i]`: what is written to it goes where it belongs."""
        unflipped = voxels[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]
        return unflipped.transpose(np.argsort(self.source)[::-1])


def stored_axes(spacing_mm: tuple[float, float, float]) -> Axes:
    """Axes left as the file has them: k, j and i become z, y and x; `spacing_mm` is along `(i, j, k)`."""
    i, j, k = spacing_mm
    return Axes((2, 1, 0), (False, False, False), (k, j, i))


def canonical_axes(affine: npt.NDArray[np.float64]) -> Axes:
    """Axes turned so that x runs to the patient's left, y to the posterior and z to the superior side.

    `affine` is 4x4 and maps `(i, j, k, 1)` to millimetres in RAS directions, as NIfTI has it. Each
    axis goes to the anatomical axis nearest to it. Raises VolumeError for an affine that is not
    finite or gives no orientation.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise VolumeError("the affine holds values that are not finite; repair the header")
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise VolumeError("the affine has no volume, so it gives no orientation; repair the header")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # Row n: which of the anatomical axes (right, anterior, superior) array axis n runs along, and its sign.
    anatomical = io_orientation(affine)
    z, y, x = (int(np.flatnonzero(anatomical[:, 0] == axis)[0]) for axis in (2, 1, 0))
    return Axes(
        source=(z, y, x),
        flipped=(bool(anatomical[z, 1] < 0), bool(anatomical[y, 1] > 0), bool(anatomical[x, 1] > 0)),
        spacing_mm=(float(lengths[z]), float(lengths[y]), float(lengths[x])),
        remarks=_remarks(affine[:3, :3] / lengths, (x, y, z)),
    )


def _remarks(directions: npt.NDArray[np.float64], source: tuple[int, int, int]) -> tuple[str, ...]:
    """What is said of axes (unit vectors in columns) that are not perpendicular, or not the patient's."""
    remarks: list[str] = []
    between = np.abs(directions.T @ directions)[np.triu_indices(3, 1)]
    sheared = float(np.degrees(np.arcsin(np.clip(between.max(), 0.0, 1.0))))
    if sheared > TILT_DEGREES:
        remarks.append(
            f"the axes are {sheared:.1f} degrees off the perpendicular: slices are stacked, not sheared back"
        )
    along = np.abs(directions[np.arange(3), list(source)])
    oblique = float(np.degrees(np.arccos(np.clip(along.min(), 0.0, 1.0))))
    if oblique > OBLIQUE_DEGREES + sheared:
        remarks.append(f"oblique by {oblique:.1f} degrees: taken along its nearest axes, not rotated")
    return tuple(remarks)
