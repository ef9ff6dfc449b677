"""MIMIC-CXR's sectioned reports: patients and official split from the split table, text without redactions."""

import csv
from pathlib import Path

import pytest

from rlaif.datasets.layout import SplitSettings
from rlaif.datasets.registry import load
from rlaif.datasets.settings import MimicCxrSettings
from rlaif.datasets.study_table import DatasetError, StudyTable
from rlaif.records import Study

HEADER = ("study", "impression", "findings", "last_paragraph", "comparison")
SPLIT = ("dicom_id", "study_id", "subject_id", "split")


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_set(root: Path, reports: list[tuple[str, ...]], places: list[tuple[str, ...]]) -> None:
    write_csv(root / "mimic_cxr_sectioned.csv", HEADER, reports)
    images = [(f"{number:08x}-image", *place) for number, place in enumerate(places)]
    write_csv(root / "mimic-cxr-2.0.0-split.csv", SPLIT, images)


def plain(*studies: str) -> list[tuple[str, ...]]:
    return [(study, f"Normal chest {study}.", "Clear lungs.", "", "None.") for study in studies]


def read(root: Path, **settings: object) -> StudyTable:
    return load(MimicCxrSettings.model_validate({"path": root, **settings}))


def test_reports_become_text_only_studies_in_the_official_split(tmp_path: Path) -> None:
    reports = [
        ("s50414267", "No acute\n process.", "Lungs are clear since ___. Dr. ___ (___) agrees.", "", "___"),
        ("s50000002", "Normal.", "Clear.", "", ""),
        ("s50000003", "Normal.", "Clear.", "", ""),
    ]
    places = [
        ("50414267", "10000032", "test"),
        ("50414267", "10000032", "test"),
        ("50000002", "10000980", "validate"),
        ("50000003", "10000935", "train"),
        ("50000009", "10000935", "train"),
    ]
    write_set(tmp_path, reports, places)
    table = read(tmp_path, split={"sft": 1.0, "align": 0.0, "heldout": 0.0})
    assert table.studies[0] == Study(
        study_id="s50414267",
        patient_id="10000032",
        source="mimic_cxr",
        split="heldout",
        findings="Lungs are clear since. Dr. agrees.",
        impression="No acute process.",
    )
    assert [(one.study_id, one.patient_id, one.split) for one in table.studies[1:]] == [
        ("s50000002", "10000980", "sft"),
        ("s50000003", "10000935", "sft"),
    ]
    assert (table.quarantined, table.readable) == ([], 3)


def test_rows_that_cannot_be_used_are_quarantined_and_counts_add_up(tmp_path: Path) -> None:
    reports = [
        *plain("s1", "s1", "../s2", "s3x", "", "s4"),
        ("s5", "", "Clear.", "Normal chest.", ""),
        ("s6", "___", "", "Clear.", ""),
        ("s7", "nan", "Not given.", "", ""),
        ("s8", "", "Clear.", "Clear.", ""),
    ]
    write_set(tmp_path, reports, [(number, f"1{number}", "train") for number in "15678"])
    table = read(tmp_path)
    assert [one.study_id for one in table.studies] == ["s1"]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    assert len(reasons) == len(reports) - 1
    assert reasons["s1#line-3"] == "the study is named a second time"
    for line, name in ((4, "../s2"), (5, "s3x"), (6, "")):
        assert reasons[f"mimic_cxr_sectioned.csv#line-{line}"] == f"'{name}' is no study name of the form s50414267"
    assert "does not name the study, so that its patient is unknown" in reasons["s4"]
    assert reasons["s5"] == reasons["s8"] == "the report has no impression"
    assert reasons["s6"] == reasons["s7"] == "the report has no findings and no impression"
    last = read(tmp_path, last_paragraph="impression")
    # A last paragraph that is the findings is no impression.
    assert [(one.study_id, one.impression) for one in last.studies] == [
        ("s1", "Normal chest s1."),
        ("s5", "Normal chest."),
    ]
    complete = read(tmp_path, incomplete="skip")
    assert (len(complete.studies), len(complete.quarantined)) == (1, 5)


def test_without_the_split_table_nobody_knows_the_patients(tmp_path: Path) -> None:
    write_csv(tmp_path / "mimic_cxr_sectioned.csv", HEADER, plain(*(f"s{number}" for number in range(20))))
    with pytest.raises(DatasetError, match=r"holds no mimic-cxr-2\.0\.0-split\.csv.*which reports are of one patient"):
        read(tmp_path)
    (tmp_path / "mimic-cxr-2.0.0-split.csv.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DatasetError, match=r"unpack mimic-cxr-2\.0\.0-split\.csv\.gz"):
        read(tmp_path)
    table = read(tmp_path, patients="study", split=SplitSettings(sft=10, align=5, heldout=5))
    assert {one.patient_id for one in table.studies} == {f"s{number}" for number in range(20)}
    assert sorted(one.split for one in table.studies) == ["align"] * 5 + ["heldout"] * 5 + ["sft"] * 10


def test_a_patient_on_both_sides_of_the_split_stops(tmp_path: Path) -> None:
    write_set(tmp_path, plain("s1", "s2"), [("1", "10", "train"), ("2", "10", "test")])
    with pytest.raises(DatasetError, match="10 in heldout and sft"):
        read(tmp_path)
    write_set(tmp_path, plain("s1"), [("1", "10", "train"), ("1", "11", "train")])
    with pytest.raises(DatasetError, match="line 3: study 1 is of patient 11 in train, and on an earlier line of"):
        read(tmp_path)


def test_a_limit_is_of_each_split(tmp_path: Path) -> None:
    numbers = [str(number) for number in range(100, 140)]
    places = [(number, f"p{number}", "test" if number > "129" else "train") for number in numbers]
    write_set(tmp_path, plain(*(f"s{number}" for number in numbers)), places)
    table = read(tmp_path, limit=3, split={"sft": 0.5, "align": 0.5, "heldout": 0.0})
    assert sorted(one.split for one in table.studies) == ["align"] * 3 + ["heldout"] * 3 + ["sft"] * 3
    assert (table.readable, table.studies[0].patient_id[0]) == (40, "1")


def test_unusable_tables_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"does not exist; set data\.path"):
        read(tmp_path / "absent")
    write_set(tmp_path, plain("s1"), [("1", "10", "dev")])
    with pytest.raises(DatasetError, match="line 2: split 'dev' is none of train, validate, test"):
        read(tmp_path)
    write_set(tmp_path, plain("s1"), [("one", "10", "train")])
    with pytest.raises(DatasetError, match="line 2: study_id 'one' of subject_id '10': both must be numbers"):
        read(tmp_path)
    write_set(tmp_path, plain("s1"), [("1", "../10", "train")])
    with pytest.raises(DatasetError, match=r"line 2: study_id '1' of subject_id '\.\./10': both must be numbers"):
        read(tmp_path)
    write_set(tmp_path, plain("s1"), [("1", "10", "train")])
    with pytest.raises(DatasetError, match=r"table .*absent\.csv does not exist"):
        read(tmp_path, table="absent.csv")
    with pytest.raises(DatasetError, match="is not a plain path below the data folder"):
        read(tmp_path, table="../secret.csv")
    with pytest.raises(DatasetError, match=r"lacks the column 'finding' \(nearest: 'findings'\)"):
        read(tmp_path, columns={"findings": "finding"})
    (tmp_path / "mimic_cxr_sectioned.csv").write_bytes(b"study,impression,findings\ns1,\xff,b\n")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read(tmp_path)
