"""Where the voxels of a file lie in the patient: what a mask must share with its CT."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from rlaif.volumes.orientation import LPS_TO_RAS, canonical_axes, stored_axes
from rlaif.volumes.volume import Orientation, VolumeError

# Headers round, and a grid shifted by half a voxel (another convention) must not pass.
TOLERANCE_VOXELS = 0.1


@dataclass(frozen=True, eq=False)
class Grid:
    """A file's voxel grid: `shape` along its axes `(i, j, k)`; `affine` is 4x4 from `(i, j, k, 1)` to mm in RAS.

    `placed` is false where the header says nothing of the place, so that the affine is one made up.
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    placed: bool = True

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
    """The grid of a NIfTI, NRRD or MHA file, or of a DICOM series (the largest of its folder, or the one named).

    Only headers are read. Raises VolumeError where they give no grid of three axes.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        if path.is_dir():
            return _dicom_grid(path, series)
        if path.name.lower().endswith((".nii", ".nii.gz")):
            image = cast(nibabel.Nifti1Image, nibabel.load(path))
            grid = _grid(tuple(image.shape), np.array(image.affine, dtype=np.float64))
            coded = int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0
            return replace(grid, placed=coded and not np.array_equal(grid.affine, np.eye(4)))
        return _itk_grid(path)
    except (ImageFileError, HeaderDataError, ValueError, EOFError, RuntimeError) as error:
        raise VolumeError(f"{path}: gives no voxel grid ({' '.join(str(error).split())[:300]})") from error


def _grid(shape: tuple[int, ...], affine: npt.NDArray[np.float64]) -> Grid:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise VolumeError(f"shape {shape} with an affine of shape {affine.shape} is no grid of three axes")
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise VolumeError("the affine has no volume")
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _itk_grid(path: Path) -> Grid:
    import SimpleITK

    header = SimpleITK.ImageFileReader()
    header.SetFileName(str(path))
    header.ReadImageInformation()
    rank = header.GetDimension()
    affine = np.eye(rank + 1)
    affine[:rank, :rank] = np.reshape(header.GetDirection(), (rank, rank)) * header.GetSpacing()
    affine[:rank, rank] = header.GetOrigin()
    return _grid(header.GetSize(), LPS_TO_RAS @ affine if rank == 3 else affine)


def _dicom_grid(folder: Path, series: str | None) -> Grid:
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader
    wanted = reader.GetGDCMSeriesIDs(str(folder)) if series is None else (series,)
    series_files = [list(reader.GetGDCMSeriesFileNames(str(folder), uid)) for uid in wanted]
    names = max(series_files, key=len, default=[])
    if len(names) < 2:
        raise VolumeError("holds no DICOM series of two slices or more")
    first, last = _itk_grid(Path(names[0])), _itk_grid(Path(names[-1]))
    affine = first.affine.copy()
    affine[:3, 2] = (last.affine[:3, 3] - first.affine[:3, 3]) / (len(names) - 1)
    return _grid((first.shape[0], first.shape[1], len(names)), affine)


def _described(grid: Grid) -> str:
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    return f"{' x '.join(map(str, grid.shape))} voxels of {' x '.join(f'{length:.4g}' for length in spacing)} mm"


def _advice(mask: Grid) -> str:
    if not mask.placed:
        return "its header has lost its place (SAT writes the identity as affine); put it onto the CT's grid again"
    return "resample it onto the CT's grid (nearest neighbour)"
