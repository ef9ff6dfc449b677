"""A CT volume as everything after reading relies on it, and the reading of one from a file or folder."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from rlaif.storage import is_infrastructure

Orientation = Literal["canonical", "stored"]

# A tenth of no patient is denser than this, in HU: dense bone has 700.
DENSEST_TENTH = 600.0
MAX_AXIS = 8192
MAX_VOXELS = 2**29
MIN_SPACING_MM, MAX_SPACING_MM = 0.05, 50.0

_ARCHIVES = {
    b"\xfd7zXZ\x00": "an xz archive",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "a bzip2 archive",
    b"7z\xbc\xaf": "a 7z archive",
}
_META_IMAGE = re.compile(rb"\s*(ObjectType|NDims|Comment)\s*=")
_ACCEPTED = "accepted are NIfTI (.nii, .nii.gz), NRRD and MHA files, and the folder of a DICOM series"


class VolumeError(ValueError):
    """A CT that cannot be read or used: the message says what is wrong, where, and what to do."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT in canonical orientation, unless it was read as stored.

    `voxels` is `[depth, height, width]` in HU, int16 or float32 (int16 wherever the stored values
    allow it), C-contiguous. The index runs `[z, y, x]`: x grows to the patient's left, y to the
    posterior, z to the superior side (the directions of DICOM's LPS world).
    `spacing_mm` is the distance of neighbouring voxels in millimetres, `(z, y, x)`. `remarks` say
    what a person should know of a scan that can be used all the same, such as a tilted gantry.
    Raises VolumeError where a value is outside what a CT can be.
    """

    voxels: npt.NDArray[np.int16] | npt.NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels.dtype not in (np.int16, np.float32):
            raise VolumeError(f"voxels are {self.voxels.dtype}; a volume holds int16 or float32")
        check_shape(self.voxels.shape)
        check_spacing(self.spacing_mm)


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise VolumeError unless `shape` has three axes of a believable size."""
    if len(shape) != 3:
        raise VolumeError(f"shape {shape} has {len(shape)} axes where a CT has 3; give one volume for each file")
    if min(shape) < 1:
        raise VolumeError(f"shape {shape} is empty; the file holds no image")
    if max(shape) > MAX_AXIS or math.prod(shape) > MAX_VOXELS:
        raise VolumeError(f"shape {shape} is larger than the limit of {MAX_AXIS} an axis and {MAX_VOXELS} voxels")


def check_scan(shape: tuple[int, ...]) -> None:
    """Raise VolumeError unless a file of this shape holds a volume: more than a slice, and of a believable size."""
    check_shape(shape)
    if min(shape) < 2:
        raise VolumeError(f"shape {shape} is that of a single slice, which is no volume; give the whole scan")


def check_distances(spacing: tuple[float, ...]) -> None:
    """Raise VolumeError unless every distance, in whatever unit, is finite and above zero."""
    shown = ", ".join(f"{distance:g}" for distance in spacing)
    if not all(math.isfinite(distance) for distance in spacing):
        raise VolumeError(f"voxel spacing ({shown}) is not finite; the header is damaged: convert the scan again")
    if min(spacing) < 0.0:
        raise VolumeError(f"voxel spacing ({shown}) is negative, which no distance is; convert the scan again")
    if min(spacing) == 0.0:
        raise VolumeError(f"voxel spacing ({shown}) is zero along an axis; convert the scan again")


def check_spacing(spacing_mm: tuple[float, ...]) -> None:
    """Raise VolumeError unless every distance is between 0.05 and 50 mm."""
    check_distances(spacing_mm)
    if not all(MIN_SPACING_MM <= distance <= MAX_SPACING_MM for distance in spacing_mm):
        shown = ", ".join(f"{distance:g}" for distance in spacing_mm)
        raise VolumeError(
            f"voxel spacing ({shown}) mm is outside {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm; "
            "the header is wrong or its units are not millimetres"
        )


def check_hounsfield(volume: Volume) -> None:
    """Raise VolumeError where the voxels cannot be HU of a patient.

    Stored values without rescale slope and intercept have nothing below fat, values rescaled twice
    have nothing above lung: the first release of CT-RATE shows the one, and the other results when
    its metadata's slope and intercept are applied to the fixed release.
    """
    sample = volume.voxels[::2, ::4, ::4]
    low, high = np.percentile(sample, (1.0, 99.0))
    # The corners of a field of view are padded with one low value that was never measured and hides the rest.
    measured = sample[sample > sample.min()]
    if measured.size:
        lightest, dense = np.percentile(measured, (1.0, 90.0))
        low = lightest if dense > DENSEST_TENTH else low
    if low > -50.0:
        raise VolumeError(
            f"99 % of the voxels are above {low:.0f}, so they are not HU (air is -1000): "
            "apply the rescale slope and intercept when converting, or use the corrected release"
        )
    if high < -500.0:
        raise VolumeError(
            f"99 % of the voxels are below {high:.0f}, so they are not HU (soft tissue is about 40): "
            "the rescale intercept seems to have been applied twice"
        )


def read_volume(path: Path, *, orientation: Orientation = "canonical", series: str | None = None) -> Volume:
    """Read a NIfTI, NRRD or MHA file or the folder of a DICOM series, told apart by content, as a Volume.

    `canonical` orientation permutes and flips the axes, never resamples: an oblique scan takes its
    nearest axes. `stored` leaves the axes (i, j, k) of the file as they are, as `[k, j, i]`, for encoders
    such as CT-CLIP whose published code never looks at the orientation: left and right are then as the
    file has them, and a header without orientation is no error. A DICOM series is stacked along its
    normal, `[slice, row, column]`. `series` is the SeriesInstanceUID to take from a DICOM folder that holds
    several. Raises VolumeError, with the path, where nothing or no CT is there.
    """
    # The readers are imported here because pydicom and nibabel take longer to load than most reads.
    try:
        if path.is_dir():
            from rlaif.volumes.dicom import read_series

            return read_series(path, orientation, series)
        kind = file_kind(path)
        if series is not None:
            raise VolumeError(f"is one file, of which no series {series} can be taken; name the folder of the series")
        if kind == "nifti":
            from rlaif.volumes.nifti import read_nifti

            return read_nifti(path, orientation)
        if kind == "nrrd":
            from rlaif.volumes.nrrd import read_nrrd

            return read_nrrd(path, orientation)
        from rlaif.volumes.mha import read_mha

        return read_mha(path, orientation)
    except VolumeError as error:
        raise VolumeError(f"{path}: {error}") from error
    except OSError as error:
        # What says nothing of the file is for the caller to try again.
        if is_infrastructure(error):
            raise
        raise VolumeError(f"{path}: cannot be read: {error.strerror or error}") from error


def file_kind(path: Path) -> Literal["nifti", "nrrd", "mha"]:
    """What a file seems to be by its first bytes; VolumeError where that cannot be a volume."""
    if not path.is_file():
        raise VolumeError(f"does not exist; {_ACCEPTED}")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise VolumeError("is an empty file; copy or download it again")
    if head.startswith(b"NRRD"):
        return "nrrd"
    if _META_IMAGE.match(head):
        return "mha"
    for magic, archive in _ARCHIVES.items():
        if head.startswith(magic):
            raise VolumeError(f"is {archive}; unpack it and name the folder: {_ACCEPTED}")
    if head[257:262] == b"ustar":
        raise VolumeError(f"is a tar archive; unpack it and name the folder: {_ACCEPTED}")
    if head[128:132] == b"DICM":
        raise VolumeError(f"is one DICOM file; name the folder of its series: {_ACCEPTED}")
    return "nifti"
