"""The adapter for the folder layout of CT-RATE."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.settings import CtRateSettings
from rlaif.datasets.splits import UNDIVIDED, divide_official
from rlaif.datasets.study_table import READ_STAGE, DatasetError, StudyTable, gather, is_volume, stem_of, unlisted
from rlaif.records import Quarantined, Study
from rlaif.reports.findings import CT_RATE_LABELS
from rlaif.storage import file_name

# {split}_{patient}_{scan}_{reconstruction}
VOLUME_NAME = re.compile(r"((train|valid)_[0-9A-Za-z]+)_([A-Za-z]+)_([0-9]+)")
_SIDES = ("train", "valid")
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

    Volumes lie under `{train,valid}_fixed/` or `{train,valid}/`, tables under `radiology_text_reports/`,
    `multi_abnormality_labels/` and `metadata/`; each of these may lie in the folder itself or in its `dataset/`, and
    the tables beside them. The patient is the first two parts of the volume's name (`train_1`). The original release
    holds stored values: its rescale and spacing come from the metadata tables. Rows without a usable name or volume,
    and volumes without a row, are quarantined. Raises DatasetError where no report table is there, or one lacks a
    column.
    """
    folder = DataFolder(settings.path)
    tables = {
        side: table for side in _SIDES if (table := find_table(folder, "radiology_text_reports", (_REPORTS[side],)))
    }
    if not tables:
        raise DatasetError(
            f"{folder} holds no CT-RATE report table; expected radiology_text_reports/{_REPORTS['train']} or "
            f"{_REPORTS['valid']} there or in its folder dataset"
        )
    read = [one for side, table in tables.items() for one in _read_side(settings, folder, side, table, source)]
    studies, quarantined = gather(read, settings.empty_reports)
    ordered = sorted({study.patient_id for study in studies}, key=_number) if settings.order == "number" else None
    heldout = {study.study_id for study in studies if study.study_id.startswith("valid")}
    placed = divide_official(studies, heldout, settings.split, settings.seed, settings.limit, ordered)
    return StudyTable(placed, quarantined, len(studies))


def find_table(folder: DataFolder, subfolder: str, names: tuple[str, ...]) -> str | None:
    """The first table of the names that is there, in its folder or beside it, in the data folder or its `dataset`."""
    for base in (f"dataset/{subfolder}/", f"{subfolder}/", *_BASES):
        for name in names:
            if folder.is_file(base + name):
                return base + name
    return None


def _read_side(
    settings: CtRateSettings, folder: DataFolder, side: str, table: str, source: str
) -> Iterator[Study | Quarantined]:
    """The rows of one report table, each as a study or as a quarantined one."""
    columns = settings.columns
    labels = read_labels(folder, side)
    stated = _read_metadata(settings, folder, side) if settings.release == "original" else None
    # The corrected release (`_fixed`) is taken where both are there.
    endings = ("_fixed", "") if settings.release == "fixed" else ("",)
    volumes = {
        stem_of(file): file
        for ending in reversed(endings)
        for base in reversed(_BASES)
        for file in folder.files_below(f"{base}{side}{ending}")
    }
    path, table = table, file_name(table)
    named: set[str] = set()
    seen: set[str] = set()
    for line, row in read_rows(folder, path, (columns.volume, columns.findings, columns.impression)):
        name = row[columns.volume].strip()
        study_id = stem_of(name)
        match = VOLUME_NAME.fullmatch(study_id)
        if match is None or match[2] != side:
            reason = f"{table}, line {line}: {name[:80]!r} is no volume name of the form {side}_1_a_1.nii.gz"
            yield Quarantined(f"{table}#line-{line}", name[:200], READ_STAGE, reason)
            continue
        if study_id in seen:
            reason = f"{table}, line {line}: the volume is named a second time"
            yield Quarantined(f"{study_id}#line-{line}", name, READ_STAGE, reason)
            continue
        seen.add(study_id)
        file = volumes.get(study_id)
        if file is None:
            if settings.missing_volumes == "quarantine":
                yield Quarantined(
                    study_id, name, READ_STAGE, f"the volume is not on disk (looked in {folder}'s {side} folders)"
                )
            continue
        named.add(file)
        said = None if stated is None else stated.get(study_id)
        if stated is not None and said is None:
            reason = "the metadata table gives no usable rescale and spacing for this volume of the original release"
            yield Quarantined(study_id, file, READ_STAGE, reason)
            continue
        try:
            location = folder.locate(file)
        except DatasetError as error:
            yield Quarantined(study_id, name, READ_STAGE, str(error))
            continue
        yield Study(
            study_id=study_id,
            patient_id=match[1],
            source=source,
            split=UNDIVIDED,
            volume=location,
            findings=text_or_none(row[columns.findings]),
            impression=text_or_none(row[columns.impression]),
            labels=labels.get(study_id),
            rescale=None if said is None else said.rescale,
            spacing_mm=None if said is None else said.spacing_mm,
        )
    if settings.unlisted_volumes == "quarantine":
        yield from unlisted(filter(is_volume, volumes.values()), named, table)


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
