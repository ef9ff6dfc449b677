"""Where the voxels of a file lie in the patient: what a mask must share with its CT."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlaif.storage import is_infrastructure
from rlaif.volumes.mha import mha_grid
from rlaif.volumes.nifti import nifti_grid
from rlaif.volumes.nrrd import nrrd_grid
from rlaif.volumes.orientation import canonical_axes, stored_axes
from rlaif.volumes.volume import Orientation, VolumeError, file_kind

# Headers round, and a grid shifted by half a voxel (another convention) must not pass.
TOLERANCE_VOXELS = 0.1
# No scan lies further from its scanner; origins near the limit of a float would compare as NaN, and so as equal.
MAX_ORIGIN_MM = 1e6
_OF_FILE = {"nifti": nifti_grid, "nrrd": nrrd_grid, "mha": mha_grid}


@dataclass(frozen=True, eq=False)
class Grid:
    """A file's voxel grid: `shape` along its axes `(i, j, k)`; `affine` is 4x4 from `(i, j, k, 1)` to mm in RAS."""

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    def oriented(self, stored: npt.NDArray[Any], orientation: Orientation) -> npt.NDArray[Any]:
        """Voxels `[k, j, i]` of this grid as `[z, y, x]`, C-contiguous, just as its CT is read in that orientation."""
        i, j, k = (float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))
        axes = stored_axes((i, j, k)) if orientation == "stored" else canonical_axes(self.affine)
        voxels = np.empty(axes.volume_shape(self.shape), stored.dtype)
        axes.as_stored(voxels)[...] = stored
        return voxels

    def reordered(self, stored: npt.NDArray[Any], other: "Grid") -> npt.NDArray[Any]:
        """Voxels `[k, j, i]` of another grid as a view `[k, j, i]` of this one, by permutation and flips.

        Raises VolumeError, with what differs, unless both grids have their voxels in the same places.
        """
        to_here = np.linalg.inv(self.affine) @ other.affine
        turn = np.rint(to_here[:3, :3]).astype(int)
        spans = abs(turn) @ other.shape
        permuted = (abs(turn).sum(axis=0) == 1).all() and (abs(turn).sum(axis=1) == 1).all()
        if not permuted or tuple(spans) != self.shape:
            raise VolumeError(f"has {_described(other)} where the CT has {_described(self)}: {_advice(other)}")
        start = np.where(turn.sum(axis=1) < 0, np.array(self.shape) - 1, 0)
        corners = np.array(list(itertools.product(*((0, length - 1) for length in other.shape))))
        off = corners @ to_here[:3, :3].T + to_here[:3, 3] - (corners @ turn.T + start)
        if np.abs(off).max() > TOLERANCE_VOXELS:
            far_mm = float(np.linalg.norm(off @ self.affine[:3, :3].T, axis=1).max())
            raise VolumeError(f"lies up to {far_mm:.3g} mm off the voxels of the CT: {_advice(other)}")
        # Row n of `turn` says which of the other's axes runs along this grid's axis n, and which way.
        source = [int(np.flatnonzero(row)[0]) for row in turn]
        view = stored.transpose(2, 1, 0).transpose(source)
        view = view[tuple(slice(None, None, int(row.sum())) for row in turn)]
        return view.transpose(2, 1, 0)


def read_grid(path: Path, series: str | None = None) -> Grid:
    """The grid of what `read_volume` reads there: a NIfTI, NRRD or MHA file, or a DICOM series of a folder.

    Only headers are read, and DICOM slices that share a position. Raises VolumeError, with the path, where they give
    no volume, no orientation or no origin.
    """
    try:
        if path.is_dir():
            # pydicom takes longer to load than most headers take to read.
            from rlaif.volumes.dicom import series_grid

            shape, affine = series_grid(path, series)
        elif series is not None:
            raise VolumeError(f"is one file, of which no series {series} can be taken; name the folder of the series")
        else:
            shape, affine = _OF_FILE[file_kind(path)](path)
        canonical_axes(affine)
        if np.abs(affine[:3, 3]).max() > MAX_ORIGIN_MM:
            raise VolumeError(f"its origin lies more than {MAX_ORIGIN_MM:g} mm away; convert the file again")
    except VolumeError as error:
        raise VolumeError(f"{path}: {error}") from error
    except OSError as error:
        if is_infrastructure(error):
            raise
        raise VolumeError(f"{path}: cannot be read: {error.strerror or error}") from error
    return Grid(shape, affine)


def _described(grid: Grid) -> str:
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    return f"{' x '.join(map(str, grid.shape))} voxels of {' x '.join(f'{length:.4g}' for length in spacing)} mm"


def _advice(mask: Grid) -> str:
    # In LPS, as ITK has it, the identity turns x and y around.
    if np.array_equal(np.abs(mask.affine), np.eye(4)):
        return "its header has lost its place (SAT writes the identity as affine); put it onto the CT's grid again"
    return "resample it onto the CT's grid (nearest neighbour)"
