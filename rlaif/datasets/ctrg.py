"""The adapter for the layout of CTRG-Chest-548K."""

from collections.abc import Iterator
from typing import Any

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import read_rows, text_or_none
from rlaif.datasets.reports_json import read_json
from rlaif.datasets.settings import CtrgSettings
from rlaif.datasets.splits import official_split
from rlaif.datasets.study_table import DatasetError, StudyTable, is_volume, stem_of
from rlaif.datasets.volume_lookup import Described, VolumeFiles, read_described
from rlaif.records import Study

# Those of CheXbert's 14 labels that are among CT-RATE's 18, and its marks: blank, positive, negative, uncertain.
_LABELS = ("cardiomegaly", "lung_opacity", "consolidation", "atelectasis", "pleural_effusion")
_MARKS = ("0", "1", "2", "3")


def read_studies(settings: CtrgSettings) -> StudyTable:
    """Read the studies of a folder in CTRG-Chest-548K's layout: each entry of the annotation file is one.

    There are no patients' ids: each study is taken as a patient of its own. Volumes lie anywhere below the folder.
    Entries without a usable id, text or volume, and volumes without an entry are quarantined. Raises DatasetError
    where the annotation file is absent or of another form, for an id on both sides of the official split, and for
    label tables with other columns or marks.
    """
    folder = DataFolder(settings.path)
    annotation = read_json(folder, settings.annotation)
    for split, entries in annotation.items():
        official_split(split)
        if not isinstance(entries, list):
            raise DatasetError(f"{settings.annotation}: {split!r} is no list of entries")
    labels = {} if settings.labels is None else _read_labels(folder, settings.labels, settings.keys.study_id)
    rows = _described(settings, annotation, labels)
    official = bool(annotation.get("test"))
    return read_described(rows, VolumeFiles(folder), settings, settings.annotation, official=official)


def _described(
    settings: CtrgSettings, annotation: dict[str, list[Any]], labels: dict[str, tuple[str, ...]]
) -> Iterator[Described]:
    keys = settings.keys
    for split, entries in annotation.items():
        for number, entry in enumerate(entries, 1):
            problem = None
            if not isinstance(entry, dict):
                entry, problem = {}, "the entry is no object with keys"
            study_id, path = stem_of(_id_of(entry.get(keys.study_id))), entry.get(keys.path) if keys.path else None
            findings = next((entry[key] for key in keys.findings if key in entry), None)
            texts = {"findings": findings, "impression": entry.get(keys.impression)}
            for name, text in texts.items():
                if not isinstance(text, str | None):
                    texts[name], problem = None, f"the {name} are no text"
            # Some copies hold lists, and some the folder of the slices that a volume was made of.
            path = path[0] if isinstance(path, list) and path else path
            study = Study(
                study_id=study_id,
                patient_id=study_id,
                source="ctrg",
                split=official_split(split),
                findings=text_or_none(texts["findings"]),
                impression=text_or_none(texts["impression"]),
                labels=labels.get(study_id),
            )
            volume = path if isinstance(path, str) and is_volume(path) else study_id
            yield Described(study, f"{settings.annotation}, {split} {number}", volume, problem)


def _id_of(value: Any) -> str:
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _read_labels(folder: DataFolder, table: str, key: str) -> dict[str, tuple[str, ...]]:
    """The findings that the table marks as present, by study id."""
    labels = {}
    for line, row in read_rows(folder, table, (key, *_LABELS)):
        marks = {name: row[name].strip().removesuffix(".0") for name in _LABELS}
        unknown = [f"{name!r} is {mark!r}" for name, mark in marks.items() if mark not in _MARKS]
        if unknown:
            raise DatasetError(f"table {table}, line {line}: {unknown[0]} where 0, 1, 2 or 3 belongs")
        labels[stem_of(row[key].strip())] = tuple(name.replace("_", " ") for name, mark in marks.items() if mark == "1")
    return labels
