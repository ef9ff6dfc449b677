"""The BIMCV-R layout: volumes by name or by session, residue of the reports' form, bad rows, an optional split."""

import csv
from pathlib import Path
from typing import Any

import pytest

from rlaif.datasets.bimcv_r import without_residue
from rlaif.datasets.registry import load
from rlaif.datasets.settings import BimcvRSettings
from rlaif.datasets.study_table import DatasetError, StudyTable
from rlaif.records import Study

HEADER = ("PatientID", "ReportID", "Report", "path", "Report_en", "ct_path")
# The machine that the table was made on.
ELSEWHERE = "/store/BIMCV_CT/positives"


def write_table(root: Path, rows: list[tuple[object, ...]], header: tuple[str, ...] = HEADER) -> None:
    with (root / "reports.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def name_of(patient: str, session: str, run: int = 1) -> str:
    return f"{patient}/{session}/mod-rx/{patient}_{session}_run-{run}_bp-chest_ct.nii.gz"


def write_volume(root: Path, name: str) -> str:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"volume")
    return str(root / name)


def row(patient: str, session: str, report: str, path: str | None = None) -> tuple[object, ...]:
    written = f"{ELSEWHERE}/{name_of(patient, session)}" if path is None else path
    return (patient, session, "torax normal .", f"{ELSEWHERE}/{patient}/{session}/mod-rx", report, written)


def read(root: Path, **settings: object) -> StudyTable:
    return load(BimcvRSettings.model_validate({"path": root, **settings}))


def test_rows_become_studies_with_the_volume_of_their_name(tmp_path: Path) -> None:
    first = write_volume(tmp_path, "positives/" + name_of("sub-S1", "ses-E11"))
    second = write_volume(tmp_path, name_of("sub-S1", "ses-E12"))
    reports = ["PATIENT NAME NAME HC.Normal lungs.No effusion.", "  Not given. "]
    write_table(tmp_path, [row("sub-S1", "ses-E11", reports[0]), row("sub-S1", "ses-E12", reports[1])])
    table = read(tmp_path, split={"sft": 1.0, "align": 0.0, "heldout": 0.0}, empty_reports="keep")
    assert table.quarantined == []
    (empty,) = read(tmp_path).quarantined
    assert empty.study_id == "ses-E12" and empty.reason.startswith("the report is empty")
    assert table.studies == [
        Study("ses-E11", "sub-S1", "bimcv_r", "sft", volume=first, findings="Normal lungs. No effusion."),
        Study("ses-E12", "sub-S1", "bimcv_r", "sft", volume=second),
    ]
    assert read(tmp_path, clean=False).studies[0].findings == reports[0]


def test_residue_of_the_form_goes_and_nothing_else() -> None:
    report = (
        "PATIENT NAME NAME NAME HC.NUM PRESCRIPTION DR.Name Name Paz.date appointment May 11, 2020 Date."
        "Thoracic TC compared with TC of date date Date made at Inst Instit.Nodule of 1.25 mm."
        "chest .Name Name Name Normal."
        "NAME CT of 2019.Fdo.Dr.Name Name Name Medical Collegiate Radiologist No Num"
    )
    cleaned = "Thoracic TC compared with TC of made at. Nodule of 1.25 mm. chest. Normal. CT of 2019."
    assert without_residue(report) == cleaned
    for untouched in (cleaned, "No.", "The patient may have a nodule. Medical material. Date of the prior study."):
        assert without_residue(untouched) == untouched
    for empty in ("", "PATIENT NAME NAME", "Fdo. Dr. Name Name"):
        assert without_residue(empty) == ""


def test_without_a_path_the_only_volume_of_the_session_is_taken(tmp_path: Path) -> None:
    one = write_volume(tmp_path, name_of("sub-S1", "ses-E1"))
    for run in (1, 2):
        write_volume(tmp_path, name_of("sub-S2", "ses-E2", run))
    rows = [row("sub-S1", "ses-E1", "A.", "nan"), row("sub-S2", "ses-E2", "B.", ""), row("sub-S3", "ses-E3", "C.", "")]
    write_table(tmp_path, rows)
    for settings in ({}, {"columns": {"path": None}}):
        table = read(tmp_path, unlisted_volumes="skip", **settings)
        assert [(study.study_id, study.volume) for study in table.studies] == [("ses-E1", one)]
        reasons = {gone.study_id: gone.reason for gone in table.quarantined}
        assert "holds 2 volumes; name one in a column" in reasons["ses-E2"]
        assert "line 4: the volume is not on disk" in reasons["ses-E3"]


