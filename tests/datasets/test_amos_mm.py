"""The AMOS-MM layout: parts of a report in their order, the official validation part held out."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlaif.datasets.registry import load
from rlaif.datasets.settings import AmosMmSettings
from rlaif.datasets.study_table import DatasetError, StudyTable
from rlaif.records import Study


def item(image: str, chest: Any = "", abdomen: Any = "Liver is normal.", pelvis: Any = "") -> dict[str, Any]:
    report = {"findings": {"chest": chest, "abdomen": abdomen, "pelvis": pelvis}}
    questions = [{"question": "Is the liver enlarged?", "options": {"A": "yes", "B": "no"}, "answer": "B"}]
    return {"image": f"./{image}", "meta": {"age": 60}, "labels": {"report": report, "qa": questions}}


def write_set(root: Path, lists: dict[str, Any], images: list[str], table: str = "dataset.json") -> None:
    root.mkdir(exist_ok=True)
    (root / table).write_text(json.dumps(lists), encoding="utf-8")
    for image in images:
        path = root / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"volume")


def read(root: Path, **settings: object) -> StudyTable:
    return load(AmosMmSettings.model_validate({"path": root, **settings}))


def test_parts_of_the_report_are_joined_and_validation_is_held_out(tmp_path: Path) -> None:
    train, valid, test = "imagesTr/amos_0001.nii.gz", "imagesVa/amos_0600.nii.gz", "imagesTs/amos_0700.nii.gz"
    lists = {
        "name": "AMOS",
        "training": [item(train, "Clear  lungs.", "Liver is\n normal.", "Bladder is normal.")],
        "validation": [item(valid, None, "Renal cyst.", "nan")],
        "test": [{"image": f"./{test}"}],
    }
    write_set(tmp_path, lists, [train, valid, "labelsTr/amos_0001.nii.gz"])
    for table in ("dataset.json", "report_generation_train_val.json"):
        (tmp_path / "dataset.json").rename(tmp_path / table)
        read_table = read(tmp_path, table=table, split={"sft": 1.0, "align": 0.0, "heldout": 0.0})
        assert read_table.studies == [
            Study(
                study_id="amos_0001",
                patient_id="amos_0001",
                source="amos_mm",
                split="sft",
                volume=str(tmp_path / train),
                findings="Clear lungs. Liver is normal. Bladder is normal.",
            ),
            Study(
                study_id="amos_0600",
                patient_id="amos_0600",
                source="amos_mm",
                split="heldout",
                volume=str(tmp_path / valid),
                findings="Renal cyst.",
            ),
        ]
        assert (read_table.quarantined, read_table.readable) == ([], 2)
        (tmp_path / table).rename(tmp_path / "dataset.json")


def test_items_that_cannot_be_used_are_quarantined_and_counts_add_up(tmp_path: Path) -> None:
    root = tmp_path / "set"
    secret = tmp_path / "secret.nii.gz"
    secret.write_bytes(b"outside")
    items: list[Any] = [
        item("imagesTr/amos_0001.nii.gz"),
        item("imagesTr/amos_0001.nii.gz", "Another."),
        item("../secret.nii.gz"),
        item("") | {"image": str(tmp_path / "absolute.nii.gz")},
        item("imagesTr/amos_0005.nii.gz"),
        item("imagesTr/amos_0006.nii.gz"),
        item("imagesTr/amos_0007.nii.gz", "", "", "None"),
        item("imagesTr/amos_0008.nii.gz", ["list"]),
        {"image": "./imagesTr/amos_0009.nii.gz", "labels": {"report": "text"}},
        {"image": 10},
        "amos_0011",
    ]
    images = [f"imagesTr/amos_000{number}.nii.gz" for number in (1, 7, 8, 9)]
    write_set(root, {"training": items}, [*images, "imagesTs/amos_0700.nii.gz"])
    (root / "imagesTr" / "amos_0005.nii.gz").symlink_to(secret)
    table = read(root)
    assert [one.study_id for one in table.studies] == ["amos_0001"]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    # Every item but the good one, and the image that no item names.
    assert len(table.quarantined) == len(reasons) == len(items)
    assert "the study id is taken" in reasons["amos_0001#repeated"]
    assert len([one for one in table.quarantined if "is not a plain path" in one.reason]) == 2
    assert "leads out of the data folder" in reasons["amos_0005"]
    assert "training 6: the volume is not on disk" in reasons["amos_0006"]
    assert reasons["amos_0007"].startswith("the report is empty")
    assert reasons["amos_0008"] == "dataset.json, training 8: the findings of the chest are no text"
    assert reasons["amos_0009"].endswith("the item has no labels.report.findings")
    assert reasons["dataset.json#training-10"] == "dataset.json, training 10: the item names no image"
    assert reasons["dataset.json#training-11"] == "dataset.json, training 11: the item names no image"
    assert "no row of dataset.json names this volume" in reasons["imagesTs/amos_0700.nii.gz#unlisted"]
    skipped = {one.study_id for one in read(root, missing_volumes="skip", unlisted_volumes="skip").quarantined}
    assert reasons.keys() - skipped == {"amos_0006", "imagesTs/amos_0700.nii.gz#unlisted"}


def test_a_test_part_with_reports_is_held_out_too(tmp_path: Path) -> None:
    lists = {"training": [item("imagesTr/amos_0001.nii.gz")], "test": [item("imagesTs/amos_0002.nii.gz")]}
    write_set(tmp_path, lists, ["imagesTr/amos_0001.nii.gz", "imagesTs/amos_0002.nii.gz"])
    splits = {one.study_id: one.split for one in read(tmp_path).studies}
    assert splits["amos_0002"] == "heldout"
    assert splits["amos_0001"] in ("sft", "align")


def test_an_image_on_both_sides_of_the_split_stops(tmp_path: Path) -> None:
    lists = {"training": [item("imagesTr/amos_0001.nii.gz")], "validation": [item("imagesVa/amos_0001.nii.gz")]}
    write_set(tmp_path, lists, ["imagesTr/amos_0001.nii.gz", "imagesVa/amos_0001.nii.gz"])
    with pytest.raises(DatasetError, match="amos_0001 in heldout and sft"):
        read(tmp_path)


def test_a_limit_is_of_each_split(tmp_path: Path) -> None:
    names = [f"imagesTr/amos_{number:04}.nii.gz" for number in range(40)]
    lists = {"training": [item(name) for name in names[:30]], "validation": [item(name) for name in names[30:]]}
    write_set(tmp_path, lists, names)
    table = read(tmp_path, limit=4, split={"sft": 0.5, "align": 0.5, "heldout": 0.0})
    assert sorted(one.split for one in table.studies) == ["align"] * 4 + ["heldout"] * 4 + ["sft"] * 4
    assert table.readable == 40


def test_unusable_tables_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.json does not exist"):
        read(tmp_path)
    for content in ({"train": []}, {"training": {}}):
        write_set(tmp_path, content, [])
        with pytest.raises(DatasetError, match="holds no lists training, validation, test"):
            read(tmp_path)
    (tmp_path / "dataset.json").write_bytes(b'{"training": ["\xff"]}')
    with pytest.raises(DatasetError, match="not UTF-8"):
        read(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="not valid JSON"):
        read(tmp_path)
