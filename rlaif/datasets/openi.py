"""The adapter for the Open-I chest X-ray reports: text only, as XML files or as one CSV table."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.settings import OpeniColumns, OpeniSettings
from rlaif.datasets.splits import UNDIVIDED, divide
from rlaif.datasets.study_table import READ_STAGE, DatasetError, StudyTable, check_id
from rlaif.records import Quarantined, Study
from rlaif.reports.redactions import without_redactions
from rlaif.storage import file_name, parent_of

XML_FOLDER = "ecgen-radiology"
CSV_NAME = "indiana_reports.csv"
MAX_XML_BYTES = 2**20


def read_studies(settings: OpeniSettings) -> StudyTable:
    """Read the Open-I reports below a folder, or from the CSV form; every report is a patient of its own.

    `settings.path` is the folder of the XML files (or the one above it), the folder of the CSV
    table, or that table. Marks of redaction are taken out of the text. Reports without findings or
    impression, and files that are not well-formed, are quarantined. Raises DatasetError where the
    path holds neither form.
    """
    studies: list[Study] = []
    quarantined: list[Quarantined] = []
    seen: set[str] = set()
    for study_id, path, findings, impression, problem in _reports(settings):
        absent = [name for name, text in (("findings", findings), ("impression", impression)) if text is None]
        if problem is None and absent:
            problem = f"the report has no {' and no '.join(absent)}"
        if problem is None and study_id in seen:
            study_id, problem = f"{study_id}#{path}", "a report of the same id was read before"
        if problem is not None:
            quarantined.append(Quarantined(study_id, path, READ_STAGE, problem))
            continue
        seen.add(study_id)
        studies.append(
            Study(study_id, study_id, source="openi", split=UNDIVIDED, findings=findings, impression=impression)
        )
    return StudyTable(divide(studies, settings.split, settings.seed, settings.limit), quarantined, len(studies))


_Report = tuple[str, str, str | None, str | None, str | None]


def _reports(settings: OpeniSettings) -> Iterator[_Report]:
    """Each report as (study id, path, findings, impression, what is wrong with it)."""
    if settings.path.lower().endswith(".csv"):
        table = file_name(settings.path)
        return _csv_reports(DataFolder(parent_of(settings.path)), table, settings.columns)
    folder = DataFolder(settings.path)
    for subfolder in (XML_FOLDER, ""):
        files = [file for file in folder.files_below(subfolder) if file.endswith(".xml")]
        if files:
            return _xml_reports(folder, sorted(files, key=lambda file: (len(file), file)))
    if folder.is_file(CSV_NAME):
        return _csv_reports(folder, CSV_NAME, settings.columns)
    raise DatasetError(
        f"{folder} holds no Open-I reports; set data.path to the folder with {XML_FOLDER}/*.xml or with {CSV_NAME}"
    )


def _xml_reports(folder: DataFolder, files: list[str]) -> Iterator[_Report]:
    for file in files:
        name = PurePosixPath(file).name
        stem = name.removesuffix(".xml")
        try:
            if folder.size(file) > MAX_XML_BYTES:
                yield stem, name, None, None, f"the file is larger than {MAX_XML_BYTES} bytes"
                continue
            with folder.open(file) as content:
                root = fromstring(content.read(), forbid_dtd=True)
        except (DatasetError, FileNotFoundError) as error:
            yield stem, name, None, None, str(error)
            continue
        except (ParseError, DefusedXmlException, ValueError) as error:
            yield stem, name, None, None, f"not well-formed XML, or XML with entities: {error}"
            continue
        uid = root.find("uId")
        study_id = "" if uid is None else uid.get("id", "")
        sections: dict[str, list[str]] = {}
        for section in root.iter("AbstractText"):
            sections.setdefault(section.get("Label", "").upper(), []).append("".join(section.itertext()))
        findings, impression = (_clean(" ".join(sections.get(name, ()))) for name in ("FINDINGS", "IMPRESSION"))
        yield study_id or stem, name, findings, impression, _id_problem(study_id or stem)


def _csv_reports(folder: DataFolder, table: str, columns: OpeniColumns) -> Iterator[_Report]:
    for line, row in read_rows(folder, table, (columns.study_id, columns.findings, columns.impression)):
        study_id = row[columns.study_id].strip()
        problem = _id_problem(study_id)
        findings, impression = _clean(row[columns.findings]), _clean(row[columns.impression])
        yield study_id if problem is None else f"line-{line}", f"{table}#line-{line}", findings, impression, problem


def _clean(text: str) -> str | None:
    return text_or_none(without_redactions(text))


def _id_problem(study_id: str) -> str | None:
    try:
        check_id("report id", study_id)
    except DatasetError as error:
        return str(error)
    return None
