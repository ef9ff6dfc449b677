"""Reading NIfTI files: header first, then exactly the bytes that the header announces."""

import io
import math
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.orientations import aff2axcodes
from nibabel.spatialimages import HeaderDataError

from rlaif.volumes.hounsfield import read_planes
from rlaif.volumes.orientation import Axes, canonical_axes, stored_axes
from rlaif.volumes.stream import GZIP_MAGIC, VoxelStream
from rlaif.volumes.volume import Orientation, Volume, VolumeError, check_distances, check_scan, check_spacing

_HEADERS: dict[int, type[nibabel.Nifti1Header]] = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_BYTE_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_MAX_DATA_OFFSET = 16 * 2**20
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


def read_nifti(path: Path, orientation: Orientation = "canonical") -> Volume:
    """Read a `.nii` or `.nii.gz` file as a Volume in HU.

    Integers stay int16 where their HU fit, everything else becomes float32. Never more bytes are
    decompressed than the header announces, and the header only up to the limits of a Volume.
    Raises VolumeError for a truncated or damaged file, a header that is not NIfTI or describes no
    three-dimensional image, an unknown orientation (unless read as stored), or voxels that are not finite.
    """
    with _opened(path) as stream:
        header, header_bytes = _read_header(stream)
        shape = _shape(header)
        if orientation == "canonical":
            _check_forms_agree(header)
        axes = _stored(header) if orientation == "stored" else canonical_axes(_affine(header))
        slope, intercept = _rescale(header)
        offset = int(header["vox_offset"]) if np.isfinite(header["vox_offset"]) else -1
        if not header_bytes <= offset <= _MAX_DATA_OFFSET:
            raise VolumeError(
                f"voxel data begin at byte {offset}, which no single-file NIfTI does; convert the file again"
            )
        stream.read(offset - header_bytes)
        return read_planes(stream, shape, header.get_data_dtype(), axes, slope, intercept)


def nifti_grid(path: Path) -> tuple[tuple[int, int, int], npt.NDArray[np.float64]]:
    """The shape of a file's voxels along `(i, j, k)`, and the affine 4x4 from there to mm in RAS, by its header alone.

    Raises VolumeError for a header that `read_nifti` refuses, and for one without an orientation.
    """
    with _opened(path) as stream:
        header, _ = _read_header(stream)
    _check_forms_agree(header)
    return _shape(header), _affine(header)


def _opened(path: Path) -> VoxelStream:
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP_MAGIC
    return VoxelStream(path, compression="gzip" if compressed else None)


def _read_header(stream: VoxelStream) -> tuple[nibabel.Nifti1Header, int]:
    """The header and its size in bytes."""
    size_field = stream.read(4)
    for order in _BYTE_ORDERS:
        size = int.from_bytes(size_field, order)
        if size in _HEADERS:
            break
    else:
        raise VolumeError("is not a NIfTI file by its first bytes; accepted are also NRRD, MHA and DICOM folders")
    block = size_field + stream.read(size - 4)
    as_written = _HEADERS[size](block, check=False)
    magic = bytes(as_written["magic"])
    if magic[:3] in (b"ni1", b"ni2"):
        raise VolumeError("is the header of a .hdr/.img pair; convert it to one .nii.gz file")
    if magic[:3] not in (b"n+1", b"n+2"):
        raise VolumeError(f"bears the wrong magic {magic[:4]!r} (NIfTI: n+1), as Analyze files do; convert it again")
    # Before nibabel mends them silently.
    check_distances(tuple(float(distance) for distance in as_written["pixdim"][1:4]))
    try:
        return _HEADERS[size].from_fileobj(io.BytesIO(block), check=True), size
    except (HeaderDataError, ValueError) as error:
        raise VolumeError(f"the NIfTI header is damaged ({error}); convert the file again") from error


def _shape(header: nibabel.Nifti1Header) -> tuple[int, int, int]:
    shape = tuple(int(length) for length in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    check_scan(shape)
    return shape[0], shape[1], shape[2]


def _has_orientation(header: nibabel.Nifti1Header) -> bool:
    return int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0


def _affine(header: nibabel.Nifti1Header) -> npt.NDArray[np.float64]:
    """The affine in mm, RAS; VolumeError where the header leaves left and right open."""
    if not _has_orientation(header):
        raise VolumeError(
            "the header gives no orientation (sform_code and qform_code are 0), so left and right are unknown; "
            "convert the scan again from DICOM, or set the affine"
        )
    try:
        affine = np.array(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise VolumeError(f"the header's orientation is damaged ({error}); convert the file again") from error
    affine[:3] *= _unit_mm(header)
    if np.isfinite(affine).all():
        check_spacing(tuple(float(length) for length in np.linalg.norm(affine[:3, :3], axis=0)))
    return affine


def _check_forms_agree(header: nibabel.Nifti1Header) -> None:
    """Raise VolumeError where sform and qform name other sides: which of them is right, nobody can know."""
    if int(header["sform_code"]) <= 0 or int(header["qform_code"]) <= 0:
        return
    try:
        forms = header.get_sform(), header.get_qform()
    except (HeaderDataError, ValueError):
        return
    if not all(np.isfinite(form).all() and abs(np.linalg.det(form[:3, :3])) > 1e-9 for form in forms):
        return
    by_sform, by_qform = ("".join(str(code) for code in aff2axcodes(form)) for form in forms)
    if by_sform != by_qform:
        raise VolumeError(
            f"sform and qform contradict each other ({by_sform}, {by_qform}), so left and right are unknown; "
            "convert the scan again from DICOM, or remove the wrong one"
        )


def _stored(header: nibabel.Nifti1Header) -> Axes:
    """The file's own axes: their spacing is the affine's where there is one, as in canonical orientation."""
    if _has_orientation(header):
        lengths = np.linalg.norm(_affine(header)[:3, :3], axis=0)
    else:
        lengths = np.array(header["pixdim"][1:4], dtype=np.float64) * _unit_mm(header)
    i, j, k = (float(length) for length in lengths)
    check_spacing((i, j, k))
    return stored_axes((i, j, k))


def _unit_mm(header: nibabel.Nifti1Header) -> float:
    return _UNIT_MM.get(int(header["xyzt_units"]) & 7, 1.0)


def _rescale(header: nibabel.Nifti1Header) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 (the standard) or NaN (nibabel) stands for values that are HU as they are."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0.0 or math.isnan(slope):
        return 1.0, 0.0
    if math.isinf(slope):
        raise VolumeError("the header's scl_slope is infinite; convert the file again")
    if not math.isfinite(intercept):
        raise VolumeError("the header's scl_inter is not finite; convert the file again")
    return slope, intercept
