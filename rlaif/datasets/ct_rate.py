"""The adapter for the folder layout of CT-RATE."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.settings import CtRateSettings, SplitSettings
from rlaif.datasets.splits import UNDIVIDED, assign_in_order, assign_splits, check_disjoint, limited
from rlaif.datasets.study_table import READ_STAGE, DatasetError, StudyTable, data_folder, within
from rlaif.records import Quarantined, Split, Study
from rlaif.reports.findings import CT_RATE_LABELS

# {split}_{patient}_{scan}_{reconstruction}
_VOLUME_NAME = re.compile(r"((train|valid)_[0-9A-Za-z]+)_([A-Za-z]+)_([0-9]+)")
_SIDES = ("train", "valid")
# The corrected release (`_fixed`) is taken where both are there.
_VOLUME_FOLDERS = {side: (f"{side}_fixed", side) for side in _SIDES}
_REPORTS = {"train": "train_reports.csv", "valid": "validation_reports.csv"}
_LABELS = {
    "train": ("train_predicted_labels.csv", "train_labels.csv"),
    "valid": ("valid_predicted_labels.csv", "validation_predicted_labels.csv", "valid_labels.csv"),
}


def read_studies(settings: CtRateSettings, source: str = "ct_rate") -> StudyTable:
    """Read the studies of a folder in CT-RATE's layout; each reconstruction with a report row is one.

    Volumes lie under `{train,valid}[_fixed]/`, tables under `radiology_text_reports/` and
    `multi_abnormality_labels/`; each of these may lie in the folder itself or in its `dataset/`, and
    the tables beside them. The patient is the first two parts of the volume's name (`train_1`).
    Volumes are expected in HU: those of the first release hold stored values, which
    `rlaif.volumes.volume.check_hounsfield` tells. Rows without a usable name or volume are
    quarantined. Raises DatasetError where no report table is there, or one lacks a column.
    """
    root = data_folder(settings.path)
    studies: list[Study] = []
    quarantined: list[Quarantined] = []
    tables = {side: table for side in _SIDES if (table := _find(root, "radiology_text_reports", (_REPORTS[side],)))}
    if not tables:
        raise DatasetError(
            f"{root} holds no CT-RATE report table; expected radiology_text_reports/{_REPORTS['train']} or "
            f"{_REPORTS['valid']} there or in its folder dataset"
        )
    for side, table in tables.items():
        for one in _read_side(settings, root, side, table):
            if isinstance(one, Study):
                studies.append(replace(one, source=source))
            else:
                quarantined.append(one)
    placed = _place(studies, settings)
    check_disjoint(placed)
    return StudyTable(limited(placed, settings.limit, settings.seed), quarantined, len(studies))


def _find(root: Path, folder: str, names: tuple[str, ...]) -> Path | None:
    """The first table of the names that is there, in its folder or beside it."""
    for base in (root / "dataset" / folder, root / folder, root / "dataset", root):
        for name in names:
            if (base / name).is_file():
                return base / name
    return None


def _read_side(settings: CtRateSettings, root: Path, side: str, table: Path) -> Iterator[Study | Quarantined]:
    """The rows of one report table, each as a study or as a quarantined one."""
    columns = settings.columns
    labels = _read_labels(root, side)
    bases = [base for base in (root / "dataset", root) if base.is_dir()]
    folders = [base / name for name in _VOLUME_FOLDERS[side] for base in bases if (base / name).is_dir()]
    seen: set[str] = set()
    for line, row in read_rows(table, (columns.volume, columns.findings, columns.impression)):
        name = row[columns.volume].strip()
        study_id = _study_id(name)
        match = _VOLUME_NAME.fullmatch(study_id)
        if match is None or match[2] != side:
            reason = f"{table.name}, line {line}: {name[:80]!r} is no volume name of the form {side}_1_a_1.nii.gz"
            yield Quarantined(f"{table.name}#line-{line}", name[:200], READ_STAGE, reason)
            continue
        if study_id in seen:
            reason = f"{table.name}, line {line}: the volume is named a second time"
            yield Quarantined(f"{study_id}#line-{line}", name, READ_STAGE, reason)
            continue
        seen.add(study_id)
        try:
            volume = _volume(root, folders, f"{match[1]}/{match[1]}_{match[3]}/{study_id}")
        except DatasetError as error:
            yield Quarantined(study_id, name, READ_STAGE, str(error))
            continue
        if volume is not None:
            findings, impression = text_or_none(row[columns.findings]), text_or_none(row[columns.impression])
            yield Study(
                study_id=study_id,
                patient_id=match[1],
                source="ct_rate",
                split=UNDIVIDED,
                volume=str(volume),
                findings=findings,
                impression=impression,
                labels=labels.get(study_id),
            )
        elif settings.missing_volumes == "quarantine":
            reason = f"the volume is not on disk (looked in {', '.join(map(str, folders)) or root})"
            yield Quarantined(study_id, name, READ_STAGE, reason)


def _study_id(volume_name: str) -> str:
    return volume_name.removesuffix(".gz").removesuffix(".nii")


def _volume(root: Path, folders: list[Path], stem: str) -> Path | None:
    """The volume's file in the first folder that has it; DatasetError where it is a link out of the root."""
    for folder in folders:
        for ending in (".nii.gz", ".nii"):
            path = folder / (stem + ending)
            if path.is_file():
                return within(root, str(path.relative_to(root)))
    return None


def _read_labels(root: Path, side: str) -> dict[str, tuple[str, ...]]:
    """The labels of each volume in lower case; empty where there is no label table."""
    table = _find(root, "multi_abnormality_labels", _LABELS[side])
    if table is None:
        return {}
    labels = {}
    for line, row in read_rows(table, ("VolumeName", *CT_RATE_LABELS)):
        study_id = _study_id(row["VolumeName"].strip())
        marks = {label: row[label].strip().removesuffix(".0") for label in CT_RATE_LABELS}
        unknown = [label for label, mark in marks.items() if mark not in ("0", "1")]
        if unknown:
            raise DatasetError(
                f"table {table}, line {line}: {unknown[0]!r} is {marks[unknown[0]]!r} where 0 or 1 belongs"
            )
        labels[study_id] = tuple(label.lower() for label, mark in marks.items() if mark == "1")
    return labels


def _place(studies: list[Study], settings: CtRateSettings) -> list[Study]:
    """The studies with their split: `valid` held out, `train` divided into SFT and alignment by patient."""
    patients = sorted({study.patient_id for study in studies}, key=_number)
    train = [patient for patient in patients if patient.startswith("train")]
    valid = [patient for patient in patients if not patient.startswith("train")]
    # With fractions, all of `valid` is held out, whatever share the settings give.
    heldout = settings.split if settings.split.counted else SplitSettings(sft=0.0, align=0.0, heldout=1.0)

    def divide(some: list[str], shares: SplitSettings, among: tuple[Split, ...]) -> dict[str, Split]:
        if not some:
            return {}
        if settings.order == "number":
            return assign_in_order(some, shares, among)
        return assign_splits(some, shares, settings.seed, among)

    splits = divide(train, settings.split, ("sft", "align")) | divide(valid, heldout, ("heldout",))
    return [replace(study, split=splits[study.patient_id]) for study in studies if study.patient_id in splits]


def _number(patient_id: str) -> tuple[int, str]:
    """The place of a patient in the order of CT-RATE's numbers: `train_2` before `train_10`."""
    number = patient_id.partition("_")[2]
    return (len(number), number)
