"""The adapter for the layout of BIMCV-R: chest CTs of Valencian hospitals with machine-translated reports."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePosixPath

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.settings import BimcvRSettings
from rlaif.datasets.splits import UNDIVIDED, official_split
from rlaif.datasets.study_table import DatasetError, StudyTable, stem_of
from rlaif.datasets.volume_lookup import Described, VolumeFiles, read_described
from rlaif.records import Study

# What de-identification wrote for names, dates, hospitals and numbers: "Name Name Name", "date date".
_PLACEHOLDER = r"(?:name|date|fecha|instit|inst|num)"
_PLACEHOLDERS = re.compile(rf"\b{_PLACEHOLDER}(?:\s+{_PLACEHOLDER})+\b", re.IGNORECASE)
_LONE_PLACEHOLDER = re.compile(r"\b(?:NAME|INST|NUM)\b")
# The words of the form that a report was written in: the patient and the order above it, the signature below.
# fmt: off
_FORM = frozenset({
    "patient", "name", "date", "fecha", "inst", "instit", "num", "hc", "nhc", "dr", "dra", "doctor", "prescription",
    "appointment", "fdo", "signed", "medical", "collegiate", "radiologist", "january", "february", "march", "april",
    "may", "june", "july", "august", "september", "october", "november", "december",
})
# fmt: on
_WORD = re.compile(r"[^\W\d_]+")
_STOP_WITHOUT_SPACE = re.compile(r"(?<=[^\W\d_])\s*\.(?=[^\W\d_]{2})|(?<=\d)\.(?=[A-Z])")
_SENTENCE_END = re.compile(r"(?<=\.)\s+")
_SPACE_BEFORE_STOP = re.compile(r"\s+(?=[.,;:])")
_REPEATED_STOP = re.compile(r"(?<=[.,;:])(?:\s*\.)+")


def read_studies(settings: BimcvRSettings) -> StudyTable:
    """Read the studies of a folder in BIMCV-R's layout: each row of its table is one; its report becomes the findings.

    The path column holds paths of the machine that the table was made on: a volume is taken by its file's name, and
    must lie in or be named after its patient. Without a path it is the only one below `PATIENT/REPORT/`. Rows that
    cannot be used, and volumes without a row, are quarantined. Raises DatasetError where the table or a column is
    absent, and for a patient on both sides of the split that the table gives.
    """
    folder = DataFolder(settings.path)
    table = settings.table or _only_table(folder)
    volumes = VolumeFiles(folder)
    rows = _described(folder, table, settings, volumes)
    return read_described(rows, volumes, settings, table, official=settings.columns.split is not None)


def without_residue(text: str) -> str:
    """The report without what the hospital's information system and de-identification left in it.

    Sentences at its beginning and end that hold only words of the form go ("PATIENT NAME NAME HC.", "Fdo. Dr."),
    at the beginning also one that adds a single word to a placeholder (a surname that was missed). Within the text
    placeholders go ("prior study of date date date"), and stops get the space that translation lost. Nothing else is
    changed: what the translation got wrong stays.
    """
    sentences = _SENTENCE_END.split(_STOP_WITHOUT_SPACE.sub(". ", " ".join(text.split())))
    while sentences and _of_form(sentences[0], others=1 if _PLACEHOLDERS.search(sentences[0]) else 0):
        del sentences[0]
    while sentences and _of_form(sentences[-1]):
        del sentences[-1]
    text = _LONE_PLACEHOLDER.sub("", _PLACEHOLDERS.sub("", " ".join(sentences)))
    text = _REPEATED_STOP.sub("", _SPACE_BEFORE_STOP.sub("", " ".join(text.split())))
    return text.lstrip(" .,;:")


def _of_form(sentence: str, others: int = 0) -> bool:
    """Whether a sentence has words, and at most so many that are none of the form's."""
    words = [word for word in _WORD.findall(sentence.lower()) if word != "no"]
    return bool(words) and sum(word not in _FORM for word in words) <= others


def _only_table(folder: DataFolder) -> str:
    tables = [file for file in folder.files_below() if file.lower().endswith(".csv")]
    if len(tables) != 1:
        found = f"the tables {', '.join(tables[:10])}" if tables else "no CSV table"
        raise DatasetError(f"{folder} holds {found}; say which one has the reports with data.table=FILE")
    return tables[0]


def _described(folder: DataFolder, table: str, settings: BimcvRSettings, volumes: VolumeFiles) -> Iterator[Described]:
    columns = settings.columns
    sessions = _sessions(volumes)
    needed = (columns.patient_id, columns.report_id, columns.report, columns.path, columns.split)
    for line, row in read_rows(folder, table, [name for name in needed if name is not None]):
        patient_id, report_id, report = (row[name] for name in (columns.patient_id, columns.report_id, columns.report))
        patient_id, report_id = patient_id.strip(), report_id.strip()
        written = None if columns.path is None else text_or_none(row[columns.path])
        if written is None:
            volume, problem = _of_session(sessions, f"{patient_id}/{report_id}")
        else:
            volume, problem = _by_name(volumes, written, patient_id)
        split = UNDIVIDED
        if columns.split is not None:
            try:
                split = official_split(row[columns.split])
            except DatasetError as error:
                problem = problem or str(error)
        study = Study(
            study_id=report_id,
            patient_id=patient_id,
            source="bimcv_r",
            split=split,
            findings=text_or_none(without_residue(report) if settings.clean else report),
        )
        yield Described(study, f"{table}, line {line}", volume, problem)


def _by_name(volumes: VolumeFiles, written: str, patient_id: str) -> tuple[str, str | None]:
    """The path or name of the volume that a path of another machine names, and what is wrong with it."""
    path = PurePosixPath(written)
    # Paths that lead out are left as they are, for the look-up to refuse.
    if written in volumes.files or ".." in path.parts:
        return written, None
    for file in volumes.named.get(stem_of(path.name), []):
        if not any(f"/{patient_id}{end}" in f"/{file}" for end in "/_"):
            return file, f"{file} bears the volume's name, but nowhere that of the patient {patient_id[:80]!r}"
    return path.name, None


def _of_session(sessions: dict[str, list[str]], session: str) -> tuple[str, str | None]:
    """The only volume of a session, or the session where there is none, and what is wrong with it."""
    files = sessions.get(session, [])
    if len(files) > 1:
        return files[0], f"{session} holds {len(files)} volumes; name one in a column (data.columns.path)"
    return files[0] if files else session, None


def _sessions(volumes: VolumeFiles) -> dict[str, list[str]]:
    """The volumes below each folder within another, `PATIENT/REPORT`."""
    sessions: dict[str, list[str]] = {}
    for file in sorted(volumes.files):
        for pair in pairwise(file.split("/")[:-1]):
            sessions.setdefault("/".join(pair), []).append(file)
    return sessions
