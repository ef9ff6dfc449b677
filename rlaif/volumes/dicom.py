"""Reading a folder that holds the slices of a DICOM CT series."""

import os
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError

from rlaif.volumes.orientation import LPS_TO_RAS, canonical
from rlaif.volumes.volume import Volume, VolumeError, check_shape, check_spacing

MAX_FILES = 20_000
MAX_FILE_BYTES = 256 * 2**20
# A series must hold this share of a folder's slices to be taken without asking.
DOMINANT_SHARE = 0.9
# Positions are rounded to 0.1 mm by some scanners, so gaps of thin slices differ by up to a fifth.
GAP_TOLERANCE = 0.25
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
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "RescaleSlope",
    "RescaleIntercept",
]
_UNDECODABLE = (RuntimeError, ValueError, AttributeError, NotImplementedError, KeyError, EOFError, OSError)


@dataclass(frozen=True)
class _Slice:
    """What a slice's header says; vectors are in mm, in LPS directions."""

    path: Path
    series: str
    description: str
    instance: str
    shape: tuple[int, int]
    pixel_spacing: tuple[float, float]
    along_columns: tuple[float, float, float]
    along_rows: tuple[float, float, float]
    origin: tuple[float, float, float]
    slope: float
    intercept: float

    @property
    def position(self) -> float:
        """The distance from the scanner's origin along the slice normal, in mm."""
        return float(np.dot(np.cross(self.along_columns, self.along_rows), self.origin))


def is_dicom_file(path: Path) -> bool:
    """Whether the file bears DICOM's mark after its preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_series(folder: Path) -> Volume:
    """Read the CT series in a folder as a canonical Volume.

    The slices are the DICOM files in the folder itself, or, where it has none, those below it.
    Localizers and objects without an image plane are passed over, repeated slices are read once.
    Where several series lie there, one must hold at least 90 % of the slices. Raises VolumeError
    for no CT, several series, missing slices or uneven gaps, and slices that cannot be decoded.
    """
    slices = _one_series(_headers(folder))
    slices.sort(key=lambda one: one.position)
    first = slices[0]
    for one in slices:
        if one.shape != first.shape or not np.allclose(one.pixel_spacing, first.pixel_spacing, rtol=1e-3):
            raise VolumeError(f"slices differ in size or pixel spacing: {first.path.name} and {one.path.name}")
        turned = np.abs(np.subtract(one.along_columns + one.along_rows, first.along_columns + first.along_rows))
        if turned.max() > 1e-2:
            raise VolumeError(f"slices differ in orientation: {first.path.name} and {one.path.name}")
    check_shape((len(slices), *first.shape))
    slices = _without_repeats(slices)
    affine = _affine(slices)
    voxels = _decode_all(slices)
    # Pixels are [slice, row, column]: the column index runs along DICOM's first orientation vector.
    oriented, spacing_mm = canonical(voxels.transpose(2, 1, 0), LPS_TO_RAS @ affine)
    return Volume(np.ascontiguousarray(oriented), (spacing_mm[0], spacing_mm[1], spacing_mm[2]))


def _files(folder: Path) -> list[Path]:
    """The folder's DICOM files, or those below it where it has none itself; links out of it are not followed."""
    found: list[Path] = []
    root = folder.resolve()
    for parent, directories, names in os.walk(root, followlinks=False):
        directories.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and path.resolve().is_relative_to(root) and is_dicom_file(path):
                found.append(path)
            if len(found) > MAX_FILES:
                raise VolumeError(f"holds more than {MAX_FILES} DICOM files; name the folder of one series")
        if found and Path(parent) == root:
            break
    return found


def _headers(folder: Path) -> list[_Slice]:
    """The headers of all CT slices in the folder."""
    files = _files(folder)
    if not files:
        raise VolumeError("holds no DICOM files; name the folder of a DICOM series or a NIfTI file")
    slices: list[_Slice] = []
    others: Counter[str] = Counter()
    for path in files:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise VolumeError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes, which no slice is")
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            kind = _not_a_slice(header)
            if kind is None:
                slices.append(_slice(path, header))
            else:
                others[kind] += 1
        except (InvalidDicomError, ValueError, TypeError, AttributeError, IndexError, EOFError) as error:
            if isinstance(error, VolumeError):
                raise
            raise VolumeError(f"{path.name} has a damaged DICOM header ({error}); export the series again") from error
    if not slices:
        counted = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
        raise VolumeError(f"holds no CT slices (found: {counted}); name the folder of a CT series")
    return slices


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


