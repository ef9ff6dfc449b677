"""Reading a folder that holds the slices of a DICOM CT series."""

import os
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from rlaif.volumes.orientation import LPS_TO_RAS, Axes, canonical_axes, stored_axes
from rlaif.volumes.slice_stack import Slice, check_alike, stack_affine, stack_remarks
from rlaif.volumes.volume import Orientation, Volume, VolumeError, check_scan, check_shape

MAX_FILES = 20_000
MAX_FILE_BYTES = 256 * 2**20
# A series must hold this share of a folder's slices to be taken without asking.
DOMINANT_SHARE = 0.9
SAME_POSITION_MM = 0.01
_TAGS = [
    "Modality",
    "ImageType",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SOPInstanceUID",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "NumberOfFrames",
    "BitsStored",
    "HighBit",
    "PatientID",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "GantryDetectorTilt",
    "RescaleSlope",
    "RescaleIntercept",
]
# What pydicom raises for headers that are none; a tag's value is parsed when it is first asked for.
_DAMAGED = (
    InvalidDicomError,
    BytesLengthException,
    NotImplementedError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RecursionError,
    struct.error,
    zlib.error,
)
_UNDECODABLE = (*_DAMAGED, RuntimeError, OSError)


@dataclass(frozen=True)
class _Header:
    """A CT slice's file, not yet known to be of the series that is wanted."""

    path: Path
    tags: pydicom.Dataset
    series: str
    description: str
    patient: str


