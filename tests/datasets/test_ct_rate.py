"""The CT-RATE layout: where things may lie, what becomes of bad rows, splits by patient."""

import csv
from pathlib import Path

import pytest

from rlaif.datasets.layout import SplitSettings
from rlaif.datasets.registry import load
from rlaif.datasets.settings import CtRateColumns, CtRateSettings
from rlaif.datasets.study_table import DatasetError, StudyTable
from rlaif.reports.findings import CT_RATE_LABELS

REPORTS = ("VolumeName", "Findings_EN", "Impressions_EN")


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_volume(folder: Path, name: str) -> None:
    patient, scan = "_".join(name.split("_")[:2]), "_".join(name.split("_")[:3])
    path = folder / patient / scan / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"volume")


def write_set(root: Path, train: list[str], valid: list[str]) -> None:
    """Volumes and tables with a plain report for each name."""
    dataset = root / "dataset"
    for side, names, table in (("train", train, "train"), ("valid", valid, "validation")):
        for name in names:
            write_volume(dataset / side, name)
        rows: list[tuple[object, ...]] = [(f"{name}.nii.gz", f"Findings of {name}.", "Normal.") for name in names]
        write_csv(dataset / "radiology_text_reports" / f"{table}_reports.csv", REPORTS, rows)


def read(root: Path, **settings: object) -> StudyTable:
    return load(CtRateSettings.model_validate({"path": root, **settings}))


def test_reports_labels_and_splits_come_together(tmp_path: Path) -> None:
    train = [
        f"train_{patient}_{scan}_{reconstruction}"
        for patient in range(1, 41)
        for scan in "ab"
        for reconstruction in (1, 2)
    ]
    write_set(tmp_path, train, ["valid_1_a_1", "valid_2_a_1"])
    marks = [1 if label in ("Emphysema", "Pleural effusion") else 0 for label in CT_RATE_LABELS]
    labels = tmp_path / "dataset" / "multi_abnormality_labels" / "valid_predicted_labels.csv"
    write_csv(labels, ("VolumeName", *CT_RATE_LABELS), [("valid_1_a_1.nii.gz", *marks)])
    table = read(tmp_path, split={"sft": 0.6, "align": 0.3, "heldout": 0.1})
    assert table.quarantined == []
    studies = {study.study_id: study for study in table.studies}
    assert list(studies) == [*train, "valid_1_a_1", "valid_2_a_1"]
    one = studies["valid_1_a_1"]
    assert (one.patient_id, one.split, one.source) == ("valid_1", "heldout", "ct_rate")
    assert (one.findings, one.impression) == ("Findings of valid_1_a_1.", "Normal.")
    assert one.labels == ("emphysema", "pleural effusion")
    assert studies["valid_2_a_1"].labels is None
    assert one.volume == str(tmp_path / "dataset/valid/valid_1/valid_1_a/valid_1_a_1.nii.gz")
    splits = [{study.split for study in table.studies if study.patient_id == f"train_{n}"} for n in range(1, 41)]
    assert all(len(found) == 1 for found in splits)
    sft = sum(found == {"sft"} for found in splits)
    assert 20 <= sft <= 34
    assert sft + sum(found == {"align"} for found in splits) == 40


def test_numbers_of_patients_can_follow_the_patients_numbers(tmp_path: Path) -> None:
    write_set(tmp_path, [f"train_{n}_a_1" for n in (10, 9, 2, 1)], ["valid_3_a_1", "valid_12_a_1"])
    table = read(tmp_path, split=SplitSettings(sft=2, align=1, heldout=1), order="number")
    assert {study.patient_id: study.split for study in table.studies} == {
        "train_1": "sft",
        "train_2": "sft",
        "train_9": "align",
        "valid_3": "heldout",
    }


def volume_places(table: StudyTable, root: Path) -> dict[str, str]:
    """The folder that each study's volume was taken from."""
    return {one.study_id: Path(str(one.volume)).relative_to(root).parts[0] for one in table.studies}


def test_tables_and_volumes_may_lie_at_the_top(tmp_path: Path) -> None:
    names = ("train_1_a_1", "train_2_a_1")
    write_csv(tmp_path / "train_reports.csv", REPORTS, [(name, "Clear.", "") for name in names])
    for name in names:
        write_volume(tmp_path / "train", name)
    assert volume_places(read(tmp_path), tmp_path) == dict.fromkeys(names, "train")


