"""The adapter for the layout of AMOS-MM: abdominal CTs with reports of chest, abdomen and pelvis."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import text_or_none
from rlaif.datasets.reports_json import read_json
from rlaif.datasets.settings import AmosMmSettings
from rlaif.datasets.study_table import DatasetError, StudyTable, is_volume, stem_of
from rlaif.datasets.volume_lookup import Described, VolumeFiles, read_described
from rlaif.records import Split, Study

_SIDES: dict[str, Split] = {"training": "sft", "validation": "heldout", "test": "heldout"}
_PARTS = ("chest", "abdomen", "pelvis")


def read_studies(settings: AmosMmSettings) -> StudyTable:
    """Read the studies of a folder in AMOS-MM's layout: each item of the table's lists is one.

    Findings are the parts of the report in the order chest, abdomen, pelvis; questions are left out. The parts are no
    regions of RadGenome-ChestCT's, so that `region_reports` stays None. There are no patients' ids: each image is
    taken as a patient of its own. `validation` is held out, and `test` where it has reports (its items without labels
    are left out: theirs are not published). Items without a usable image or report, and images without an item are
    quarantined. Raises DatasetError where the table is absent or of another form, and for an image on both sides.
    """
    folder = DataFolder(settings.path)
    table = read_json(folder, settings.table)
    lists = {name: table[name] for name in _SIDES if name in table}
    if not lists or any(not isinstance(items, list) for items in lists.values()):
        raise DatasetError(f"{settings.table} holds no lists {', '.join(_SIDES)}; name the table with data.table=FILE")
    volumes = VolumeFiles(folder, wanted=_is_image)
    return read_described(_described(settings.table, lists), volumes, settings, settings.table, official=True)


def _is_image(file: str) -> bool:
    """Whether a file is a CT: organ masks lie in the folders beside `imagesTr`, `imagesVa` and `imagesTs`."""
    return is_volume(file) and any(part.startswith("images") for part in PurePosixPath(file).parts[:-1])


def _described(table: str, lists: dict[str, list[Any]]) -> Iterator[Described]:
    for name, items in lists.items():
        for number, item in enumerate(items, 1):
            if name == "test" and isinstance(item, dict) and "labels" not in item:
                continue
            image, findings, problem = "", None, None
            try:
                image = _image_of(item)
                findings = _findings_of(item)
            except DatasetError as error:
                problem = str(error)
            study_id = stem_of(image)
            study = Study(study_id, study_id, source="amos_mm", split=_SIDES[name], findings=findings)
            yield Described(study, f"{table}, {name} {number}", image, problem)


def _image_of(item: Any) -> str:
    image = item.get("image") if isinstance(item, dict) else None
    if not isinstance(image, str):
        raise DatasetError("the item names no image")
    return image.strip()


def _findings_of(item: dict[str, Any]) -> str | None:
    """The report's parts in one text, None where all are empty; raises DatasetError where they are no texts."""
    parts: Any = item
    for key in ("labels", "report", "findings"):
        parts = parts.get(key) if isinstance(parts, dict) else None
    if not isinstance(parts, dict):
        raise DatasetError("the item has no labels.report.findings")
    said = {name: parts.get(name) for name in _PARTS}
    wrong = [name for name, text in said.items() if not isinstance(text, str | None)]
    if wrong:
        raise DatasetError(f"the findings of the {wrong[0]} are no text")
    texts = [text for part in said.values() if (text := text_or_none(part))]
    return " ".join(texts) or None
