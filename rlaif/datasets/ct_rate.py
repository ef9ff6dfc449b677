"""The adapter for the folder layout of CT-RATE."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.settings import CtRateSettings
from rlaif.datasets.study_table import DatasetError, StudyTable, stem_of
from rlaif.datasets.volume_lookup import Described, VolumeFiles, read_described
from rlaif.records import Split, Study
from rlaif.reports.findings import CT_RATE_LABELS
from rlaif.storage import file_name

# {split}_{patient}_{scan}_{reconstruction}
VOLUME_NAME = re.compile(r"((train|valid)_[0-9A-Za-z]+)_([A-Za-z]+)_([0-9]+)")
_OFFICIAL: dict[str, Split] = {"train": "sft", "valid": "heldout"}
_BASES = ("dataset/", "")
_REPORTS = {"train": "train_reports.csv", "valid": "validation_reports.csv"}
_METADATA = {"train": "train_metadata.csv", "valid": "validation_metadata.csv"}
_LABELS = {
    "train": ("train_predicted_labels.csv", "train_labels.csv"),
    "valid": ("valid_predicted_labels.csv", "validation_predicted_labels.csv", "valid_labels.csv"),
}


@dataclass(frozen=True)
class _Stated:
    """What the metadata table says of a volume of the original release: to HU, and spacing in mm (z, y, x)."""

    rescale: tuple[float, float]
    spacing_mm: tuple[float, float, float]


def read_studies(settings: CtRateSettings, source: str = "ct_rate") -> StudyTable:
    """Read the studies of a folder in CT-RATE's layout; each reconstruction with a report row is one.

    Volumes lie under `{train,valid}_fixed/` or, where that is not there, `{train,valid}/`, tables under
    `radiology_text_reports/`, `multi_abnormality_labels/` and `metadata/`; each of these may lie in the folder itself
    or in its `dataset/`, and the tables beside them. The patient is the first two parts of the volume's name
    (`train_1`). The original release holds stored values: its rescale and spacing come from the metadata tables. Rows
    without a usable name or volume, and volumes without a row, are quarantined. Raises DatasetError where no report
    table is there, or one lacks a column.
    """
    folder = DataFolder(settings.path)
    tables = {
        side: table for side in _OFFICIAL if (table := find_table(folder, "radiology_text_reports", (_REPORTS[side],)))
    }
    if not tables:
        raise DatasetError(
            f"{folder} holds no CT-RATE report table; expected radiology_text_reports/{_REPORTS['train']} or "
            f"{_REPORTS['valid']} there or in its folder dataset"
        )
    rows = (row for side, table in tables.items() for row in _described(settings, folder, side, table, source))
    places = [place for side in tables for place in volume_folders(folder, side, settings.release)]
    names = " and ".join(map(file_name, tables.values()))
    order = _number if settings.order == "number" else None
    return read_described(rows, VolumeFiles(folder, places), settings, names, official=True, order=order)


def find_table(folder: DataFolder, subfolder: str, names: tuple[str, ...]) -> str | None:
    """The first table of the names that is there, in its folder or beside it, in the data folder or its `dataset`."""
    for base in (f"dataset/{subfolder}/", f"{subfolder}/", *_BASES):
        for name in names:
            if folder.is_file(base + name):
                return base + name
    return None


def volume_folders(folder: DataFolder, side: str, release: Literal["fixed", "original"]) -> list[str]:
    """Where a side's volumes of a release may lie: the corrected one (`_fixed`) is mixed with no other."""
    corrected = [f"{base}{side}_fixed" for base in _BASES]
    if release == "fixed" and any(map(folder.is_folder, corrected)):
        return corrected
    return [f"{base}{side}" for base in _BASES]


def _described(settings: CtRateSettings, folder: DataFolder, side: str, table: str, source: str) -> Iterator[Described]:
    columns = settings.columns
    labels = read_labels(folder, side)
    stated = _read_metadata(settings, folder, side) if settings.release == "original" else None
    for line, row in read_rows(folder, table, (columns.volume, columns.findings, columns.impression)):
        name = row[columns.volume].strip()
        study_id, volume, problem = stem_of(name), PurePosixPath(name).name, None
        match = VOLUME_NAME.fullmatch(study_id)
        said = None if stated is None else stated.get(study_id)
        if match is None or match[2] != side:
            volume, problem = "", f"{name[:80]!r} is no volume name of the form {side}_1_a_1.nii.gz"
        elif stated is not None and said is None:
            problem = "the metadata table gives no usable rescale and spacing for this volume of the original release"
        study = Study(
            study_id=study_id,
            patient_id="" if match is None else match[1],
            source=source,
            split=_OFFICIAL[side],
            findings=text_or_none(row[columns.findings]),
            impression=text_or_none(row[columns.impression]),
            labels=labels.get(study_id),
            rescale=None if said is None else said.rescale,
            spacing_mm=None if said is None else said.spacing_mm,
        )
        yield Described(study, f"{file_name(table)}, line {line}", volume, problem)


def _read_metadata(settings: CtRateSettings, folder: DataFolder, side: str) -> dict[str, _Stated]:
    """What the metadata table says of each volume; rows that cannot be used are left out."""
    columns = settings.columns
    table = find_table(folder, "metadata", (_METADATA[side],))
    if table is None:
        raise DatasetError(
            f"{folder} holds no metadata/{_METADATA[side]}, which the original release needs for its rescale and "
            "spacing; download it, or use the fixed release (data.release=fixed)"
        )
    needed = (columns.volume, columns.slope, columns.intercept, columns.xy_spacing, columns.z_spacing)
    stated = {}
    for _, row in read_rows(folder, table, needed):
        try:
            slope, intercept, z = (float(row[name]) for name in (columns.slope, columns.intercept, columns.z_spacing))
            # XYSpacing is text such as "[0.75, 0.75]".
            y, x = (float(part) for part in row[columns.xy_spacing].strip(" []()").split(","))
        except ValueError:
            continue
        if all(math.isfinite(value) for value in (slope, intercept, z, y, x)) and slope != 0 and min(z, y, x) > 0:
            stated[stem_of(row[columns.volume].strip())] = _Stated((slope, intercept), (z, y, x))
    return stated


def read_labels(folder: DataFolder, side: str) -> dict[str, tuple[str, ...]]:
    """The labels of each volume of a side in lower case; empty where there is no label table.

    Raises DatasetError for a mark that is neither 0 nor 1.
    """
    table = find_table(folder, "multi_abnormality_labels", _LABELS[side])
    if table is None:
        return {}
    labels = {}
    for line, row in read_rows(folder, table, ("VolumeName", *CT_RATE_LABELS)):
        study_id = stem_of(row["VolumeName"].strip())
        marks = {label: row[label].strip().removesuffix(".0") for label in CT_RATE_LABELS}
        unknown = [label for label, mark in marks.items() if mark not in ("0", "1")]
        if unknown:
            raise DatasetError(
                f"table {table}, line {line}: {unknown[0]!r} is {marks[unknown[0]]!r} where 0 or 1 belongs"
            )
        labels[study_id] = tuple(label.lower() for label, mark in marks.items() if mark == "1")
    return labels


def _number(patient_id: str) -> tuple[int, str]:
    """The place of a patient in the order of CT-RATE's numbers: `train_2` before `train_10`."""
    number = patient_id.partition("_")[2]
    return (len(number), number)
