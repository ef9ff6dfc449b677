"""The adapter for the layout of AbdomenAtlas 3.0: abdominal CTs with reports, and a mask for each organ."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.settings import AbdomenAtlasSettings
from rlaif.datasets.splits import UNDIVIDED
from rlaif.datasets.study_table import DatasetError, StudyTable, is_volume, stem_of
from rlaif.datasets.volume_lookup import Described, VolumeFiles, read_described
from rlaif.records import Split, Study
from rlaif.reports.sections import split_sections

_TABLES = ("AbdomenAtlas3.0MiniWithMeta.csv", "AbdomenAtlas3.0.csv")
_SPLITS = "TrainTestIDS"
# The release's structures by the region of RadGenome-ChestCT that they lie in; rectum, bladder, prostate and stents lie
# in none. The scans are of the abdomen, and so is what they show of the aorta.
# fmt: off
_REGIONS = {
    "abdomen": (
        "adrenal_gland_left", "adrenal_gland_right", "aorta", "celiac_aa", "celiac_artery", "celiac_trunk", "colon",
        "colon_lesion", "common_bile_duct", "duodenum", "gall_bladder", "hepatic_vessel", "intestine", "kidney_cyst",
        "kidney_left", "kidney_lesion", "kidney_right", "kidney_tumor", "liver", "liver_cyst", "liver_lesion",
        *(f"liver_segment_{number}" for number in range(1, 9)), "liver_tumor", "pancreas", "pancreas_body",
        "pancreas_head", "pancreas_tail", "pancreatic_cyst", "pancreatic_duct", "pancreatic_lesion", "pancreatic_pdac",
        "pancreatic_pnet", "pancreatic_tumor", "portal_vein_and_splenic_vein", "postcava", "renal_vein_left",
        "renal_vein_right", "spleen", "stomach", "superior_mesenteric_artery", "veins",
    ),
    "bone": ("femur_left", "femur_right"),
    "esophagus": ("esophagus",),
    "heart": ("heart",),
    "lung": ("lung_left", "lung_right"),
}
# fmt: on
_REGION_OF = {structure: region for region, structures in _REGIONS.items() for structure in structures}


def read_studies(settings: AbdomenAtlasSettings) -> StudyTable:
    """Read the studies of a folder in AbdomenAtlas 3.0's layout: each row of the table is one.

    Volumes (`BDMAP_00000001/ct.nii.gz`) and masks (`BDMAP_00000001/segmentations/*.nii.gz`) may lie in any folder
    below, the same or two. A report with headers is cut into findings and impression, another one is all findings.
    `regions` holds the masks that are there of structures in the ten regions; other masks are left out. There are no
    patients' ids: each scan is taken as a patient of its own. Scans that the official split does not name go with its
    training part. Rows without a usable volume or report, and volumes without a row, are quarantined. Raises
    DatasetError where a table or a column is absent, and for a scan on both sides of the official split.
    """
    folder = DataFolder(settings.path)
    table = settings.table or next((name for name in _TABLES if folder.is_file(name)), None)
    if table is None:
        raise DatasetError(f"{folder} holds no {' or '.join(_TABLES)}; name the table with data.table=FILE")
    volumes = VolumeFiles(folder, wanted=_is_ct)
    sides = None if settings.official is None else _read_sides(folder, settings.official, settings.columns.study_id)
    rows = _described(folder, table, settings, volumes, _masks(folder.files_below()), sides)
    return read_described(rows, volumes, settings, table, official=sides is not None)


def _is_ct(file: str) -> bool:
    return is_volume(file) and stem_of(file) == "ct"


def _masks(files: list[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """The masks of each scan by region."""
    masks: dict[str, dict[str, tuple[str, ...]]] = {}
    for file in files:
        parts, region = PurePosixPath(file).parts, _REGION_OF.get(stem_of(file))
        if region is not None and len(parts) > 2 and parts[-2] == "segmentations":
            regions = masks.setdefault(parts[-3], {})
            regions[region] = (*regions.get(region, ()), file)
    return masks


def _read_sides(folder: DataFolder, official: str, column: str) -> dict[str, Split]:
    """The side of each scan that the official split names."""
    sides: dict[str, Split] = {}
    parts: tuple[tuple[str, Split], ...] = (("train", "sft"), ("test", "heldout"))
    for name, side in parts:
        table = f"{_SPLITS}/{official}_{name}.csv"
        if not folder.is_file(table):
            raise DatasetError(
                f"{folder} holds no {table}; put the official split there, or divide all scans with data.official=null"
            )
        for line, row in read_rows(folder, table, (column,)):
            study_id = row[column].strip()
            if sides.setdefault(study_id, side) != side:
                raise DatasetError(f"{table}, line {line}: {study_id[:80]} is in the official training part as well")
    return sides


def _described(
    folder: DataFolder,
    table: str,
    settings: AbdomenAtlasSettings,
    volumes: VolumeFiles,
    masks: dict[str, dict[str, tuple[str, ...]]],
    sides: dict[str, Split] | None,
) -> Iterator[Described]:
    columns = settings.columns
    scans: dict[str, list[str]] = {}
    for file in sorted(volumes.files):
        scans.setdefault(PurePosixPath(file).parent.name, []).append(file)
    for line, row in read_rows(folder, table, (columns.study_id, columns.report)):
        study_id = row[columns.study_id].strip()
        files = scans.get(study_id, [])
        sections = {name: text_or_none(text) for name, text in split_sections(row[columns.report]).items()}
        regions, problem = None, None
        try:
            regions = {
                region: tuple(folder.locate(mask) for mask in found)
                for region, found in masks.get(study_id, {}).items()
            }
            if len(files) > 1:
                problem = f"the scan lies in {files[0]} and in {files[1]}; keep one of them below the data folder"
        except DatasetError as error:
            problem = str(error)
        study = Study(
            study_id=study_id,
            patient_id=study_id,
            source="abdomen_atlas",
            split=UNDIVIDED if sides is None else sides.get(study_id, "sft"),
            findings=sections.get("findings"),
            impression=sections.get("impression"),
            regions=regions or None,
        )
        yield Described(study, f"{table}, line {line}", files[0] if files else f"{study_id}/ct.nii.gz", problem)
