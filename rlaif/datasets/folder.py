"""The adapter for a folder of CTs of one's own, with or without a table of reports."""

import os
from collections.abc import Iterator
from pathlib import Path

from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.settings import FolderColumns, FolderSettings
from rlaif.datasets.splits import SPLITS, UNDIVIDED, divide
from rlaif.datasets.study_table import READ_STAGE, DatasetError, StudyTable, check_id, data_folder, within
from rlaif.records import Quarantined, Split, Study
from rlaif.volumes.dicom import is_dicom_file

DEFAULT_TABLE = "studies.csv"
_NIFTI = (".nii", ".nii.gz")
_ARCHIVES = (".tar.xz", ".tar.gz", ".tar.bz2", ".tgz", ".tar", ".zip")


def read_studies(settings: FolderSettings) -> StudyTable:
    """Read the studies of a folder of NIfTI files and DICOM series.

    With a table, each row is a study: its path is relative to the folder, its split may be given in
    a column, and where it names an archive, the unpacked folder of the same stem is taken. Without
    one, every NIfTI file and every folder with DICOM slices below is a study without report, and a
    patient of its own. Rows that cannot be used are quarantined. Raises DatasetError for an absent
    or empty folder, a table without the needed columns, and a patient in two splits.
    """
    root = data_folder(settings.path)
    table = within(root, settings.table or DEFAULT_TABLE)
    given: dict[str, Split] = {}
    if settings.table is not None or table.is_file():
        rows = _table_rows(root, table, settings.columns, given)
    else:
        rows = _found_below(root)
    studies: dict[str, Study] = {}
    quarantined: list[Quarantined] = []
    for one in rows:
        if isinstance(one, Quarantined):
            quarantined.append(one)
        elif one.study_id in studies:
            reason = f"the study id is taken by {studies[one.study_id].volume}; give each study an id of its own"
            quarantined.append(Quarantined(f"{one.study_id}#repeated", str(one.volume), READ_STAGE, reason))
        else:
            studies[one.study_id] = one
    if not studies and not quarantined:
        raise DatasetError(f"{root} holds no studies: neither rows in {table.name} nor NIfTI files or DICOM series")
    divided = divide(studies.values(), settings.split, settings.seed, settings.limit, given)
    return StudyTable(divided, quarantined, len(studies))


def _table_rows(
    root: Path, table: Path, columns: FolderColumns, given: dict[str, Split]
) -> Iterator[Study | Quarantined]:
    """The table's rows as studies or quarantined ones; splits that rows prescribe are added to `given`."""
    named = [columns.study_id, columns.path, columns.patient_id, columns.findings, columns.impression]
    # The split column may be absent, unless the settings give it a name of its own.
    named += [columns.split] if columns.split != FolderColumns().split else []
    for line, row in read_rows(table, [name for name in named if name is not None]):
        study_id, written = row[columns.study_id].strip(), row[columns.path].strip()
        quarantine_id = f"{table.name}#line-{line}"
        try:
            check_id("study_id", study_id)
            quarantine_id = study_id
            patient_id = row[columns.patient_id].strip()
            check_id("patient_id", patient_id)
            split = row.get(columns.split, "").strip()
            if split and split not in SPLITS:
                raise DatasetError(f"split {split[:40]!r} is none of {', '.join(SPLITS)}")
            volume = _volume(root, written)
        except DatasetError as error:
            yield Quarantined(quarantine_id, written[:200], READ_STAGE, f"{table.name}, line {line}: {error}")
            continue
        if split:
            given.setdefault(study_id, split)
        yield Study(
            study_id=study_id,
            patient_id=patient_id,
            source="folder",
            split=UNDIVIDED,
            volume=str(volume),
            findings=None if columns.findings is None else text_or_none(row[columns.findings]),
            impression=None if columns.impression is None else text_or_none(row[columns.impression]),
        )


def _volume(root: Path, written: str) -> Path:
    """The NIfTI file or DICOM folder that a row names; DatasetError where there is none that can be read."""
    path = within(root, written)
    ending = next((ending for ending in _ARCHIVES if path.name.lower().endswith(ending)), None)
    if ending is not None:
        unpacked = within(root, written[: -len(ending)])
        if unpacked.is_dir():
            return unpacked
        raise DatasetError(f"{written} is an archive; unpack it into a folder {unpacked.name} beside it")
    if path.is_dir():
        return path
    if not path.is_file():
        raise DatasetError(f"{written} does not exist below the data folder")
    if not path.name.lower().endswith(_NIFTI):
        raise DatasetError(
            f"{written} is of a kind that is not read; convert it to NIfTI (.nii, .nii.gz) or name the folder of a "
            "DICOM series"
        )
    return path


def _found_below(root: Path) -> Iterator[Study | Quarantined]:
    """Every NIfTI file and DICOM series folder below the root, without report."""
    for parent, directories, names in os.walk(root, followlinks=False):
        directories.sort()
        files = [Path(parent, name) for name in sorted(names) if Path(parent, name).is_file()]
        found = [path for path in files if path.name.lower().endswith(_NIFTI)]
        if not found and any(is_dicom_file(path) for path in files):
            found = [Path(parent)]
        for path in found:
            relative = path.relative_to(root)
            stem = str(relative) if path.is_dir() else str(relative).removesuffix(".gz").removesuffix(".nii")
            study_id = (root.resolve().name if stem == "." else stem).replace(os.sep, "__")
            try:
                check_id("study_id", study_id)
                volume = path if stem == "." else within(root, str(relative))
            except DatasetError as error:
                yield Quarantined(str(relative)[:200], str(relative)[:200], READ_STAGE, str(error))
                continue
            yield Study(study_id, patient_id=study_id, source="folder", split=UNDIVIDED, volume=str(volume))
