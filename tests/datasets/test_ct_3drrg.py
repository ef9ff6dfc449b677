"""CT-3DRRG: three data sets in one, curated, each divided for itself with its official test split kept."""

import csv
from pathlib import Path

import pytest
from pydantic import ValidationError

from rlaif.datasets.ct_3drrg import read_curated
from rlaif.datasets.registry import load
from rlaif.datasets.settings import Ct3drrgSettings, CtRateSettings
from rlaif.datasets.study_table import DatasetError, StudyTable
from rlaif.records import Study
from rlaif.reports.curation import Removed

LONG = "The heart and the mediastinum are of normal size and shape in this patient."
STABLE = "Stable nodule in the left lower lobe."


EMPTY = "the report is empty: neither findings nor impression are given (data.empty_reports=keep takes it)"


def write_table(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"volume")


def write_ct_rate(root: Path, reports: dict[str, tuple[str, str]], absent: tuple[str, ...] = ()) -> None:
    for side, table in (("train", "train"), ("valid", "validation")):
        rows = [(f"{name}.nii.gz", *texts) for name, texts in reports.items() if name.startswith(side)]
        header = ("VolumeName", "Findings_EN", "Impressions_EN")
        write_table(root / "dataset" / "radiology_text_reports" / f"{table}_reports.csv", header, rows)
    for name in reports.keys() - set(absent):
        touch(root / "dataset" / f"{name.split('_')[0]}_fixed" / f"{name}.nii.gz")


def write_bimcv_r(root: Path, reports: dict[tuple[str, str], str]) -> None:
    rows = []
    for (patient, report), text in reports.items():
        file = f"{patient}/{report}/mod-rx/{patient}_{report}_chest_ct.nii.gz"
        touch(root / file)
        rows.append((patient, report, text, file))
    write_table(root / "reports.csv", ("PatientID", "ReportID", "Report_en", "ct_path"), rows)


def write_inspect(root: Path, reports: dict[tuple[str, str], tuple[str, str]]) -> None:
    mapping, impressions, splits = [], [], []
    for (person, study), (text, split) in reports.items():
        touch(root / "CTPA" / f"{study}.nii.gz")
        mapping.append((person, f"{study}.nii.gz", f"i{study}"))
        impressions.append((f"i{study}", text))
        splits.append((f"i{study}", split))
    write_table(root / "study_mapping_20250611.tsv", ("person_id", "image_id", "impression_id"), mapping, "\t")
    write_table(root / "impressions_20250611.tsv", ("impression_id", "impressions"), impressions, "\t")
    write_table(root / "splits_20250611.tsv", ("impression_id", "split"), splits, "\t")


def sources(root: Path) -> dict[str, object]:
    return {name: {"path": root / name} for name in ("ct_rate", "bimcv_r", "inspect") if (root / name).is_dir()}


def read(root: Path, **settings: object) -> StudyTable:
    return load(Ct3drrgSettings.model_validate({**sources(root), **settings}))


def test_three_sources_become_one_with_whole_reports_and_ids_of_their_own(tmp_path: Path) -> None:
    write_ct_rate(
        tmp_path / "ct_rate",
        {"train_1_a_1": (LONG, "Normal."), "train_1_a_2": (LONG, "Normal."), "valid_1_a_1": (LONG, "")},
    )
    write_bimcv_r(tmp_path / "bimcv_r", {("sub-S1", "ses-E1"): LONG})
    write_inspect(tmp_path / "inspect", {("1", "PE1"): (LONG, "train"), ("2", "PE2"): (LONG, "test")})
    table = read(tmp_path, split={"sft": 1.0, "align": 0.0, "heldout": 0.0})
    fixed, bimcv = tmp_path / "ct_rate/dataset", tmp_path / "bimcv_r/sub-S1/ses-E1/mod-rx"
    expected = [
        ("ct_rate", "train_1_a_1", "train_1", "sft", fixed / "train_fixed/train_1_a_1.nii.gz", f"{LONG} Normal."),
        ("ct_rate", "valid_1_a_1", "valid_1", "heldout", fixed / "valid_fixed/valid_1_a_1.nii.gz", LONG),
        ("bimcv_r", "ses-E1", "sub-S1", "sft", bimcv / "sub-S1_ses-E1_chest_ct.nii.gz", LONG),
        ("inspect", "PE1", "1", "sft", tmp_path / "inspect/CTPA/PE1.nii.gz", LONG),
        ("inspect", "PE2", "2", "heldout", tmp_path / "inspect/CTPA/PE2.nii.gz", LONG),
    ]
    assert table.studies == [
        Study(f"{source}.{study}", f"{source}.{patient}", source, split, str(volume), findings)
        for source, study, patient, split, volume, findings in expected
    ]
    assert (table.quarantined, table.readable) == ([], 5)


