"""The adapter for a folder of CTs of one's own, with or without a table of reports."""

from collections.abc import Collection, Container, Iterable, Iterator
from itertools import groupby
from pathlib import PurePosixPath

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.segmentations import Segmentations
from rlaif.datasets.settings import FolderColumns, FolderSettings
from rlaif.datasets.splits import SPLITS, UNDIVIDED, divide
from rlaif.datasets.study_table import (
    READ_STAGE,
    DatasetError,
    StudyTable,
    check_id,
    gather,
    is_volume,
    stem_of,
    unlisted,
)
from rlaif.records import Quarantined, Split, Study
from rlaif.volumes.source import VolumeSource

DEFAULT_TABLE = "studies.csv"
_ARCHIVES = (".tar.xz", ".tar.gz", ".tar.bz2", ".tgz", ".tar", ".zip")


def read_studies(settings: FolderSettings) -> StudyTable:
    """Read the studies of a folder of NIfTI, NRRD and MHA files and DICOM series.

    With a table, each row is a study: its path is relative to the folder (with `#SeriesInstanceUID` behind it to take
    one of several series), its split may be given in a column, and where it names an archive, the unpacked folder of
    the same stem is taken. A column may name its segmentation, whose files are then no studies. Without a table,
    every file and every folder with DICOM slices below is a study without report, and a patient of its own. Rows that
    cannot be used are quarantined. Raises DatasetError for an absent or empty folder, a table without the needed
    columns, label names that cannot be used, and a patient in two splits.
    """
    folder = DataFolder(settings.path)
    table = settings.table or DEFAULT_TABLE
    given: dict[str, Split] = {}
    if settings.table is not None or folder.is_file(table):
        studies, quarantined = gather(_table_rows(folder, table, settings, given), settings.empty_reports)
    elif settings.segmenter is not None:
        raise DatasetError(f"data.columns.segmentation is a column, and {folder} has no table; name it in data.table")
    else:
        studies, quarantined = gather(_found_below(folder), "keep")
    if not studies and not quarantined:
        raise DatasetError(f"{folder} holds no studies: neither rows in {table} nor volumes or DICOM series")
    divided = divide(studies, settings.split, settings.seed, settings.limit, given)
    return StudyTable(divided, quarantined, len(studies))


def _table_rows(
    folder: DataFolder, table: str, settings: FolderSettings, given: dict[str, Split]
) -> Iterator[Study | Quarantined]:
    """The table's rows as studies or quarantined ones; splits that rows prescribe are added to `given`."""
    columns = settings.columns
    named = [columns.study_id, columns.path, columns.patient_id, columns.findings, columns.impression]
    named.append(columns.segmentation)
    # The split column may be absent, unless the settings give it a name of its own.
    named += [columns.split] if columns.split != FolderColumns().split else []
    segmentations = None if settings.segmenter is None else Segmentations(folder, settings.segmenter, settings)
    paths: set[str] = set()
    masked: set[str] = set()
    for line, row in read_rows(folder, table, [name for name in named if name is not None]):
        study_id, written = row[columns.study_id].strip(), row[columns.path].strip()
        masks = "" if columns.segmentation is None else row[columns.segmentation].strip()
        paths |= _may_name(written)
        masked.add(PurePosixPath(masks).as_posix())
        quarantine_id = f"{table}#line-{line}"
        try:
            check_id("study_id", study_id)
            quarantine_id = study_id
            patient_id = row[columns.patient_id].strip()
            check_id("patient_id", patient_id)
            split = row.get(columns.split, "").strip()
            if split and split not in SPLITS:
                raise DatasetError(f"split {split[:40]!r} is none of {', '.join(SPLITS)}")
            volume = _volume(folder, written, settings.missing_volumes == "skip")
            regions = None if segmentations is None or volume is None else segmentations.regions(masks)
        except DatasetError as error:
            yield Quarantined(quarantine_id, written[:200], READ_STAGE, f"{table}, line {line}: {error}")
            continue
        if volume is None:
            continue
        if split:
            given.setdefault(study_id, split)
        yield Study(
            study_id=study_id,
            patient_id=patient_id,
            source="folder",
            split=UNDIVIDED,
            volume=volume,
            findings=None if columns.findings is None else text_or_none(row[columns.findings]),
            impression=None if columns.impression is None else text_or_none(row[columns.impression]),
            regions=regions,
        )
    if settings.unlisted_volumes == "quarantine":
        files = [file for file in folder.files_below() if masked.isdisjoint(_path_and_folders(file))]
        yield from unlisted(filter(is_volume, files), paths, table)
        yield from _unlisted_series(folder, files, paths, table)


