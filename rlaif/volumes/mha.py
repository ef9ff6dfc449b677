"""Reading MetaImage files with header and voxels in one (.mha), as ITK writes them."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlaif.volumes.hounsfield import read_planes
from rlaif.volumes.orientation import LPS_TO_RAS, Axes, canonical_axes, stored_axes
from rlaif.volumes.stream import GZIP_MAGIC, Compression, VoxelStream
from rlaif.volumes.text_header import MAX_HEADER_BYTES, axes_count, lengths, numbers, read_head
from rlaif.volumes.volume import Orientation, Volume, VolumeError, check_scan, check_spacing

_LAST_FIELD = re.compile(rb"^ElementDataFile[ \t]*=[ \t]*([^\r\n]*)\r?\n", re.MULTILINE)
# MET_LONG is not among them: its size depends on the machine that wrote it.
_DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_PLAIN = {
    "ObjectType": ("Image",),
    "ElementNumberOfChannels": ("1",),
    "HeaderSize": ("0",),
    "ElementToIntensityFunctionSlope": ("1", "1.0"),
    "ElementToIntensityFunctionOffset": ("0", "0.0", "-0"),
    "DistanceUnits": ("mm", "?"),
}


def read_mha(path: Path, orientation: Orientation = "canonical") -> Volume:
    """Read a `.mha` file, whose voxels must be HU and stand in the file itself, raw or compressed, as a Volume.

    Raises VolumeError for a truncated or damaged file, voxels in another file, a header that describes no
    three-dimensional scalar image, an unknown orientation (unless read as stored), or voxels that are not finite.
    """
    head = read_head(path)
    fields, start = _fields(head)
    shape = _shape(fields)
    if fields["ElementType"] not in _DTYPES:
        raise VolumeError(f"voxels are {fields['ElementType'][:20]}, which no CT is; convert the file to int16 HU")
    big = _true(fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")))
    dtype = np.dtype(_DTYPES[fields["ElementType"]]).newbyteorder(">" if big else "<")
    compression: Compression | None = None
    if _true(fields.get("CompressedData", "False")):
        compression = "gzip" if head[start : start + 2] == GZIP_MAGIC else "zlib"
    axes = _stored(fields) if orientation == "stored" else canonical_axes(_affine(fields))
    with VoxelStream(path, start, compression) as stream:
        return read_planes(stream, shape, dtype, axes)


def mha_grid(path: Path) -> tuple[tuple[int, int, int], npt.NDArray[np.float64]]:
    """The shape of a file's voxels along `(i, j, k)`, and the affine 4x4 from there to mm in RAS, by its header alone.

    Raises VolumeError for a header that describes no three-dimensional image with orientation and origin.
    """
    fields, _ = _fields(read_head(path))
    return _shape(fields), _affine(fields, _origin(fields))


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """The header's fields, and the byte that the voxels begin at."""
    last = _LAST_FIELD.search(head)
    if not last:
        raise VolumeError(f"has an MHA header that does not end within {MAX_HEADER_BYTES} bytes: it is truncated")
    if last[1].strip().upper() != b"LOCAL":
        raise VolumeError("keeps its voxels in another file (ElementDataFile); convert it to one .mha or .nii.gz file")
    fields: dict[str, str] = {}
    for line in head[: last.start()].decode("utf-8", "replace").splitlines():
        name, _, value = line.partition("=")
        fields[name.strip()] = value.strip()
    for name in ("NDims", "DimSize", "ElementType"):
        if name not in fields:
            raise VolumeError(f"has an MHA header without {name}: it is damaged; convert the file again")
    for name, accepted in _PLAIN.items():
        if fields.get(name, accepted[0]) not in accepted:
            raise VolumeError(f"its {name} is {fields[name][:20]!r}, which no plain CT has; convert it to NIfTI")
    if not _true(fields.get("BinaryData", "False")):
        raise VolumeError("holds its voxels as text (BinaryData is not True); convert it to NIfTI")
    return fields, last.end()


def _shape(fields: dict[str, str]) -> tuple[int, int, int]:
    shape = lengths("DimSize", fields["DimSize"], axes_count("NDims", fields["NDims"]))
    check_scan(shape)
    return shape[0], shape[1], shape[2]


def _true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def _spacing(fields: dict[str, str]) -> tuple[float, float, float]:
    text = fields.get("ElementSpacing", fields.get("ElementSize"))
    if text is None:
        raise VolumeError("the header gives no spacing (ElementSpacing); convert the scan again")
    i, j, k = numbers("ElementSpacing", text, int(fields["NDims"]))[:3]
    check_spacing((i, j, k))
    return i, j, k


def _stored(fields: dict[str, str]) -> Axes:
    return stored_axes(_spacing(fields))


def _origin(fields: dict[str, str]) -> list[float]:
    """Where the first voxel lies in mm, in LPS; of several names, the one that ITK takes."""
    text = next((fields[name] for name in ("Origin", "Offset", "Position") if name in fields), None)
    if text is None:
        raise VolumeError("the header gives no origin (Offset), so its place is unknown")
    return numbers("Offset", text, int(fields["NDims"]))[:3]


def _affine(fields: dict[str, str], origin: Sequence[float] = (0.0, 0.0, 0.0)) -> npt.NDArray[np.float64]:
    """The affine in mm, RAS: the file gives the direction of one axis after the other, in LPS.

    `origin` is that of `_origin`, which an orientation does not need.
    """
    text = next((fields[name] for name in ("TransformMatrix", "Rotation", "Orientation") if name in fields), None)
    if text is None:
        raise VolumeError(
            "the header gives no orientation (TransformMatrix), so left and right are unknown; "
            "convert the scan again from DICOM"
        )
    count = int(fields["NDims"])
    directions = np.array(numbers("TransformMatrix", text, count**2)).reshape(count, count)[:3, :3].T
    if np.isfinite(directions).all() and not np.allclose(np.linalg.norm(directions, axis=0), 1.0, atol=1e-2):
        raise VolumeError(f"its TransformMatrix {text[:60]!r} holds no unit vectors; convert the scan again")
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions * _spacing(fields), origin
    return LPS_TO_RAS @ affine