def test_of_a_scan_the_lowest_reconstruction_that_can_be_used_is_taken(tmp_path: Path) -> None:
    names = ["train_1_a_10", "train_1_a_2", "train_1_a_1", "train_1_b_1", "train_2_a_3"]
    write_ct_rate(tmp_path / "ct_rate", dict.fromkeys(names, (LONG, "")), absent=("train_1_a_1",))
    table = read(tmp_path)
    assert {one.study_id for one in table.studies} == {
        "ct_rate.train_1_a_2", "ct_rate.train_1_b_1", "ct_rate.train_2_a_3",
    }  # fmt: skip
    assert [one.study_id for one in table.quarantined] == ["ct_rate.train_1_a_1"]


def test_reports_are_curated_except_the_official_test_split_of_ct_rate(tmp_path: Path) -> None:
    reports = {
        "train_1_a_1": (LONG, STABLE),
        "train_2_a_1": ("Normal chest.", STABLE),
        "train_3_a_1": ("Not given.", ""),
        "valid_1_a_1": ("Normal chest.", STABLE),
        "valid_2_a_1": ("", "nan"),
    }
    write_ct_rate(tmp_path / "ct_rate", reports)
    write_inspect(tmp_path / "inspect", {("1", "PE1"): (f"{STABLE} {LONG}", "test"), ("2", "PE2"): ("No PE.", "test")})
    table, removed = read_curated(Ct3drrgSettings.model_validate(sources(tmp_path)))
    assert {one.study_id: one.findings for one in table.studies} == {
        "ct_rate.train_1_a_1": LONG,
        "ct_rate.valid_1_a_1": f"Normal chest. {STABLE}",
        "inspect.PE1": LONG,
    }
    without = "the report has 2 words (sentences taken out: 1), fewer than data.min_words=10"
    assert {one.study_id: one.reason for one in table.quarantined} == {
        "ct_rate.train_2_a_1": without,
        "ct_rate.train_3_a_1": EMPTY,
        "ct_rate.valid_2_a_1": EMPTY,
        "inspect.PE2": "the report has 2 words, fewer than data.min_words=10",
    }
    assert (table.readable, len(table.studies) + len(table.quarantined)) == (3, 7)
    sentence = (Removed(STABLE, "comparison"),)
    assert removed == dict.fromkeys(("ct_rate.train_1_a_1", "ct_rate.train_2_a_1", "inspect.PE1"), sentence)
    kept = read(tmp_path, comparisons="keep", min_words=2)
    assert {one.findings for one in kept.studies if one.source == "inspect"} == {f"{STABLE} {LONG}", "No PE."}


def test_bad_rows_of_every_source_are_quarantined_and_a_limit_is_of_the_whole(tmp_path: Path) -> None:
    ct_rate = {f"{side}_{number}_a_1": (LONG, "") for side in ("train", "valid") for number in range(20)}
    write_ct_rate(tmp_path / "ct_rate", ct_rate, absent=("train_7_a_1",))
    write_bimcv_r(tmp_path / "bimcv_r", {(f"sub-S{number}", f"ses-E{number}"): LONG for number in range(40)})
    touch(tmp_path / "bimcv_r" / "sub-S99" / "extra_chest_ct.nii.gz")
    table = read(tmp_path)
    assert {one.study_id for one in table.quarantined} == {
        "ct_rate.train_7_a_1", "bimcv_r.sub-S99/extra_chest_ct.nii.gz#unlisted",
    }  # fmt: skip
    assert (len(table.studies), table.readable) == (79, 79)
    # A fifth of BIMCV-R is held out, and nothing of CT-RATE's training part.
    heldout = [one.study_id for one in table.studies if one.split == "heldout"]
    assert sum(one.startswith("ct_rate.valid") for one in heldout) == 20
    assert 2 <= sum(one.startswith("bimcv_r.") for one in heldout) <= 16
    assert not any(one.startswith("ct_rate.train") for one in heldout)
    limited = read(tmp_path, limit=5)
    assert sorted(one.split for one in limited.studies) == ["align"] * 5 + ["heldout"] * 5 + ["sft"] * 5
    assert limited.readable == 79
    counted = read(tmp_path, split={"sft": 10, "align": 5, "heldout": 3})
    assert len(counted.studies) == 2 * 18


def test_a_patient_on_both_sides_of_an_official_split_stops(tmp_path: Path) -> None:
    write_inspect(tmp_path / "inspect", {("1", "PE1"): (LONG, "train"), ("1", "PE2"): (LONG, "test")})
    with pytest.raises(DatasetError, match="1 in heldout and sft"):
        read(tmp_path)


def test_settings_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"no source: set data\.ct_rate\.path"):
        Ct3drrgSettings()
    for setting in ({"limit": 5}, {"seed": 1}, {"order": "number"}, {"split": {"sft": 1, "align": 0, "heldout": 0}}):
        with pytest.raises(ValidationError, match=r"ct_rate\.\w+ has no effect"):
            Ct3drrgSettings.model_validate({"ct_rate": {"path": tmp_path, **setting}})
    settings = Ct3drrgSettings(ct_rate=CtRateSettings(path="a"), inspect=None)
    assert Ct3drrgSettings.model_validate(settings.model_dump()) == settings
    assert settings.path == "a"
    with pytest.raises(DatasetError, match="holds no CT-RATE report table"):
        read(tmp_path, ct_rate={"path": tmp_path})
