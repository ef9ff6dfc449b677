"""The RadGenome-ChestCT layout: sentences joined by region, masks, whole reports, bad rows and the official split."""

import csv
from pathlib import Path
from typing import Any

import pytest

from rlaif.datasets.phantom import generate
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.datasets.registry import load
from rlaif.datasets.settings import CtRateSettings, RadgenomeSettings
from rlaif.datasets.study_table import DatasetError, StudyTable
from rlaif.records import Study
from rlaif.reports.regions import REGIONS, region_of

HEADER = ("Volumename", "Anatomy", "Sentence")


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"volume")
    return path


def write_volume(base: Path, name: str) -> Path:
    """A volume in the original's tree, whose scan folder has no underscore before its letter."""
    side, number, scan, _ = name.split("_")
    return touch(base / f"{side}_preprocessed" / f"{side}_{number}" / f"{side}_{number}{scan}" / f"{name}.nii.gz")


def write_mask(base: Path, name: str, region: str) -> Path:
    return touch(base / f"{name.split('_')[0]}_region_mask" / f"seg_{name}" / f"{region}.nii.gz")


def write_sentences(base: Path, rows: list[tuple[object, ...]], table: str = "train") -> None:
    write_csv(base / "radgenome_files" / f"{table}_region_report.csv", HEADER, rows)


def read(root: Path, **settings: object) -> StudyTable:
    return load(RadgenomeSettings.model_validate({"path": root, **settings}))


def test_an_anatomy_lies_in_the_region_of_its_first_part() -> None:
    assert region_of("lung/lung/right lung/right lung upper lobe") == "lung"
    assert region_of(" Trachea and  Bronchie ") == "trachea and bronchie"
    assert region_of("aorta") is None
    assert len(REGIONS) == 10


@pytest.mark.parametrize("subfolder", ["dataset", ""])
def test_sentences_and_masks_come_together_by_region(tmp_path: Path, subfolder: str) -> None:
    base = tmp_path / subfolder
    volumes = {name: write_volume(base, name) for name in ("train_1000_a_1", "valid_7_b_2")}
    lung, heart = (write_mask(base, "train_1000_a_1", region) for region in ("lung", "heart"))
    write_mask(base, "train_1000_a_1", "rib")
    write_sentences(
        base,
        [
            ("train_1000_a_1.nii.gz", "", "Nodule in the right upper lobe. Normal heart."),
            ("train_1000_a_1.nii.gz", "lung", "Nodule in the right upper lobe."),
            ("train_1000_a_1.nii.gz", "heart", "Normal heart."),
            ("train_1000_a_1.nii.gz", "lung/lung/right lung/right lung upper lobe", "It measures 4 mm."),
            ("train_1000_a_1.nii.gz", "lung/lung/right lung", "Nodule in the right upper lobe."),
            ("train_1000_a_1.nii.gz", "spleen", "Normal spleen."),
        ],
    )
    write_sentences(
        base,
        [
            ("valid_7_b_2.nii.gz", "thyroid", "Normal thyroid."),
            ("valid_7_b_2.nii.gz", "bone", "No fracture."),
            ("valid_7_b_2.nii.gz", "lung", "No fracture."),
            ("valid_7_b_2.nii.gz", "vessel", "Wide aorta."),
            ("valid_7_b_2.nii.gz", "pleura", "Not given."),
        ],
        "validation",
    )
    table = read(tmp_path, split={"sft": 1.0, "align": 0.0, "heldout": 0.0})
    assert table.quarantined == []
    assert table.studies == [
        Study(
            study_id="train_1000_a_1",
            patient_id="train_1000",
            source="radgenome",
            split="sft",
            volume=str(volumes["train_1000_a_1"]),
            findings="Nodule in the right upper lobe. Normal heart. Normal spleen.",
            regions={"heart": (str(heart),), "lung": (str(lung),)},
            region_reports={
                "heart": "Normal heart.",
                "lung": "Nodule in the right upper lobe. It measures 4 mm.",
            },
        ),
        Study(
            study_id="valid_7_b_2",
            patient_id="valid_7",
            source="radgenome",
            split="heldout",
            volume=str(volumes["valid_7_b_2"]),
            findings="No fracture. Normal thyroid. Wide aorta.",
            region_reports={"bone": "No fracture.", "lung": "No fracture.", "thyroid": "Normal thyroid."},
        ),
    ]


