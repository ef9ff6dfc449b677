"""The CTRG-Chest-548K layout: an annotation file, labels, bad entries and the official split."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.registry import load
from rlaif.datasets.reports_json import read_json
from rlaif.datasets.settings import CtrgSettings
from rlaif.datasets.study_table import DatasetError, StudyTable
from rlaif.records import Study

LABELS = (
    "enlarged_cardiomediastinum,cardiomegaly,lung_opacity,lung_lesion,edema,consolidation,pneumonia,atelectasis,"
    "pneumothorax,pleural_effusion,pleural_other,fracture,support_devices,no_finding,id\n"
)


def write_volumes(root: Path, *names: str) -> None:
    for name in names:
        path = root / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"volume")


def write_annotation(root: Path, annotation: Any) -> None:
    (root / "annotation.json").write_text(json.dumps(annotation), encoding="utf-8")


def read(root: Path, **settings: object) -> StudyTable:
    return load(CtrgSettings.model_validate({"path": root, **settings}))


def test_entries_become_studies_and_the_test_split_is_held_out(tmp_path: Path) -> None:
    write_volumes(tmp_path, "11", "volumes/12", "volumes/13", "14")
    annotation = {
        "train": [
            {"id": 11, "finding": "Clear  lungs.\n", "image_path": ["11"]},
            {"id": "14.nii.gz", "finding": "not given", "impression": None, "image_path": []},
        ],
        "val": [{"id": "12", "findings": "结节。", "impression": "Nodule.", "image_path": "volumes/12.nii.gz"}],
        "test": [{"id": "13", "image_path": ["volumes/13.nii.gz"], "finding": ""}],
    }
    write_annotation(tmp_path, annotation)
    table = read(tmp_path, split={"sft": 0.6, "align": 0.0, "heldout": 0.4}, empty_reports="keep")
    assert table.quarantined == []
    assert {one.study_id for one in read(tmp_path).quarantined} == {"13", "14"}
    assert table.studies == [
        Study("11", "11", "ctrg", "sft", volume=str(tmp_path / "11.nii.gz"), findings="Clear lungs."),
        Study("14", "14", "ctrg", "sft", volume=str(tmp_path / "14.nii.gz")),
        Study("12", "12", "ctrg", "sft", str(tmp_path / "volumes/12.nii.gz"), "结节。", "Nodule."),
        Study("13", "13", "ctrg", "heldout", volume=str(tmp_path / "volumes/13.nii.gz")),
    ]


def test_without_a_test_split_all_are_divided(tmp_path: Path) -> None:
    write_volumes(tmp_path, *(str(number) for number in range(60)))
    write_annotation(tmp_path, {"train": [{"id": number, "report": "Clear."} for number in range(60)], "test": []})
    table = read(tmp_path, keys={"findings": ["report"]})
    assert {one.split for one in table.studies} == {"sft", "align", "heldout"}
    assert {one.findings for one in table.studies} == {"Clear."}
    limited = read(tmp_path, limit=2, keys={"findings": ["report"]})
    assert sorted(one.split for one in limited.studies) == ["align"] * 2 + ["heldout"] * 2 + ["sft"] * 2
    assert limited.readable == 60


def test_labels_are_the_positive_ones_that_ct_rate_names(tmp_path: Path) -> None:
    write_volumes(tmp_path, "1", "2", "3")
    write_annotation(tmp_path, {"train": [{"id": number, "finding": "Text."} for number in (1, 2, 3)]})
    table = tmp_path / "CTRG_finding_labels.csv"
    table.write_text(LABELS + "1,1,2,1,0,1.0,1,0,1,1,3,0,1,0,1\n0,2,3,0,0,0,0,0,0,2,0,0,0,1,2\n")
    labels = {one.study_id: one.labels for one in read(tmp_path, labels=table.name).studies}
    assert labels == {"1": ("cardiomegaly", "consolidation", "pleural effusion"), "2": (), "3": None}
    assert {one.labels for one in read(tmp_path).studies} == {None}
    table.write_text(LABELS + "1,-1,2,1,0,1,1,0,1,1,3,0,1,0,1\n")
    with pytest.raises(DatasetError, match="line 2: 'cardiomegaly' is '-1' where 0, 1, 2 or 3 belongs"):
        read(tmp_path, labels=table.name)
    table.write_text(LABELS.replace("lung_opacity", "lung opacity"))
    with pytest.raises(DatasetError, match=r"lacks the column 'lung_opacity' \(nearest: 'lung opacity'\)"):
        read(tmp_path, labels=table.name)


def test_entries_that_cannot_be_used_are_quarantined_with_their_reason_and_counts_add_up(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_volumes(tmp_path, "secret")
    write_volumes(root, "1", "4", "a/5", "b/5", "99")
    (root / "3.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    entries = [
        {"id": 1, "finding": "Clear."},
        {"id": 2, "finding": "Clear."},
        {"id": 3, "finding": "Clear."},
        {"id": 4, "finding": ["Clear."]},
        {"id": 5, "finding": "Clear."},
        {"id": 6, "finding": "Clear.", "image_path": "../secret.nii.gz"},
        {"id": 7, "finding": "Clear.", "image_path": str(tmp_path / "secret.nii.gz")},
        {"id": "../8", "finding": "Clear."},
        {"id": True, "finding": "Clear."},
        {"finding": "Clear."},
        "Clear.",
        {"id": "1", "finding": "Again."},
    ]
    write_annotation(root, {"train": entries})
    table = read(root)
    assert [(study.study_id, study.findings) for study in table.studies] == [("1", "Clear.")]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    # The two volumes that entry 5 may mean and the one that nobody names are told as well.
    assert len(table.studies) + len(table.quarantined) == len(entries) + 3
    assert "annotation.json, train 2: the volume is not on disk" in reasons["2"]
    assert "leads out of the data folder" in reasons["3"]
    assert "the findings are no text" in reasons["4"]
    assert "5 may be a/5.nii.gz or b/5.nii.gz" in reasons["5"]
    assert "not a plain path" in reasons["6"]
    assert "not a plain path" in reasons["7"]
    assert "not on disk" in reasons["8"]
    assert "study_id ''" in reasons["annotation.json#train-9"]
    assert "study_id ''" in reasons["annotation.json#train-10"]
    assert "the entry is no object with keys" in reasons["annotation.json#train-11"]
    assert "the study id is taken by" in reasons["1#repeated"]
    assert "no row of annotation.json names this volume" in reasons["99.nii.gz#unlisted"]
    skipped = read(root, missing_volumes="skip", unlisted_volumes="skip")
    assert len(skipped.studies) + len(skipped.quarantined) + 2 == len(entries)


def test_an_id_on_both_sides_of_the_official_split_stops(tmp_path: Path) -> None:
    write_volumes(tmp_path, "1")
    write_annotation(tmp_path, {"train": [{"id": 1, "finding": "A."}], "test": [{"id": "1", "finding": "A."}]})
    with pytest.raises(DatasetError, match=r"1 patients are in more than one split \(1 in heldout and sft"):
        read(tmp_path)


def test_unusable_annotation_files_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"annotation\.json does not exist"):
        read(tmp_path)
    write_annotation(tmp_path, {"train": {"id": 1}})
    with pytest.raises(DatasetError, match=r"annotation\.json: 'train' is no list of entries"):
        read(tmp_path)
    write_annotation(tmp_path, {"extra": []})
    with pytest.raises(DatasetError, match="split 'extra' is none of train"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[]", "holds a list where an object belongs"),
        (b"7", "holds a single value where an object belongs"),
        (b'{"train": [', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"train": "\xff"}', "not UTF-8 text"),
        (rb'{"train": "\ud83d"}', "not UTF-8 text"),
    ],
)
def test_json_that_cannot_be_used_is_one_clear_error(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "annotation.json").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"annotation\.json.*{reason}"):
        read(tmp_path)


def test_json_is_read_with_its_marks_of_order_and_pairs(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_bytes(b"\xef\xbb\xbf" + rb'["\ud83d\ude00"]')
    assert read_json(DataFolder(tmp_path), "list.json", list) == ["\U0001f600"]


def test_json_larger_than_its_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlaif.datasets.reports_json.MAX_JSON_BYTES", 10)
    write_annotation(tmp_path, {"train": []})
    with pytest.raises(DatasetError, match="larger than 10 bytes"):
        read(tmp_path)


def test_a_bucket_gives_the_studies_of_the_disk(tmp_path: Path, bucket: Any) -> None:
    write_volumes(tmp_path, "volumes/1")
    write_annotation(tmp_path, {"train": [{"id": 1, "finding": "Clear."}]})
    (study,) = load(CtrgSettings(path=bucket.upload(tmp_path, "ctrg"))).studies
    assert (study.findings, study.volume) == ("Clear.", bucket.location("ctrg/volumes/1.nii.gz"))
