"""Reading NIfTI files: header first, then exactly the bytes that the header announces."""

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import Any, Literal, cast

import nibabel
import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib
from nibabel.spatialimages import HeaderDataError

from rlaif.volumes.orientation import canonical
from rlaif.volumes.volume import Volume, VolumeError, check_shape, check_spacing

_GZIP_MAGIC = b"\x1f\x8b"
_HEADERS: dict[int, type[nibabel.Nifti1Header]] = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_BYTE_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_MAX_DATA_OFFSET = 16 * 2**20
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_DAMAGED = (EOFError, zlib.error, cast(type[Exception], isal_zlib.error), gzip.BadGzipFile)


def read_nifti(path: Path) -> Volume:
    """Read a `.nii` or `.nii.gz` file as a canonical Volume.

    Integers stay int16 where their HU fit, everything else becomes float32. Never more bytes are
    decompressed than the header announces, and the header only up to the limits of a Volume.
    Raises VolumeError for a truncated or damaged file, a header that is not NIfTI or describes no
    three-dimensional image, an unknown orientation, or voxels that are not finite.
    """
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        try:
            if not compressed:
                return _read_stream(file)
            with igzip.IGzipFile(fileobj=file, mode="rb") as stream:
                return _read_stream(stream)
        except _DAMAGED as error:
            raise VolumeError(f"the gzip stream is truncated or damaged ({error}); copy the file again") from error


def _read_stream(stream: io.BufferedIOBase) -> Volume:
    header, header_bytes = _read_header(stream)
    shape = _shape(header)
    affine = _affine(header)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise VolumeError(f"voxels are {dtype}, which no CT is; convert the file to int16 HU")
    offset = int(header["vox_offset"]) if np.isfinite(header["vox_offset"]) else -1
    if not header_bytes <= offset <= _MAX_DATA_OFFSET:
        raise VolumeError(f"voxel data begin at byte {offset}, which no single-file NIfTI does; convert the file again")
    _read_exactly(stream, offset - header_bytes)
    stored = np.frombuffer(_read_exactly(stream, math.prod(shape) * dtype.itemsize), dtype=dtype)
    # The checksum of a gzip stream is compared when its end is read.
    stream.read(1)
    hounsfield = _hounsfield(stored, float(header["scl_slope"]), float(header["scl_inter"]))
    oriented, spacing_mm = canonical(hounsfield.reshape(shape, order="F"), affine)
    return Volume(np.ascontiguousarray(oriented), (spacing_mm[0], spacing_mm[1], spacing_mm[2]))


def _read_exactly(stream: io.BufferedIOBase, count: int) -> bytearray:
    """The next `count` bytes; VolumeError where the stream ends before."""
    buffer = bytearray(count)
    view, filled = memoryview(buffer), 0
    while filled < count:
        got = stream.readinto(view[filled:])
        if not got:
            raise VolumeError(f"ends after {filled} of {count} expected bytes: it is truncated; copy the file again")
        filled += got
    return buffer


def _read_header(stream: io.BufferedIOBase) -> tuple[nibabel.Nifti1Header, int]:
    """The header and its size in bytes."""
    size_field = bytes(_read_exactly(stream, 4))
    for order in _BYTE_ORDERS:
        size = int.from_bytes(size_field, order)
        if size in _HEADERS:
            block = size_field + bytes(_read_exactly(stream, size - 4))
            try:
                return _HEADERS[size].from_fileobj(io.BytesIO(block), check=True), size
            except (HeaderDataError, ValueError) as error:
                raise VolumeError(f"the NIfTI header is damaged ({error}); convert the file again") from error
    raise VolumeError("is not a NIfTI file; accepted are .nii, .nii.gz and the folder of a DICOM series")


def _shape(header: nibabel.Nifti1Header) -> tuple[int, int, int]:
    shape = tuple(int(length) for length in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    check_shape(shape)
    return shape[0], shape[1], shape[2]


def _affine(header: nibabel.Nifti1Header) -> npt.NDArray[np.float64]:
    """The affine in mm, RAS; VolumeError where the header leaves left and right open."""
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        raise VolumeError(
            "the header gives no orientation (sform_code and qform_code are 0), so left and right are unknown; "
            "convert the scan again from DICOM, or set the affine"
        )
    try:
        affine = np.array(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise VolumeError(f"the header's orientation is damaged ({error}); convert the file again") from error
    affine[:3] *= _UNIT_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    if np.isfinite(affine).all():
        check_spacing(tuple(float(length) for length in np.linalg.norm(affine[:3, :3], axis=0)))
    return affine


def _hounsfield(stored: npt.NDArray[Any], slope: float, intercept: float) -> npt.NDArray[Any]:
    """Stored values as HU, int16 where that loses nothing and float32 otherwise."""
    if not math.isfinite(slope) or slope == 0.0:
        slope, intercept = 1.0, 0.0
    if not math.isfinite(intercept):
        raise VolumeError("the header's scl_inter is not finite; convert the file again")
    low, high = float(stored.min()), float(stored.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise VolumeError("holds voxels that are not finite (NaN or infinity); convert the scan again")
    limits = np.iinfo(np.int16)
    whole = stored.dtype.kind in "iu" and slope == 1.0 and intercept.is_integer()
    if whole and limits.min <= low + intercept and high + intercept <= limits.max and abs(intercept) <= limits.max:
        narrow = stored.astype(np.int16, copy=False)  # uint16 may wrap here; adding the intercept wraps it back
        return narrow + np.int16(intercept) if intercept else narrow
    scaled = stored.astype(np.float32)
    if slope != 1.0:
        scaled *= np.float32(slope)
    if intercept:
        scaled += np.float32(intercept)
    if not (np.isfinite(scaled.min()) and np.isfinite(scaled.max())):
        raise VolumeError("voxels overflow when the header's slope and intercept are applied; convert the scan again")
    return scaled
