"""Reading NRRD files whose voxels follow the header (teem.sourceforge.net/nrrd/format.html)."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlaif.volumes.hounsfield import read_planes
from rlaif.volumes.orientation import Axes, canonical_axes, stored_axes
from rlaif.volumes.stream import Compression, VoxelStream
from rlaif.volumes.text_header import MAX_HEADER_BYTES, axes_count, lengths, numbers, read_head
from rlaif.volumes.volume import Orientation, Volume, VolumeError, check_scan, check_spacing

_MAGIC = re.compile(rb"NRRD000[1-6]\r?\n")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_DETACHED = re.compile(rb"^[ \t]*data ?file[ \t]*:", re.IGNORECASE | re.MULTILINE)
# They say that voxels begin elsewhere, or that values were quantised.
_REFUSED = ("byte skip", "byteskip", "line skip", "lineskip", "old min", "oldmin", "old max", "oldmax")
_TYPES = {
    "i1": "signed char,int8,int8_t",
    "u1": "uchar,unsigned char,uint8,uint8_t",
    "i2": "short,short int,signed short,signed short int,int16,int16_t",
    "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
    "i4": "int,signed int,int32,int32_t",
    "u4": "uint,unsigned int,uint32,uint32_t",
    "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
    "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: code for code, names in _TYPES.items() for name in names.split(",")}
_COMPRESSIONS: dict[str, Compression | None] = {"raw": None, "gzip": "gzip", "gz": "gzip"}
_TO_RAS = {"RAS": (1.0, 1.0, 1.0), "LAS": (-1.0, 1.0, 1.0), "LPS": (-1.0, -1.0, 1.0)}
_SPATIAL_KINDS = {"domain", "space", "none", "???"}


def read_nrrd(path: Path, orientation: Orientation = "canonical") -> Volume:
    """Read a `.nrrd` file, whose voxels must be HU and stand in the file itself, raw or gzipped, as a Volume.

    Raises VolumeError for a truncated or damaged file, voxels in another file, a header that describes no
    three-dimensional scalar image, an unknown orientation (unless read as stored), or voxels that are not finite.
    """
    fields, start = _fields(read_head(path))
    shape = _shape(fields)
    if fields["encoding"].lower() not in _COMPRESSIONS:
        raise VolumeError(
            f"its encoding is {fields['encoding'][:20]!r}, and raw and gzip are read; convert it to NIfTI"
        )
    axes = _stored(fields) if orientation == "stored" else canonical_axes(_affine(fields))
    with VoxelStream(path, start, _COMPRESSIONS[fields["encoding"].lower()]) as stream:
        return read_planes(stream, shape, _dtype(fields), axes)


def nrrd_grid(path: Path) -> tuple[tuple[int, int, int], npt.NDArray[np.float64]]:
    """The shape of a file's voxels along `(i, j, k)`, and the affine 4x4 from there to mm in RAS, by its header alone.

    Raises VolumeError for a header that describes no three-dimensional image with orientation and origin.
    """
    fields, _ = _fields(read_head(path))
    return _shape(fields), _affine(fields, _origin(fields))


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """The header's fields by lower-case name, and the byte that the voxels begin at."""
    blank = _BLANK_LINE.search(head)
    header = head[: blank.start() if blank else len(head)]
    if _DETACHED.search(header):
        raise VolumeError("keeps its voxels in another file (data file); convert it to one .nrrd or .nii.gz file")
    magic = _MAGIC.match(header + b"\n")
    if not magic:
        raise VolumeError(f"bears the wrong magic {head[:8]!r} (NRRD0001 to NRRD0006); convert the file again")
    if not blank:
        raise VolumeError(f"has an NRRD header that does not end within {MAX_HEADER_BYTES} bytes: it is truncated")
    fields: dict[str, str] = {}
    for line in header[magic.end() :].decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        field = name.strip().lower()
        # Comments, and pairs of a key and a value (`key:=value`), are nobody's field.
        if line.startswith("#") or value.startswith("="):
            continue
        if field in fields:
            raise VolumeError(f"has {field[:40]!r} twice in its header: it is damaged; convert the file again")
        fields[field] = value.strip()
    for name in _REFUSED:
        if name in fields:
            raise VolumeError(f"has {name!r} in its header, which no plain CT has; convert it to NIfTI")
    for name in ("type", "dimension", "sizes", "encoding"):
        if name not in fields:
            raise VolumeError(f"has an NRRD header without {name}: it is damaged; convert the file again")
    return fields, blank.end()


