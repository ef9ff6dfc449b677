"""The adapter for the layout of INSPECT: CTPA volumes with the impressions of their reports."""

from collections.abc import Iterator

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.settings import InspectSettings, InspectTables
from rlaif.datasets.splits import UNDIVIDED, official_split
from rlaif.datasets.study_table import DatasetError, StudyTable, stem_of
from rlaif.datasets.volume_lookup import Described, VolumeFiles, read_described
from rlaif.records import Study


def read_studies(settings: InspectSettings) -> StudyTable:
    """Read the studies of a folder in INSPECT's layout: each image of the mapping table is one.

    Volumes lie anywhere below the folder (originally in `CTPA/`). There are no findings. `test` is held out, `valid`
    goes with `train`. Rows without a volume, an impression's row or a split, and volumes without a row are
    quarantined. Raises DatasetError where a table or a column is absent, and for a patient on both sides of the split.
    """
    folder, columns, tables = DataFolder(settings.path), settings.columns, settings.tables
    for kind in InspectTables.model_fields:
        name = getattr(tables, kind)
        if not folder.is_file(name):
            raise DatasetError(f"{folder} holds no table {name}; name the release's own with data.tables.{kind}=FILE")
    impressions = _by_impression(folder, tables.impressions, columns.impression_id, columns.impression)
    splits = _by_impression(folder, tables.splits, columns.impression_id, columns.split)
    rows = _described(folder, settings, impressions, splits)
    return read_described(rows, VolumeFiles(folder), settings, tables.metadata, official=True)


def _by_impression(folder: DataFolder, table: str, key: str, column: str) -> dict[str, set[str]]:
    """What a table says of each impression: one text, unless its rows disagree (the original repeats some rows)."""
    said: dict[str, set[str]] = {}
    for _, row in read_rows(folder, table, (key, column)):
        said.setdefault(row[key].strip(), set()).add(row[column].strip())
    return said


def _described(
    folder: DataFolder, settings: InspectSettings, impressions: dict[str, set[str]], splits: dict[str, set[str]]
) -> Iterator[Described]:
    columns, tables = settings.columns, settings.tables
    needed = (columns.image_id, columns.patient_id, columns.impression_id)
    for line, row in read_rows(folder, tables.metadata, needed):
        image, impression_id = row[columns.image_id].strip(), row[columns.impression_id].strip()
        text, split, problem = "", UNDIVIDED, None
        try:
            text = _only(impressions, impression_id, tables.impressions)
            split = official_split(_only(splits, impression_id, tables.splits))
        except DatasetError as error:
            problem = str(error)
        study = Study(
            study_id=stem_of(image),
            patient_id=row[columns.patient_id].strip(),
            source="inspect",
            split=split,
            impression=text_or_none(text),
        )
        yield Described(study, f"{tables.metadata}, line {line}", image, problem)


def _only(said: dict[str, set[str]], impression_id: str, table: str) -> str:
    found = said.get(impression_id, set())
    if len(found) != 1:
        many = "no row" if not found else f"{len(found)} rows that disagree"
        raise DatasetError(f"{table} has {many} for the impression {impression_id[:80]!r}")
    return next(iter(found))
