"""The INSPECT layout: three tables joined, impressions only, bad rows and the official split."""

from pathlib import Path
from typing import Any

import pytest

from rlaif.datasets.registry import load
from rlaif.datasets.settings import InspectSettings
from rlaif.datasets.study_table import DatasetError, StudyTable
from rlaif.records import Study

MAPPING, IMPRESSIONS, SPLITS = (f"{name}_20250611.tsv" for name in ("study_mapping", "impressions", "splits"))


def write_table(root: Path, name: str, rows: list[str], separator: str = "\t") -> None:
    text = "\n".join(row.replace("|", separator) for row in rows) + "\n"
    (root / name).write_text(text, encoding="utf-8")


def write_volumes(root: Path, *images: str) -> None:
    for image in images:
        path = root / "CTPA" / f"{image}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"volume")


def write_set(root: Path, studies: list[tuple[str, str, str, str]]) -> None:
    """Tables of (image, person, impression, split), the impression's id being the line's number."""
    numbered = list(enumerate(studies, 1))
    write_table(
        root,
        MAPPING,
        [
            "impression_id|person_id|image_id|procedure_DATETIME",
            *(f"{n}|{one[1]}|{one[0]}|2010" for n, one in numbered),
        ],
    )
    write_table(root, IMPRESSIONS, ["impression_id|impressions", *(f"{n}|{one[2]}" for n, one in numbered)])
    write_table(root, SPLITS, ["impression_id|split", *(f"{n}|{one[3]}" for n, one in numbered)])


def read(root: Path, **settings: object) -> StudyTable:
    return load(InspectSettings.model_validate({"path": root, **settings}))


def test_tables_are_joined_and_the_test_split_is_held_out(tmp_path: Path) -> None:
    write_volumes(tmp_path, "PE1a", "PE2b", "PE3c", "PE4d")
    studies = [
        ("PE1a", "P1", '"1. No embolism, no ""effusion"".\n2. Nodule."', "train"),
        ("PE2b.nii.gz", "P2", "Embolism.", "valid"),
        ("PE3c", "P3", "nan", "test"),
        ("PE4d", "P3", "", "test"),
    ]
    write_set(tmp_path, studies)
    # The original repeats a few rows of its splits.
    with (tmp_path / SPLITS).open("a") as file:
        file.write("2\tvalid\n")
    table = read(tmp_path, split={"sft": 1.0, "align": 0.0, "heldout": 0.0}, empty_reports="keep")
    assert table.quarantined == []
    assert {one.study_id for one in read(tmp_path).quarantined} == {"PE3c", "PE4d"}
    texts = ['1. No embolism, no "effusion". 2. Nodule.', "Embolism.", None, None]
    patients, splits = ["P1", "P2", "P3", "P3"], ["sft", "sft", "heldout", "heldout"]
    assert table.studies == [
        Study(image, patient, "inspect", split, volume=str(tmp_path / "CTPA" / f"{image}.nii.gz"), impression=text)  # type: ignore[arg-type]
        for image, patient, split, text in zip(("PE1a", "PE2b", "PE3c", "PE4d"), patients, splits, texts, strict=True)
    ]


def test_tables_and_columns_may_have_other_names(tmp_path: Path) -> None:
    write_volumes(tmp_path, "PE1")
    write_table(tmp_path, "meta.csv", ["image_id|impression_id|PatientID", "PE1.nii.gz|7|P1"], ",")
    write_table(tmp_path, "text.csv", ["impression_id|text", "7|Clear."], ",")
    write_table(tmp_path, "splits.csv", ["impression_id|split", "7|train"], ",")
    tables = {"metadata": "meta.csv", "impressions": "text.csv", "splits": "splits.csv"}
    columns = {"patient_id": "PatientID", "impression": "text"}
    (study,) = read(tmp_path, tables=tables, columns=columns).studies
    assert (study.study_id, study.patient_id, study.findings, study.impression) == ("PE1", "P1", None, "Clear.")