@pytest.mark.parametrize("base", ["", "dataset"])
def test_the_corrected_release_is_mixed_with_no_other(tmp_path: Path, base: str) -> None:
    names = ("train_1_a_1", "train_2_a_1")
    write_csv(tmp_path / "train_reports.csv", REPORTS, [(name, "Clear.", "") for name in names])
    for name in names:
        write_volume(tmp_path / "train", name)
    write_volume(tmp_path / base / "train_fixed", names[0])
    write_volume(tmp_path / "train", "train_3_a_1")
    table = read(tmp_path)
    assert volume_places(table, tmp_path / base) == {"train_1_a_1": "train_fixed"}
    (missing,) = table.quarantined
    assert missing.study_id == "train_2_a_1" and "not on disk" in missing.reason


METADATA = ("VolumeName", "RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing")


def test_the_original_release_takes_rescale_and_spacing_from_its_metadata(tmp_path: Path) -> None:
    train = [f"train_{number}_a_1" for number in range(1, 10)]
    write_set(tmp_path, train, ["valid_1_a_1"])
    write_volume(tmp_path / "dataset" / "train_fixed", train[0])
    plane = "[0.75, 0.75]"
    rows: list[tuple[object, ...]] = [
        (f"{train[0]}.nii.gz", 1, -1024, "[0.703125, 0.75]", 1.5),
        (f"{train[1]}.nii.gz", "one", -1024, plane, 1.5),
        (f"{train[2]}.nii.gz", 0, -1024, plane, 1.5),
        (f"{train[3]}.nii.gz", 1, "nan", plane, 1.5),
        (f"{train[4]}.nii.gz", 1, -1024, plane, -1.5),
        (f"{train[5]}.nii.gz", 1, -1024, "[0.75]", 1.5),
        (f"{train[6]}.nii.gz", 1, -1024, "[0.75, inf]", 1.5),
        (f"{train[7]}.nii.gz", "", "", "", ""),
    ]
    write_csv(tmp_path / "dataset" / "metadata" / "train_metadata.csv", METADATA, rows)
    valid = [("valid_1_a_1.nii.gz", "2.0", "-8192.0", "[1, 1]", "3")]
    write_csv(tmp_path / "dataset" / "metadata" / "validation_metadata.csv", METADATA, list(valid))
    table = read(tmp_path, release="original")
    first, second = table.studies
    assert (first.study_id, first.rescale, first.spacing_mm) == (train[0], (1.0, -1024.0), (1.5, 0.703125, 0.75))
    assert first.volume == str(tmp_path / "dataset/train/train_1/train_1_a/train_1_a_1.nii.gz")
    assert (second.study_id, second.rescale, second.spacing_mm) == ("valid_1_a_1", (2.0, -8192.0), (3.0, 1.0, 1.0))
    assert [one.study_id for one in table.quarantined] == train[1:]
    assert all("no usable rescale and spacing" in one.reason for one in table.quarantined)
    fixed = read(tmp_path).studies
    assert [(one.study_id, one.rescale, one.spacing_mm) for one in fixed] == [
        (train[0], None, None),
        ("valid_1_a_1", None, None),
    ]


def test_the_original_release_is_not_looked_for_among_the_corrected_volumes(tmp_path: Path) -> None:
    write_set(tmp_path, ["train_1_a_1"], [])
    (tmp_path / "dataset" / "train").rename(tmp_path / "dataset" / "train_fixed")
    metadata = tmp_path / "dataset" / "metadata"
    write_csv(metadata / "train_metadata.csv", METADATA, [("train_1_a_1.nii.gz", 1, -1024, "[0.75, 0.75]", 1.5)])
    write_csv(metadata / "validation_metadata.csv", METADATA, [])
    table = read(tmp_path, release="original")
    assert table.studies == [] and "not on disk" in table.quarantined[0].reason
    assert read(tmp_path, release="original", missing_volumes="skip").quarantined == []


def test_the_original_release_needs_its_metadata_table(tmp_path: Path) -> None:
    write_set(tmp_path, ["train_1_a_1"], [])
    with pytest.raises(DatasetError, match=r"holds no metadata/train_metadata\.csv, which the original release needs"):
        read(tmp_path, release="original")
    write_csv(tmp_path / "metadata" / "train_metadata.csv", METADATA[:-1], [])
    with pytest.raises(DatasetError, match="lacks the column 'ZSpacing'"):
        read(tmp_path, release="original")