def _shape(fields: dict[str, str]) -> tuple[int, int, int]:
    shape = lengths("sizes", fields["sizes"], axes_count("dimension", fields["dimension"]))
    check_scan(shape)
    kinds = fields.get("kinds", "").split()
    if not set(kinds[:3]) <= _SPATIAL_KINDS:
        raise VolumeError(f"its axes are of the kinds {' '.join(kinds)}, so it holds no plain CT; convert it to NIfTI")
    return shape[0], shape[1], shape[2]


def _dtype(fields: dict[str, str]) -> np.dtype:
    if fields["type"] not in _DTYPES:
        raise VolumeError(f"voxels are {fields['type'][:20]!r}, which no CT is; convert the file to int16 HU")
    dtype = np.dtype(_DTYPES[fields["type"]])
    endian = fields.get("endian", "" if dtype.itemsize > 1 else "little").lower()
    if endian not in ("little", "big"):
        raise VolumeError(f"its endian is {endian[:20]!r} and not little or big; convert the file again")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _check_units(text: str) -> None:
    units = set(re.findall(r'"([^"]*)"', text))
    if not units <= {"mm", "", "???"}:
        raise VolumeError(f"its space units are {text[:40]} and not mm; convert the file again")


def _directions(fields: dict[str, str]) -> npt.NDArray[np.float64]:
    """The steps along the file's three axes in mm, in its own space, as columns."""
    _check_units(fields.get("space units", ""))
    text = fields["space directions"]
    steps = [numbers("space directions", step, 3) for step in re.findall(r"\(([^()]*)\)", text)]
    # An axis that is `none` would have no length: what is behind the third may be.
    if len(steps) != 3 or not text.startswith("(") or not re.fullmatch(r"(\([^()]*\)\s*){3}(none\s*)?", text):
        raise VolumeError(f"its space directions {text[:60]!r} are not three vectors; convert the file again")
    directions = np.array(steps).T
    if np.isfinite(directions).all():
        check_spacing(tuple(float(length) for length in np.linalg.norm(directions, axis=0)))
    return directions


def _origin(fields: dict[str, str]) -> list[float]:
    """Where the first voxel lies in mm, in the file's own space."""
    text = fields.get("space origin", "")
    if not re.fullmatch(r"\([^()]*\)", text):
        raise VolumeError(f"the header gives no origin (space origin {text[:40]!r}), so its place is unknown")
    return numbers("space origin", text[1:-1], 3)


def _affine(fields: dict[str, str], origin: Sequence[float] = (0.0, 0.0, 0.0)) -> npt.NDArray[np.float64]:
    """The affine in mm, RAS; `origin` is that of `_origin`, which an orientation does not need."""
    space = fields.get("space", "")
    letters = space.upper() if "-" not in space else "".join(word[:1] for word in space.upper().split("-"))
    if letters not in _TO_RAS or "space directions" not in fields:
        raise VolumeError(
            f"the header gives no orientation (space {space[:40]!r}, "
            f"{'with' if 'space directions' in fields else 'without'} space directions), "
            "so left and right are unknown; convert the scan again from DICOM"
        )
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = _directions(fields), origin
    return np.diag([*_TO_RAS[letters], 1.0]) @ affine


def _stored(fields: dict[str, str]) -> Axes:
    if "space directions" in fields:
        i, j, k = (float(length) for length in np.linalg.norm(_directions(fields), axis=0))
    elif "spacings" in fields:
        _check_units(fields.get("units", ""))
        i, j, k = numbers("spacings", fields["spacings"], int(fields["dimension"]))[:3]
    else:
        raise VolumeError("the header gives no spacing (space directions or spacings); convert the scan again")
    check_spacing((i, j, k))
    return stored_axes((i, j, k))