def is_dicom_file(path: Path) -> bool:
    """Whether the file bears DICOM's mark after its preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_series(folder: Path, orientation: Orientation = "canonical", series: str | None = None) -> Volume:
    """Read the CT series in a folder as a Volume in HU.

    The slices are the DICOM files in the folder itself, or, where it has none, those below it.
    Localizers and objects without an image plane are passed over, repeated slices are read once.
    Where several series lie there, `series` names one by its UID, or one must hold at least 90 % of
    the slices. `stored` orientation stacks the slices as they are, `[slice, row, column]`, along their
    normal. Raises VolumeError for no CT, several series, missing slices or uneven gaps, and slices
    that cannot be decoded.
    """
    slices, affine, left_out = _stack(folder, series)
    if orientation == "stored":
        i, j, k = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
        axes = stored_axes((i, j, k))
    else:
        axes = canonical_axes(affine)
    remarks = (*stack_remarks(slices), *axes.remarks, *left_out)
    return Volume(_decode_all(slices, axes), axes.spacing_mm, remarks)


def series_grid(folder: Path, series: str | None = None) -> tuple[tuple[int, int, int], npt.NDArray[np.float64]]:
    """The shape `(columns, rows, slices)` of the series that `read_series` takes, and the affine 4x4 to mm in RAS.

    Raises VolumeError as `read_series`, save for slices that cannot be decoded.
    """
    slices, affine, _ = _stack(folder, series)
    rows, columns = slices[0].shape
    return (columns, rows, len(slices)), affine


def _stack(folder: Path, series: str | None) -> tuple[list[Slice], npt.NDArray[np.float64], list[str]]:
    """The slices to read in their order, the affine of (column, row, slice) to mm in RAS, and what was left out."""
    headers, passed_over = _headers(folder)
    chosen, of_others = _one_series(headers, series)
    if len({one.patient for one in chosen}) > 1:
        raise VolumeError("holds slices of several patients under one series; export each patient's series again")
    slices = [_slice(one) for one in chosen]
    slices.sort(key=lambda one: one.position)
    check_alike(slices)
    check_shape((len(slices), *slices[0].shape))
    kept = _without_repeats(slices)
    check_scan((len(kept), *kept[0].shape))
    left_out = []
    if passed_over:
        left_out.append("passed over " + ", ".join(f"{count} {kind}" for kind, count in passed_over.most_common()))
    if of_others:
        left_out.append(f"slices of other series left out: {of_others}")
    if len(kept) < len(slices):
        left_out.append(f"repeated slices left out: {len(slices) - len(kept)}")
    # Pixels are [slice, row, column]: the column index runs along DICOM's first orientation vector.
    return kept, LPS_TO_RAS @ stack_affine(kept), left_out


def _files(folder: Path) -> tuple[list[Path], int]:
    """The folder's DICOM files, or those below it where it has none itself, and how many others lie beside them.

    Links out of the folder are not followed.
    """
    found: list[Path] = []
    others = 0
    root = folder.resolve()
    for parent, directories, names in os.walk(root, followlinks=False, onerror=_raise):
        directories.sort()
        for name in sorted(names):
            path = Path(parent, name)
            # What is left of a slice after a copy that broke off, at an end of the series, would not be missed.
            if path.is_symlink() and not path.exists():
                raise VolumeError(f"{name} is a link to nothing: copy the series again")
            if path.is_file() and path.stat().st_size == 0:
                raise VolumeError(f"{name} is an empty file: copy the series again, or remove it")
            if path.is_file() and path.resolve().is_relative_to(root) and is_dicom_file(path):
                found.append(path)
            else:
                others += 1
            if len(found) > MAX_FILES:
                raise VolumeError(f"holds more than {MAX_FILES} DICOM files; name the folder of one series")
        if found and Path(parent) == root:
            break
    return found, others


def _raise(error: OSError) -> None:
    raise error


def _headers(folder: Path) -> tuple[list[_Header], Counter[str]]:
    """The headers of all CT slices in the folder, and what else lies there."""
    files, unmarked = _files(folder)
    if not files:
        raise VolumeError("holds no DICOM files; name the folder of a DICOM series or a NIfTI file")
    slices: list[_Header] = []
    # A slice that lost its mark at an end of the series would not be missed otherwise.
    others: Counter[str] = Counter({"file without DICOM's mark": unmarked} if unmarked else {})
    for path in files:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise VolumeError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes, which no slice is")
        try:
            # Its whole file is inflated before anything of it can be looked at: a small file may fill the memory.
            if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                raise VolumeError(f"{path.name} is a deflated DICOM file, which is not read; export the series again")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            kind = _not_a_slice(header)
            if kind is None:
                series = str(header.get("SeriesInstanceUID", "") or "")
                description = str(header.get("SeriesDescription", "") or "no description")
                slices.append(_Header(path, header, series, description, str(header.get("PatientID", "") or "")))
            else:
                others[kind] += 1
        except _DAMAGED as error:
            if isinstance(error, VolumeError):
                raise
            raise VolumeError(f"{path.name} has a damaged DICOM header ({error}); export the series again") from error
    if not slices:
        counted = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
        raise VolumeError(f"holds no CT slices (found: {counted}); name the folder of a CT series")
    return slices, others


def _not_a_slice(header: pydicom.Dataset) -> str | None:
    """What the object is if it is not an axial, sagittal or coronal CT slice."""
    modality = str(header.get("Modality", "") or "object without modality")
    if modality != "CT":
        return modality
    if "LOCALIZER" in [str(part).upper() for part in header.get("ImageType", None) or []]:
        return "localizer"
    if int(header.get("NumberOfFrames", 1) or 1) > 1:
        return "multi-frame CT (convert it to NIfTI)"
    plane = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
    if any(header.get(name) is None for name in plane) or int(header.get("SamplesPerPixel", 1) or 1) != 1:
        return "CT object without an image plane"
    return None


def _slice(header: _Header) -> Slice:
    path, tags = header.path, header.tags
    try:
        if tags.get("RescaleSlope") is None or tags.get("RescaleIntercept") is None:
            raise VolumeError(f"{path.name} has no rescale slope and intercept, so its values are not HU")
        turn = [float(part) for part in tags.ImageOrientationPatient]
        origin = [float(part) for part in tags.ImagePositionPatient]
        spacing = [float(part) for part in tags.PixelSpacing]
        slope, intercept = float(tags.RescaleSlope), float(tags.RescaleIntercept)
        tilt = float(tags.get("GantryDetectorTilt") or 0.0)
        stored, high = tags.get("BitsStored"), tags.get("HighBit")
        # Decoders take the low bits, whatever this says.
        if stored is not None and high is not None and int(high) != int(stored) - 1:
            raise VolumeError(f"{path.name} keeps its {stored} bits at bit {high}, which is not read; export it again")
        shape = int(tags.Rows), int(tags.Columns)
        instance = str(tags.get("SOPInstanceUID", "") or "")
    except _DAMAGED as error:
        if isinstance(error, VolumeError):
            raise
        raise VolumeError(f"{path.name} has a damaged DICOM header ({error}); export the series again") from error
    if (len(turn), len(origin), len(spacing)) != (6, 3, 2):
        raise VolumeError(f"{path.name} has an incomplete image plane; export the series again")
    if not np.isfinite([*turn, *origin, *spacing, slope, intercept]).all():
        raise VolumeError(f"{path.name} has geometry or rescale values that are not finite; export the series again")
    along_columns, along_rows = np.array(turn[:3]), np.array(turn[3:6])
    if not np.allclose([along_columns @ along_columns, along_rows @ along_rows], 1.0, atol=1e-2) or (
        abs(along_columns @ along_rows) > 1e-2
    ):
        raise VolumeError(f"{path.name}: ImageOrientationPatient {turn} is no pair of perpendicular unit vectors")
    return Slice(
        path=path,
        instance=instance,
        shape=shape,
        pixel_spacing=(spacing[0], spacing[1]),
        along_columns=(turn[0], turn[1], turn[2]),
        along_rows=(turn[3], turn[4], turn[5]),
        origin=(origin[0], origin[1], origin[2]),
        slope=slope,
        intercept=intercept,
        tilt=tilt if np.isfinite(tilt) else 0.0,
    )


def _one_series(headers: list[_Header], wanted: str | None) -> tuple[list[_Header], int]:
    """The slices of the series that is wanted, or of the one that makes up nearly all; the count of the others."""
    counts = Counter(one.series for one in headers)
    described = {one.series: one.description for one in headers}
    listing = "; ".join(f"{uid or 'no UID'} ({described[uid]}, {count} slices)" for uid, count in counts.most_common(8))
    if wanted is not None and wanted not in counts:
        raise VolumeError(f"holds no CT series {wanted}; those that are there: {listing}")
    series, most = (wanted, counts[wanted]) if wanted is not None else counts.most_common(1)[0]
    if wanted is None and most < DOMINANT_SHARE * len(headers):
        raise VolumeError(
            f"holds {len(counts)} CT series: {listing}; name the one to use behind the path, as folder#UID"
        )
    return [one for one in headers if one.series == series], len(headers) - most


def _without_repeats(slices: list[Slice]) -> list[Slice]:
    """Sorted slices with copies of the same slice removed; different slices at one position are an error."""
    kept: list[Slice] = []
    for one in slices:
        if not kept or one.position - kept[-1].position > SAME_POSITION_MM:
            kept.append(one)
            continue
        copy = one.instance != "" and one.instance == kept[-1].instance
        if not copy and not np.array_equal(_decode(one), _decode(kept[-1])):
            raise VolumeError(
                f"two different slices lie at {one.position:.2f} mm ({kept[-1].path.name}, {one.path.name}): "
                "the folder mixes reconstructions or phases; put one of them into a folder of its own"
            )
    return kept


def _whole(one: Slice) -> bool:
    """Whether the slice's HU are whole numbers that int32 cannot fail to hold."""
    whole = one.slope.is_integer() and one.intercept.is_integer()
    return whole and abs(one.slope) <= 2**14 and abs(one.intercept) <= 2**29