def test_sentinels_of_absent_text_are_none(tmp_path: Path) -> None:
    names = [f"train_{n}_a_1" for n in range(1, 5)]
    write_set(tmp_path, names, [])
    rows: list[tuple[object, ...]] = [
        (names[0], "Not given.", "Normal."),
        (names[1], "nan", "NaN"),
        (names[2], "  Two\n lines. ", "not given"),
        (names[3], "", "None of the above."),
    ]
    write_csv(tmp_path / "dataset" / "radiology_text_reports" / "train_reports.csv", REPORTS, rows)
    texts = [(study.findings, study.impression) for study in read(tmp_path, empty_reports="keep").studies]
    assert texts == [(None, "Normal."), (None, None), ("Two lines.", None), (None, "None of the above.")]
    table = read(tmp_path)
    assert [study.study_id for study in table.studies] == [names[0], names[2], names[3]]
    (empty,) = table.quarantined
    assert empty.study_id == names[1] and empty.reason.startswith(
        "the report is empty: neither findings nor impression"
    )


def test_rows_that_cannot_be_used_are_quarantined_with_their_reason(tmp_path: Path) -> None:
    write_set(tmp_path, ["train_1_a_1"], [])
    secret = tmp_path / "secret.nii.gz"
    secret.write_bytes(b"outside")
    linked = tmp_path / "set" / "dataset"
    (tmp_path / "dataset").rename(tmp_path / "moved")
    linked.parent.mkdir()
    (tmp_path / "moved").rename(linked)
    target = linked / "train" / "train_5" / "train_5_a"
    target.mkdir(parents=True)
    (target / "train_5_a_1.nii.gz").symlink_to(secret)
    names = [
        "train_1_a_1",
        "train_1_a_1",
        "../../secret",
        "train_1/../../x",
        "valid_1_a_1",
        "train_4_a_1",
        "train_5_a_1",
        "",
    ]
    rows: list[tuple[object, ...]] = [(f"{name}.nii.gz", "Clear.", "") for name in names]
    write_csv(linked / "radiology_text_reports" / "train_reports.csv", REPORTS, rows)
    table = read(tmp_path / "set")
    assert [study.study_id for study in table.studies] == ["train_1_a_1"]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    assert len(reasons) == 7
    assert "the study id is taken by" in reasons["train_1_a_1#repeated"]
    for line in (4, 5, 6, 9):
        assert "no volume name of the form train_1_a_1.nii.gz" in reasons[f"train_reports.csv#line-{line}"]
    assert "not on disk" in reasons["train_4_a_1"]
    assert "leads out of the data folder" in reasons["train_5_a_1"]
    skipped = read(tmp_path / "set", missing_volumes="skip")
    assert "train_4_a_1" not in {one.study_id for one in skipped.quarantined}


def test_unusable_tables_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"does not exist; set data\.path"):
        read(tmp_path / "absent")
    with pytest.raises(DatasetError, match="holds no CT-RATE report table; expected radiology_text_reports"):
        read(tmp_path)
    table = tmp_path / "train_reports.csv"
    write_csv(table, ("VolumeName", "Findings", "Impressions_EN"), [])
    with pytest.raises(
        DatasetError, match=r"train_reports\.csv lacks the column 'Findings_EN' \(nearest: 'Findings'\)"
    ):
        read(tmp_path)
    assert read(tmp_path, columns=CtRateColumns(findings="Findings")).studies == []
    table.write_bytes(b"VolumeName,Findings_EN,Impressions_EN\ntrain_1_a_1,\xff\xfe,\n")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read(tmp_path)
    table.write_text('VolumeName,Findings_EN,Impressions_EN\ntrain_1_a_1,"open,\n')
    with pytest.raises(DatasetError, match="not valid CSV"):
        read(tmp_path)
    table.write_text("VolumeName,Findings_EN,Impressions_EN\ntrain_1_a_1,a,b,c\n")
    with pytest.raises(DatasetError, match="line 2: more cells"):
        read(tmp_path)


def test_a_label_that_is_neither_0_nor_1_is_an_error(tmp_path: Path) -> None:
    write_set(tmp_path, ["train_1_a_1"], [])
    marks = ["1.0", "0.0", "maybe", *["0"] * 15]
    write_csv(tmp_path / "train_labels.csv", ("VolumeName", *CT_RATE_LABELS), [("train_1_a_1.nii.gz", *marks)])
    with pytest.raises(DatasetError, match="line 2: 'Cardiomegaly' is 'maybe' where 0 or 1 belongs"):
        read(tmp_path)