def _volume(folder: DataFolder, written: str, skip_missing: bool) -> str | None:
    """Where the file or DICOM folder that a row names lies; None for an absent one that is skipped.

    Raises DatasetError where there is none that can be read.
    """
    if not written:
        raise DatasetError("the row names no path")
    if folder.is_folder(written):
        return _location(folder, written)
    unpacked = _unpacked(written)
    if unpacked is not None:
        if folder.is_folder(unpacked):
            return _location(folder, unpacked)
        raise DatasetError(f"{written} is an archive; unpack it into a folder {PurePosixPath(unpacked).name} beside it")
    if folder.is_file(written):
        if is_volume(written):
            return _location(folder, written)
        raise DatasetError(
            f"{written} is of a kind that is not read; convert it to NIfTI (.nii, .nii.gz) or name the folder of a "
            "DICOM series"
        )
    path, _, series = written.rpartition("#")
    if path and series and folder.is_folder(path):
        return _location(folder, path, series)
    if skip_missing:
        return None
    raise DatasetError(f"{written} does not exist below the data folder")


def _location(folder: DataFolder, path: str, series: str = "") -> str:
    """The `volume` of a study's record, which is read again without a look at what is there."""
    location = folder.locate(path)
    volume = f"{location}#{series}" if series else location
    if VolumeSource.at(volume) == VolumeSource(location, series or None):
        return volume
    if series:
        raise DatasetError(f"{series[:80]!r} is no UID of a series (digits and dots), and no {path}#{series} is there")
    raise DatasetError(f"the name of {path or location} ends in # and digits, which name a series: rename it")


def _unpacked(written: str) -> str | None:
    """The folder that an archive is unpacked into; None for what is no archive."""
    ending = next((ending for ending in _ARCHIVES if written.lower().endswith(ending)), None)
    return None if ending is None else written[: -len(ending)]


def _may_name(written: str) -> set[str]:
    """The paths that a row may mean, whether or not it can be used."""
    meant = {written, written.rpartition("#")[0], _unpacked(written) or ""}
    return {PurePosixPath(one).as_posix() for one in meant}


def _unlisted_series(
    folder: DataFolder, files: Iterable[str], named: Container[str], table: str
) -> Iterator[Quarantined]:
    """The folders with DICOM slices, by their first, middle and last file, that lie below none that a row names."""
    for parent, group in _by_folder(file for file in files if not is_volume(file)):
        if any(path in named for path in _path_and_folders(parent)):
            continue
        within = list(group)
        try:
            found = _holds_dicom(folder, {within[place] for place in (0, len(within) // 2, -1)})
        except DatasetError as error:
            yield Quarantined(f"{parent or '.'}#unlisted", parent or ".", READ_STAGE, str(error))
            continue
        if found:
            yield from unlisted([parent or "."], (), table)


def _found_below(folder: DataFolder) -> Iterator[Study | Quarantined]:
    """Every volume and DICOM series folder below the root, without report."""
    for parent, group in _by_folder(folder.files_below()):
        files = list(group)
        found = [file for file in files if is_volume(file)]
        try:
            if not found and _holds_dicom(folder, files):
                found = [parent]
        except DatasetError as error:
            yield Quarantined(parent[:200] or ".", parent[:200] or ".", READ_STAGE, str(error))
        for path in found:
            name = path if path == parent else str(PurePosixPath(path).with_name(stem_of(path)))
            try:
                study_id = (name or folder.name).replace("/", "__")
                check_id("study_id", study_id)
                volume = _location(folder, path)
            except DatasetError as error:
                yield Quarantined(path[:200] or ".", path[:200] or ".", READ_STAGE, str(error))
                continue
            yield Study(study_id, patient_id=study_id, source="folder", split=UNDIVIDED, volume=volume)


def _path_and_folders(file: str) -> Iterator[str]:
    path = PurePosixPath(file)
    return (one.as_posix() for one in (path, *path.parents) if one.name)


def _by_folder(files: Iterable[str]) -> Iterator[tuple[str, Iterator[str]]]:
    return groupby(sorted(files, key=_parent), key=_parent)


def _parent(file: str) -> str:
    return file.rpartition("/")[0]


def _holds_dicom(folder: DataFolder, files: Collection[str]) -> bool:
    """Whether one of the files bears DICOM's mark; raises DatasetError where none of them can be read."""
    problems: list[str] = []
    for file in files:
        try:
            with folder.open(file) as content:
                if content.read(132)[128:] == b"DICM":
                    return True
        except FileNotFoundError:
            problems.append(f"{file} is no file that is there")
        except DatasetError as error:
            problems.append(str(error))
    if len(problems) == len(files):
        raise DatasetError(f"none of its files can be read, so that it may hold a CT: {problems[0]}")
    return False