def test_the_built_in_data_reads_as_it_was_written(tmp_path: Path) -> None:
    settings = PhantomSettings(
        sft=2, align=1, heldout=1, shape=(16, 24, 24), spacing_mm=(20.0, 14.0, 14.0), regions=True
    )
    generate(tmp_path, settings)
    table = read(tmp_path)
    plain = load(CtRateSettings(path=str(tmp_path)))
    assert table.quarantined == plain.quarantined == []
    shared = ("study_id", "patient_id", "volume", "findings", "impression", "labels")
    assert [[getattr(one, name) for name in shared] for one in table.studies] == [
        [getattr(one, name) for name in shared] for one in plain.studies
    ]
    with (tmp_path / "dataset/radgenome_files/train_region_report.csv").open(encoding="utf-8") as file:
        rows = {(row["Volumename"], row["Anatomy"]): row["Sentence"] for row in csv.DictReader(file)}
    for study in table.studies:
        assert study.regions is not None
        assert study.region_reports is not None
        assert len(study.regions) == 8
        for region, (mask,) in study.regions.items():
            assert Path(mask).is_file()
            assert Path(mask).parts[-2:] == (f"seg_{study.study_id}", f"{region}.nii.gz")
        if study.study_id.startswith("train"):
            written = {
                region: text for (name, region), text in rows.items() if name.startswith(study.study_id) and region
            }
            assert study.region_reports == written


def test_volumes_with_no_text_are_studies_without_report(tmp_path: Path) -> None:
    write_volume(tmp_path, "train_1_a_1")
    write_sentences(tmp_path, [("train_1_a_1", "nan", "nan"), ("train_1_a_1.nii.gz", "lung", "")])
    (study,) = read(tmp_path, empty_reports="keep").studies
    assert (study.findings, study.impression, study.regions, study.region_reports) == (None, None, None, None)
    (empty,) = read(tmp_path).quarantined
    assert empty.study_id == "train_1_a_1" and empty.reason.startswith("the report is empty")


def test_texts_of_ct_rate_go_before_sentences_and_preprocessed_volumes_before_others(tmp_path: Path) -> None:
    preprocessed = write_volume(tmp_path / "dataset", "train_1_a_1")
    touch(tmp_path / "dataset/train/train_1/train_1_a/train_1_a_1.nii.gz")
    fixed = touch(tmp_path / "train_fixed/train_2/train_2_a/train_2_a_1.nii.gz")
    write_sentences(tmp_path, [(f"train_{n}_a_1.nii.gz", "", "Sentence.") for n in (1, 2)])
    write_csv(
        tmp_path / "radiology_text_reports" / "train_reports.csv",
        ("VolumeName", "Findings_EN", "Impressions_EN"),
        [("train_1_a_1.nii.gz", "Findings.", "Impression."), ("train_2_a_1.nii.gz", "Not given.", "Normal.")],
    )
    table = read(tmp_path)
    assert table.quarantined == []
    assert [(one.volume, one.findings, one.impression) for one in table.studies] == [
        (str(preprocessed), "Findings.", "Impression."),
        (str(fixed), "Sentence.", "Normal."),
    ]


def test_a_volume_of_the_original_release_stands_for_none_of_the_corrected_one(tmp_path: Path) -> None:
    touch(tmp_path / "train_fixed/train_1/train_1_a/train_1_a_1.nii.gz")
    for number in (1, 2):
        touch(tmp_path / f"train/train_{number}/train_{number}_a/train_{number}_a_1.nii.gz")
    write_sentences(tmp_path, [(f"train_{n}_a_1.nii.gz", "", "Sentence.") for n in (1, 2)])
    table = read(tmp_path)
    assert [one.study_id for one in table.studies] == ["train_1_a_1"]
    assert [one.study_id for one in table.quarantined] == ["train_2_a_1"]


