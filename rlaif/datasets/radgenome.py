"""The adapter for the layout of RadGenome-ChestCT: CT-RATE's volumes with a mask and sentences for each region."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rlaif.datasets.ct_rate import VOLUME_NAME, find_table, read_labels, volume_folders
from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.settings import CtRateColumns, RadgenomeColumns, RadgenomeSettings
from rlaif.datasets.study_table import DatasetError, StudyTable, is_volume, stem_of
from rlaif.datasets.volume_lookup import Described, VolumeFiles, read_described
from rlaif.records import Split, Study
from rlaif.reports.regions import REGIONS, region_of

_BASES = ("dataset/", "")
_TABLES = {"train": "train_region_report.csv", "valid": "validation_region_report.csv"}
_CT_RATE_TABLES = {"train": "train_reports.csv", "valid": "validation_reports.csv"}
_OFFICIAL: dict[str, Split] = {"train": "sft", "valid": "heldout"}
_MASK_FOLDER = "seg_"


def read_studies(settings: RadgenomeSettings, source: str = "radgenome") -> StudyTable:
    """Read the studies of a folder in RadGenome-ChestCT's layout; each volume that has sentences is one.

    Volumes, in HU, lie below `{train,valid}_preprocessed/` or where `ct_rate` has the corrected release, masks are
    `{train,valid}_region_mask/seg_VOLUME/REGION.nii.gz`, and sentences stand in
    `radgenome_files/{train,validation}_region_report.csv`; each of these may lie in the folder or in its `dataset/`.
    Sentences of one region are joined in their order. A row without anatomy holds the whole report, which becomes the
    findings unless CT-RATE's tables are there too. The patient is the first two parts of the volume's name. Rows
    without a usable name or volume, and volumes without a row, are quarantined. Raises DatasetError where no table of
    sentences is there, or one lacks a column.
    """
    folder = DataFolder(settings.path)
    tables = {
        side: table for side, name in _TABLES.items() if (table := find_table(folder, "radgenome_files", (name,)))
    }
    if not tables:
        raise DatasetError(
            f"{folder} holds no table of region sentences; expected radgenome_files/{_TABLES['train']} or "
            f"{_TABLES['valid']} there or in its folder dataset"
        )
    rows = (row for side, table in tables.items() for row in _described(settings, folder, side, table, source))
    places = [f"{base}{side}_preprocessed" for base in _BASES for side in tables]
    places += [place for side in tables for place in volume_folders(folder, side, "fixed")]
    return read_described(rows, VolumeFiles(folder, places), settings, " and ".join(tables.values()), official=True)


@dataclass
class _Sentences:
    """What a table says of one volume, each sentence once and in its order."""

    name: str
    line: int
    whole: dict[str, None] = field(default_factory=dict)
    regions: dict[str, dict[str, None]] = field(default_factory=dict)
    elsewhere: dict[str, None] = field(default_factory=dict)

    def report(self) -> str | None:
        """The whole report or, without one, the regions' sentences; then what lies in none of the ten regions."""
        of_regions = (sentence for region in REGIONS for sentence in self.regions.get(region, ()))
        text = " ".join(self.whole or dict.fromkeys(of_regions))
        return " ".join([text, *(one for one in self.elsewhere if one not in text)]).strip() or None


def _described(
    settings: RadgenomeSettings, folder: DataFolder, side: str, table: str, source: str
) -> Iterator[Described]:
    masks, labels = _masks(folder, side), read_labels(folder, side)
    reports = _ct_rate_reports(folder, side, settings.ct_rate)
    for study_id, said in _sentences(folder, table, settings.columns).items():
        match, problem = VOLUME_NAME.fullmatch(study_id), None
        regions: dict[str, tuple[str, ...]] = {}
        if match is None or match[2] != side:
            problem = f"{said.name[:80]!r} is no volume name of the form {side}_1_a_1.nii.gz"
        try:
            found = masks.get(study_id, {})
            regions = {region: (folder.locate(found[region]),) for region in REGIONS if region in found}
        except DatasetError as error:
            problem = problem or str(error)
        findings, impression = reports.get(study_id, (None, None))
        study = Study(
            study_id=study_id,
            patient_id="" if match is None else match[1],
            source=source,
            split=_OFFICIAL[side],
            findings=findings or said.report(),
            impression=impression,
            regions=regions or None,
            labels=labels.get(study_id),
            region_reports={one: " ".join(said.regions[one]) for one in REGIONS if one in said.regions} or None,
        )
        yield Described(study, f"{table}, line {said.line}", said.name, problem)


def _sentences(folder: DataFolder, table: str, columns: RadgenomeColumns) -> dict[str, _Sentences]:
    """What the table says of each volume, by the volume's name without its ending."""
    volumes: dict[str, _Sentences] = {}
    for line, row in read_rows(folder, table, (columns.volume, columns.anatomy, columns.sentence)):
        name = row[columns.volume].strip()
        said = volumes.setdefault(stem_of(name), _Sentences(name, line))
        sentence, anatomy = text_or_none(row[columns.sentence]), text_or_none(row[columns.anatomy])
        if sentence is None:
            continue
        region = None if anatomy is None else region_of(anatomy)
        if region is not None:
            said.regions.setdefault(region, {})[sentence] = None
        elif anatomy is None:
            said.whole[sentence] = None
        else:
            said.elsewhere[sentence] = None
    return volumes


def _masks(folder: DataFolder, side: str) -> dict[str, dict[str, str]]:
    """The file of each region's mask, by volume."""
    masks: dict[str, dict[str, str]] = {}
    files: Iterable[str] = (file for base in _BASES for file in folder.files_below(f"{base}{side}_region_mask"))
    for file in filter(is_volume, files):
        parent, region = file.split("/")[-2], region_of(stem_of(file))
        if parent.startswith(_MASK_FOLDER) and region is not None:
            masks.setdefault(parent.removeprefix(_MASK_FOLDER), {}).setdefault(region, file)
    return masks


def _ct_rate_reports(folder: DataFolder, side: str, columns: CtRateColumns) -> dict[str, tuple[str | None, str | None]]:
    """Findings and impression of each volume from CT-RATE's table; empty where that is not there."""
    table = find_table(folder, "radiology_text_reports", (_CT_RATE_TABLES[side],))
    if table is None:
        return {}
    return {
        stem_of(row[columns.volume].strip()): (
            text_or_none(row[columns.findings]),
            text_or_none(row[columns.impression]),
        )
        for _, row in read_rows(folder, table, (columns.volume, columns.findings, columns.impression))
    }