def test_rows_that_cannot_be_used_are_quarantined_with_their_reason_and_counts_add_up(tmp_path: Path) -> None:
    root = tmp_path / "set"
    secret = write_volume(tmp_path, "secret.nii.gz")
    write_volume(root, name_of("sub-S1", "ses-E1"))
    write_volume(root, name_of("sub-S9", "ses-E9"))
    linked = root / name_of("sub-S3", "ses-E3")
    linked.parent.mkdir(parents=True)
    linked.symlink_to(secret)
    rows = [
        row("sub-S1", "ses-E1", "Clear."),
        row("sub-S1", "ses-E1", "Clear again."),
        row("sub-S2", "ses-E2", "Clear."),
        row("sub-S3", "ses-E3", "Clear."),
        row("sub-S4", "ses-E4", "Clear.", "../secret.nii.gz"),
        row("sub-S5", "ses-E5", "Clear.", secret),
        row("sub-S", "ses-E6", "Clear.", f"{ELSEWHERE}/{name_of('sub-S1', 'ses-E1')}"),
        row("../sub-S7", "ses-E7", "Clear.", name_of("sub-S1", "ses-E1")),
        row("sub-S8", "", "Clear."),
    ]
    write_table(root, rows)
    table = read(root)
    assert [study.study_id for study in table.studies] == ["ses-E1"]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    assert len(table.studies) + len(table.quarantined) == len(rows) + 1
    assert "the study id is taken by" in reasons["ses-E1#repeated"]
    assert "reports.csv, line 4: the volume is not on disk" in reasons["ses-E2"]
    assert "leads out of the data folder" in reasons["ses-E3"]
    assert "not a plain path" in reasons["ses-E4"]
    assert "not on disk" in reasons["ses-E5"]
    assert "nowhere that of the patient 'sub-S'" in reasons["ses-E6"]
    assert "patient_id '../sub-S7'" in reasons["ses-E7"]
    assert "study_id ''" in reasons["reports.csv#line-10"]
    assert "no row of reports.csv names this volume" in reasons[f"{name_of('sub-S9', 'ses-E9')}#unlisted"]
    skipped = read(root, missing_volumes="skip", unlisted_volumes="skip")
    assert len(skipped.studies) + len(skipped.quarantined) + 2 == len(rows)


def test_a_split_column_is_kept_and_a_patient_on_both_sides_stops(tmp_path: Path) -> None:
    sides = {"sub-S1": "train", "sub-S2": "val", "sub-S3": "test", "sub-S4": "later"}
    for number, patient in enumerate(sides, 1):
        write_volume(tmp_path, name_of(patient, f"ses-E{number}"))
    rows = [(*row(patient, f"ses-E{n}", "Clear."), side) for n, (patient, side) in enumerate(sides.items(), 1)]
    write_table(tmp_path, rows, (*HEADER, "split"))
    settings = {"columns": {"split": "split"}, "split": {"sft": 1.0, "align": 0.0, "heldout": 0.0}}
    table = read(tmp_path, **settings)
    assert {one.patient_id: one.split for one in table.studies} == {
        "sub-S1": "sft",
        "sub-S2": "sft",
        "sub-S3": "heldout",
    }
    assert [one.study_id for one in table.quarantined] == ["ses-E4"]
    assert "split 'later' is none of train" in table.quarantined[0].reason
    write_volume(tmp_path, name_of("sub-S3", "ses-E5"))
    write_table(tmp_path, [*rows, (*row("sub-S3", "ses-E5", "Clear."), "train")], (*HEADER, "split"))
    with pytest.raises(DatasetError, match=r"1 patients are in more than one split \(sub-S3 in heldout and sft"):
        read(tmp_path, **settings)


def test_limit_holds_for_each_split_and_patients_stay_together(tmp_path: Path) -> None:
    rows = []
    for patient in range(30):
        for session in "ab":
            write_volume(tmp_path, name_of(f"sub-S{patient}", f"ses-E{patient}{session}"))
            rows.append(row(f"sub-S{patient}", f"ses-E{patient}{session}", "Clear."))
    write_table(tmp_path, rows)
    table = read(tmp_path)
    assert len({(one.patient_id, one.split) for one in table.studies}) == 30
    limited = read(tmp_path, limit=1)
    assert sorted(one.split for one in limited.studies) == ["align", "heldout", "sft"]
    assert limited.readable == 60


def test_unusable_tables_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no CSV table; say which one .* data\.table=FILE"):
        read(tmp_path)
    write_table(tmp_path, [], ("PatientID", "ReportID", "Report_EN", "ct_path"))
    with pytest.raises(DatasetError, match=r"lacks the column 'Report_en' \(nearest: 'Report_EN'\)"):
        read(tmp_path)
    assert read(tmp_path, columns={"report": "Report_EN"}).studies == []
    (tmp_path / "other.csv").write_text("a,b\n")
    with pytest.raises(DatasetError, match=r"holds the tables other\.csv, reports\.csv"):
        read(tmp_path)
    (tmp_path / "other.csv").write_bytes(",".join(HEADER).encode() + b"\nsub-S1,ses-E1,,,\xff,\n")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read(tmp_path, table="other.csv")
    with pytest.raises(DatasetError, match=r"absent\.csv does not exist"):
        read(tmp_path, table="absent.csv")


def test_a_bucket_gives_the_studies_of_the_disk(tmp_path: Path, bucket: Any) -> None:
    write_volume(tmp_path, name_of("sub-S1", "ses-E1"))
    write_table(tmp_path, [row("sub-S1", "ses-E1", "Clear.")])
    (study,) = load(BimcvRSettings(path=bucket.upload(tmp_path, "bimcv"))).studies
    assert (study.study_id, study.findings) == ("ses-E1", "Clear.")
    assert study.volume == bucket.location("bimcv/" + name_of("sub-S1", "ses-E1"))