def _slice(path: Path, header: pydicom.Dataset) -> _Slice:
    if header.get("RescaleSlope") is None or header.get("RescaleIntercept") is None:
        raise VolumeError(f"{path.name} has no rescale slope and intercept, so its values are not HU")
    turn = [float(part) for part in header.ImageOrientationPatient]
    origin = [float(part) for part in header.ImagePositionPatient]
    spacing = [float(part) for part in header.PixelSpacing]
    slope, intercept = float(header.RescaleSlope), float(header.RescaleIntercept)
    if not np.isfinite([*turn, *origin, *spacing, slope, intercept]).all():
        raise VolumeError(f"{path.name} has geometry or rescale values that are not finite; export the series again")
    along_columns, along_rows = np.array(turn[:3]), np.array(turn[3:6])
    if not np.allclose([along_columns @ along_columns, along_rows @ along_rows], 1.0, atol=1e-2) or (
        abs(along_columns @ along_rows) > 1e-2
    ):
        raise VolumeError(f"{path.name}: ImageOrientationPatient {turn} is no pair of perpendicular unit vectors")
    return _Slice(
        path=path,
        series=str(header.get("SeriesInstanceUID", "") or ""),
        description=str(header.get("SeriesDescription", "") or ""),
        instance=str(header.get("SOPInstanceUID", "") or ""),
        shape=(int(header.Rows), int(header.Columns)),
        pixel_spacing=(spacing[0], spacing[1]),
        along_columns=(turn[0], turn[1], turn[2]),
        along_rows=(turn[3], turn[4], turn[5]),
        origin=(origin[0], origin[1], origin[2]),
        slope=slope,
        intercept=intercept,
    )


def _one_series(slices: list[_Slice]) -> list[_Slice]:
    """The slices of the series that makes up nearly all of the folder."""
    counts = Counter(one.series for one in slices)
    (series, most), *_ = counts.most_common(1)
    if most < DOMINANT_SHARE * len(slices):
        described = {one.series: one.description for one in slices}
        listing = "; ".join(
            f"{uid or 'no UID'} ({described[uid] or 'no description'}, {count} slices)"
            for uid, count in counts.most_common(8)
        )
        raise VolumeError(f"holds {len(counts)} CT series: {listing}; put the one to use into a folder of its own")
    return [one for one in slices if one.series == series]


def _without_repeats(slices: list[_Slice]) -> list[_Slice]:
    """Sorted slices with copies of the same slice removed; different slices at one position are an error."""
    kept: list[_Slice] = []
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
    if len(kept) < 2:
        raise VolumeError("holds a single slice, which is no volume")
    return kept


def _affine(slices: list[_Slice]) -> npt.NDArray[np.float64]:
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
    affine[:3, 2] = np.cross(first.along_columns, first.along_rows) * distance
    affine[:3, 3] = first.origin
    return affine


def _decode(one: _Slice) -> npt.NDArray[np.int32] | npt.NDArray[np.float32]:
    """The slice `[row, column]` in HU: int32 where slope and intercept are whole, else float32."""
    try:
        stored = pydicom.dcmread(one.path).pixel_array
    except _UNDECODABLE as error:
        raise VolumeError(f"{one.path.name} cannot be decoded ({error}); export the series again") from error
    if stored.shape != one.shape:
        raise VolumeError(f"{one.path.name} decodes to {stored.shape} where its header says {one.shape}")
    if one.slope.is_integer() and one.intercept.is_integer():
        return stored.astype(np.int32) * np.int32(one.slope) + np.int32(one.intercept)
    return stored.astype(np.float32) * np.float32(one.slope) + np.float32(one.intercept)


def _decode_all(slices: list[_Slice]) -> npt.NDArray[np.int16] | npt.NDArray[np.float32]:
    """All slices as `[slice, row, column]` in HU."""
    whole = all(one.slope.is_integer() and one.intercept.is_integer() for one in slices)
    shape = (len(slices), *slices[0].shape)
    if whole:
        limits = np.iinfo(np.int16)
        integers = np.empty(shape, dtype=np.int16)
        for index, one in enumerate(slices):
            # No tissue lies beyond int16: what does is padding outside the field of view.
            integers[index] = np.clip(_decode(one), limits.min, limits.max)
        return integers
    reals = np.empty(shape, dtype=np.float32)
    for index, one in enumerate(slices):
        reals[index] = _decode(one)
    return reals