def test_rows_that_cannot_be_used_are_quarantined_with_their_reason_and_counts_add_up(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_volumes(tmp_path, "secret")
    write_volumes(root, *(f"PE{n}" for n in (1, 3, 4, 5, 6, 99)))
    (root / "CTPA/PE7.nii.gz").symlink_to(tmp_path / "CTPA/secret.nii.gz")
    studies = [
        ("PE1", "P1", "Clear.", "train"),
        ("PE2", "P2", "Clear.", "train"),
        ("PE3", "P3", "Clear.", "dev"),
        ("PE4", "", "Clear.", "train"),
        ("PE5", "P5", "Clear.", "train"),
        ("PE6", "P6", "Clear.", "train"),
        ("PE7", "P7", "Clear.", "train"),
        ("../CTPA/secret.nii.gz", "P8", "Clear.", "train"),
        ("/etc/x.nii.gz", "P9", "Clear.", "train"),
        ("", "P10", "Clear.", "train"),
        ("PE1", "P1", "Again.", "train"),
    ]
    write_set(root, studies)
    for name, gone, added in ((IMPRESSIONS, "5\tClear.\n", ""), (SPLITS, "6\ttrain\n", "6\ttrain\n6\ttest\n")):
        text = (root / name).read_text(encoding="utf-8")
        (root / name).write_text(text.replace(gone, added))
    table = read(root)
    assert [study.study_id for study in table.studies] == ["PE1"]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    assert len(table.studies) + len(table.quarantined) == len(studies) + 1
    assert "line 3: the volume is not on disk" in reasons["PE2"]
    assert "split 'dev' is none of train" in reasons["PE3"]
    assert "patient_id ''" in reasons["PE4"]
    assert f"{IMPRESSIONS} has no row for the impression '5'" in reasons["PE5"]
    assert f"{SPLITS} has 2 rows that disagree for the impression '6'" in reasons["PE6"]
    assert "leads out of the data folder" in reasons["PE7"]
    assert "not a plain path" in reasons["secret"]
    assert "not a plain path" in reasons["x"]
    assert "study_id ''" in reasons[f"{MAPPING}#line-11"]
    assert "the study id is taken by" in reasons["PE1#repeated"]
    assert f"no row of {MAPPING} names this volume" in reasons["CTPA/PE99.nii.gz#unlisted"]
    skipped = read(root, missing_volumes="skip", unlisted_volumes="skip")
    assert len(skipped.studies) + len(skipped.quarantined) + 1 == len(studies)


def test_a_patient_on_both_sides_of_the_official_split_stops(tmp_path: Path) -> None:
    write_volumes(tmp_path, "PE1", "PE2")
    write_set(tmp_path, [("PE1", "P1", "Clear.", "valid"), ("PE2", "P1", "Clear.", "test")])
    with pytest.raises(DatasetError, match=r"1 patients are in more than one split \(P1 in heldout and sft"):
        read(tmp_path)


def test_limit_holds_for_each_split(tmp_path: Path) -> None:
    studies = [(f"PE{n}", f"P{n // 2}", "Clear.", "test" if n < 6 else "train") for n in range(40)]
    write_volumes(tmp_path, *(image for image, *_ in studies))
    write_set(tmp_path, studies)
    assert len({(one.patient_id, one.split) for one in read(tmp_path).studies}) == 20
    table = read(tmp_path, limit=3)
    assert sorted(one.split for one in table.studies) == ["align"] * 3 + ["heldout"] * 3 + ["sft"] * 3
    assert table.readable == 40


def test_unusable_tables_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"holds no table {MAPPING}; .*data\.tables\.metadata=FILE"):
        read(tmp_path)
    write_set(tmp_path, [])
    assert read(tmp_path).studies == []
    write_table(tmp_path, MAPPING, ["impression_id|personid|image_id"])
    with pytest.raises(DatasetError, match=r"lacks the column 'person_id' \(nearest: 'personid'\)"):
        read(tmp_path)
    (tmp_path / IMPRESSIONS).write_bytes(b"impression_id\timpressions\n1\t\xff\n")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read(tmp_path)
    (tmp_path / SPLITS).unlink()
    with pytest.raises(DatasetError, match=rf"holds no table {SPLITS}"):
        read(tmp_path)


def test_a_bucket_gives_the_studies_of_the_disk(tmp_path: Path, bucket: Any) -> None:
    write_volumes(tmp_path, "PE1")
    write_set(tmp_path, [("PE1", "P1", "Clear.", "train")])
    (study,) = load(InspectSettings(path=bucket.upload(tmp_path, "inspect"))).studies
    assert (study.impression, study.volume) == ("Clear.", bucket.location("inspect/CTPA/PE1.nii.gz"))