def _decode(one: Slice) -> npt.NDArray[np.int32] | npt.NDArray[np.float32]:
    """The slice `[row, column]` in HU: int32 where slope and intercept are whole, else float32."""
    syntax = "unknown"
    try:
        dataset = pydicom.dcmread(one.path)
        syntax = dataset.file_meta.TransferSyntaxUID.name
        stored = dataset.pixel_array
    except _UNDECODABLE as error:
        raise VolumeError(
            f"{one.path.name}, of transfer syntax {syntax}, cannot be decoded ({error}); export the series again"
        ) from error
    if stored.shape != one.shape:
        raise VolumeError(f"{one.path.name} decodes to {stored.shape} where its header says {one.shape}")
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize > 2:
        raise VolumeError(f"{one.path.name} holds {stored.dtype} pixels where a CT slice has at most 16 bits")
    if _whole(one):
        return stored.astype(np.int32) * np.int32(one.slope) + np.int32(one.intercept)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = stored.astype(np.float32) * np.float32(one.slope) + np.float32(one.intercept)
    if not np.isfinite(scaled).all():
        raise VolumeError(f"{one.path.name} overflows when its slope and intercept are applied; export it again")
    return scaled


def _decode_all(slices: list[Slice], axes: Axes) -> npt.NDArray[np.int16] | npt.NDArray[np.float32]:
    """All slices in HU, each put where it belongs in the volume."""
    whole = all(_whole(one) for one in slices)
    rows, columns = slices[0].shape
    shape = axes.volume_shape((columns, rows, len(slices)))
    voxels: npt.NDArray[np.int16] | npt.NDArray[np.float32] = (
        np.empty(shape, np.int16) if whole else np.empty(shape, np.float32)
    )
    planes, limits = axes.as_stored(voxels), np.iinfo(np.int16)
    for index, one in enumerate(slices):
        # No tissue lies beyond int16: what does is padding outside the field of view.
        planes[index] = np.clip(_decode(one), limits.min, limits.max) if whole else _decode(one)
    return voxels