def test_rows_that_cannot_be_used_are_quarantined_with_their_reason_and_counts_add_up(tmp_path: Path) -> None:
    root, secret = tmp_path / "set", touch(tmp_path / "secret.nii.gz")
    for name in ("train_1_a_1", "train_2_a_1", "train_9_a_1"):
        write_volume(root, name)
    linked = write_volume(root, "train_3_a_1")
    linked.unlink()
    linked.symlink_to(secret)
    write_mask(root, "train_2_a_1", "lung").unlink()
    (root / "train_region_mask/seg_train_2_a_1/lung.nii.gz").symlink_to(secret)
    names = [
        "train_1_a_1",
        "train_2_a_1",
        "train_3_a_1",
        "train_4_a_1",
        "valid_1_a_1",
        "../../secret",
        "/etc/x",
        "",
        "a",
    ]
    write_sentences(root, [(f"{name}.nii.gz" if name else "", "lung", "Clear.") for name in names for _ in range(2)])
    table = read(root)
    assert [study.study_id for study in table.studies] == ["train_1_a_1"]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    assert len(reasons) == len(table.quarantined) == len(names) - 1 + 1
    assert "leads out of the data folder" in reasons["train_2_a_1"]
    assert "leads out of the data folder" in reasons["train_3_a_1"]
    assert "line 8: the volume is not on disk" in reasons["train_4_a_1"]
    assert "no volume name of the form train_1_a_1.nii.gz" in reasons["valid_1_a_1"]
    assert "no volume name of the form train_1_a_1.nii.gz" in reasons["a"]
    assert "not a plain path" in reasons["secret"]
    assert "not a plain path" in reasons["x"]
    assert "'' is no volume name" in reasons["radgenome_files/train_region_report.csv#line-16"]
    (unlisted,) = (one for one in table.quarantined if one.study_id.endswith("#unlisted"))
    assert "train_9_a_1" in unlisted.study_id
    skipped = read(root, missing_volumes="skip", unlisted_volumes="skip")
    assert len(skipped.studies) + len(skipped.quarantined) + 1 == len(names)
    assert skipped.readable == 1


def test_limit_and_official_split_hold_for_patients(tmp_path: Path) -> None:
    train = [f"train_{n}_{scan}_1" for n in range(1, 21) for scan in "ab"]
    valid = ["valid_1_a_1", "valid_2_a_1", "valid_2_b_1"]
    for name in train + valid:
        write_volume(tmp_path, name)
    write_sentences(tmp_path, [(name, "lung", "Clear.") for name in train])
    write_sentences(tmp_path, [(name, "lung", "Clear.") for name in valid], "validation")
    table = read(tmp_path, split={"sft": 0.5, "align": 0.5, "heldout": 0.0})
    assert {one.study_id for one in table.studies if one.split == "heldout"} == set(valid)
    splits = {(one.patient_id, one.split) for one in table.studies}
    assert len(splits) == 22
    limited = read(tmp_path, split={"sft": 0.5, "align": 0.5, "heldout": 0.0}, limit=2)
    assert sorted(one.split for one in limited.studies) == ["align"] * 2 + ["heldout"] * 2 + ["sft"] * 2
    assert limited.readable == 43


def test_unusable_tables_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no table of region sentences; expected radgenome_files/train"):
        read(tmp_path)
    write_csv(tmp_path / "train_region_report.csv", ("VolumeName", "Anatomy", "Sentence"), [])
    with pytest.raises(DatasetError, match=r"lacks the column 'Volumename' \(nearest: 'VolumeName'\)"):
        read(tmp_path)
    assert read(tmp_path, columns={"volume": "VolumeName"}).studies == []
    (tmp_path / "train_region_report.csv").write_bytes(b"Volumename,Anatomy,Sentence\ntrain_1_a_1,,\xff\n")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read(tmp_path)


def test_a_bucket_gives_the_studies_of_the_disk(tmp_path: Path, bucket: Any) -> None:
    write_volume(tmp_path / "dataset", "train_1_a_1")
    write_mask(tmp_path / "dataset", "train_1_a_1", "lung")
    write_sentences(tmp_path / "dataset", [("train_1_a_1.nii.gz", "lung", "Clear.")])
    table = load(RadgenomeSettings(path=bucket.upload(tmp_path, "radgenome")))
    (study,) = table.studies
    assert table.quarantined == []
    assert study.volume == bucket.location("radgenome/dataset/train_preprocessed/train_1/train_1a/train_1_a_1.nii.gz")
    mask = "radgenome/dataset/train_region_mask/seg_train_1_a_1/lung.nii.gz"
    assert study.regions == {"lung": (bucket.location(mask),)}
