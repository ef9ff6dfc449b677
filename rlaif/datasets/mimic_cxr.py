"""The adapter for the sectioned reports of MIMIC-CXR: text only, as the data set's own script writes them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.settings import MimicCxrSettings
from rlaif.datasets.splits import UNDIVIDED, divide, divide_official
from rlaif.datasets.study_table import READ_STAGE, DatasetError, StudyTable
from rlaif.records import Quarantined, Study
from rlaif.reports.redactions import without_redactions

_STUDY_NAME = re.compile(r"s?([0-9]+)")
_SUBJECT_NAME = re.compile(r"p?([0-9]+)")
_PARTS = ("train", "validate", "test")


@dataclass(frozen=True)
class _Placed:
    """A study of the split table: its patient, and the part of the official split that it is in."""

    patient_id: str
    part: str


def read_studies(settings: MimicCxrSettings) -> StudyTable:
    """Read the reports of MIMIC-CXR's sectioned table; patients and the official split come from the split table.

    `test` is held out, `validate` goes with `train`. Marks of redaction are taken out of the text. Reports without
    findings or impression, and those that the split table does not name, are quarantined. Raises DatasetError where
    a table is absent or lacks a column, and where the split table gives a study or a patient two places. Tables are
    read as plain CSV: unpack `.csv.gz` first.
    """
    folder = DataFolder(settings.path)
    placed = _read_places(folder, settings.split_table) if settings.patients == "split_table" else None
    studies: list[Study] = []
    quarantined: list[Quarantined] = []
    for one in _reports(settings, folder, placed):
        if isinstance(one, Study):
            studies.append(one)
        else:
            quarantined.append(one)
    if placed is None:
        divided = divide(studies, settings.split, settings.seed, settings.limit)
    else:
        heldout = {one.study_id for one in studies if placed[one.study_id].part == "test"}
        divided = divide_official(studies, heldout, settings.split, settings.seed, settings.limit)
    return StudyTable(divided, quarantined, len(studies))


def _read_places(folder: DataFolder, table: str) -> dict[str, _Placed]:
    """Each study's place; a study has a row for each of its images, and these must agree."""
    if not folder.is_file(table):
        packed = f"; unpack {table}.gz, which is there" if folder.is_file(f"{table}.gz") else ""
        raise DatasetError(
            f"{folder} holds no {table}, and without it nobody knows which reports are of one patient{packed}. Put it "
            "there, say its name in data.split_table, or take each report for a patient of its own with "
            "data.patients=study, which lets reports of one patient stand on both sides of the split"
        )
    placed: dict[str, _Placed] = {}
    for line, row in read_rows(folder, table, ("study_id", "subject_id", "split")):
        study, subject, part = row["study_id"].strip(), row["subject_id"].strip(), row["split"].strip()
        match, patient = _STUDY_NAME.fullmatch(study), _SUBJECT_NAME.fullmatch(subject)
        if match is None or patient is None or part not in _PARTS:
            wrong = f"split {part[:40]!r} is none of {', '.join(_PARTS)}"
            if match is None or patient is None:
                wrong = f"study_id {study[:40]!r} of subject_id {subject[:40]!r}: both must be numbers"
            raise DatasetError(f"table {table}, line {line}: {wrong}")
        place = _Placed(patient[1], part)
        before = placed.setdefault(f"s{match[1]}", place)
        if before != place:
            raise DatasetError(
                f"table {table}, line {line}: study {match[1]} is of patient {place.patient_id} in {place.part}, and "
                f"on an earlier line of patient {before.patient_id} in {before.part}; correct the table"
            )
    return placed


def _reports(
    settings: MimicCxrSettings, folder: DataFolder, placed: dict[str, _Placed] | None
) -> Iterator[Study | Quarantined]:
    """The rows of the sectioned table, each as a study or as a quarantined one."""
    columns, table = settings.columns, settings.table
    needed = [columns.study_id, columns.findings, columns.impression]
    needed += [columns.last_paragraph] if settings.last_paragraph == "impression" else []
    seen: set[str] = set()
    for line, row in read_rows(folder, table, needed):
        place = f"{table}#line-{line}"
        match = _STUDY_NAME.fullmatch(row[columns.study_id].strip())
        if match is None:
            reason = f"{row[columns.study_id][:80]!r} is no study name of the form s50414267"
            yield Quarantined(place, place, READ_STAGE, reason)
            continue
        study_id = f"s{match[1]}"
        if study_id in seen:
            yield Quarantined(f"{study_id}#line-{line}", place, READ_STAGE, "the study is named a second time")
            continue
        seen.add(study_id)
        findings, impression = _clean(row[columns.findings]), _clean(row[columns.impression])
        if impression is None and settings.last_paragraph == "impression":
            last = _clean(row[columns.last_paragraph])
            impression = None if last == findings else last
        absent = [name for name, text in (("findings", findings), ("impression", impression)) if text is None]
        if absent:
            if settings.incomplete == "quarantine":
                yield Quarantined(study_id, place, READ_STAGE, f"the report has no {' and no '.join(absent)}")
            continue
        if placed is not None and study_id not in placed:
            reason = f"{settings.split_table} does not name the study, so that its patient is unknown"
            yield Quarantined(study_id, place, READ_STAGE, reason)
            continue
        yield Study(
            study_id=study_id,
            patient_id=study_id if placed is None else placed[study_id].patient_id,
            source="mimic_cxr",
            split=UNDIVIDED,
            findings=findings,
            impression=impression,
        )


def _clean(text: str) -> str | None:
    return text_or_none(without_redactions(text))
