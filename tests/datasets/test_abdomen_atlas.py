"""The AbdomenAtlas 3.0 layout: reports from the table, masks by region, the official splits."""

import csv
from pathlib import Path

import pytest

from rlaif.datasets.abdomen_atlas import _REGION_OF
from rlaif.datasets.registry import load
from rlaif.datasets.settings import AbdomenAtlasSettings
from rlaif.datasets.study_table import DatasetError, StudyTable
from rlaif.records import Study
from rlaif.reports.regions import REGIONS

HEADER = ("BDMAP ID", "spacing", "sex", "structured report", "narrative report", "fusion narrative report")
TABLE = "AbdomenAtlas3.0MiniWithMeta.csv"


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"volume")


def row(scan: str, report: str = "The liver is normal.") -> tuple[str, ...]:
    return (scan, "0.8 0.8 2.5", "F", "FINDINGS:\n Liver: normal.\n\nIMPRESSION:\n Normal liver.", report, "")


def write_set(root: Path, rows: list[tuple[str, ...]], scans: list[str], test: list[str]) -> None:
    write_csv(root / TABLE, HEADER, rows)
    for scan in scans:
        touch(root / scan / "ct.nii.gz")
    for name in ("IID", "OOD"):
        train = [(scan,) for scan in scans if scan not in test]
        write_csv(root / "TrainTestIDS" / f"{name}_train.csv", ("BDMAP ID",), train)
        write_csv(root / "TrainTestIDS" / f"{name}_test.csv", ("BDMAP ID",), [(scan,) for scan in test])


def read(root: Path, **settings: object) -> StudyTable:
    return load(AbdomenAtlasSettings.model_validate({"path": root, **settings}))


def test_reports_masks_and_the_official_split_come_together(tmp_path: Path) -> None:
    scans = ["BDMAP_00000001", "BDMAP_00000002"]
    write_set(tmp_path, [row(scans[0], " The liver\n is normal. "), row(scans[1])], scans, [scans[1]])
    for scan, masks in (
        (scans[0], ("liver", "lung_left", "lung_right", "spleen", "rectum")),
        (scans[1], ("prostate",)),
    ):
        for mask in masks:
            touch(tmp_path / scan / "segmentations" / f"{mask}.nii.gz")
    table = read(tmp_path, split={"sft": 1.0, "align": 0.0, "heldout": 0.0})
    masks = tmp_path / scans[0] / "segmentations"
    first = Study(
        study_id="BDMAP_00000001",
        patient_id="BDMAP_00000001",
        source="abdomen_atlas",
        split="sft",
        volume=str(tmp_path / scans[0] / "ct.nii.gz"),
        findings="The liver is normal.",
        regions={
            "abdomen": (str(masks / "liver.nii.gz"), str(masks / "spleen.nii.gz")),
            "lung": (str(masks / "lung_left.nii.gz"), str(masks / "lung_right.nii.gz")),
        },
    )
    assert table.studies[0] == first
    assert (table.studies[1].split, table.studies[1].regions) == ("heldout", None)
    assert (table.quarantined, table.readable) == ([], 2)
    structured = read(tmp_path, columns={"report": "structured report"}).studies[0]
    assert (structured.findings, structured.impression) == ("Liver: normal.", "Normal liver.")


def test_scans_and_masks_may_lie_in_two_folders(tmp_path: Path) -> None:
    write_set(tmp_path, [row("BDMAP_00000001")], [], ["BDMAP_00000001"])
    touch(tmp_path / "image_only" / "BDMAP_00000001" / "ct.nii.gz")
    touch(tmp_path / "mask_only" / "BDMAP_00000001" / "segmentations" / "stomach.nii.gz")
    (study,) = read(tmp_path).studies
    assert study.volume == str(tmp_path / "image_only/BDMAP_00000001/ct.nii.gz")
    assert study.regions == {"abdomen": (str(tmp_path / "mask_only/BDMAP_00000001/segmentations/stomach.nii.gz"),)}


def test_structures_lie_in_regions_of_the_ten() -> None:
    assert set(_REGION_OF.values()) <= set(REGIONS)


def test_rows_that_cannot_be_used_are_quarantined_and_counts_add_up(tmp_path: Path) -> None:
    root, secret = tmp_path / "set", tmp_path / "secret.nii.gz"
    secret.write_bytes(b"outside")
    scans = [f"BDMAP_0000000{number}" for number in range(1, 9)]
    rows = [
        row(scans[0]),
        row(scans[0]),
        row("../BDMAP_9"),
        row("/etc"),
        row(""),
        *(row(scan) for scan in scans[1:4]),
        row(scans[4], "  "),
        row(scans[5], "nan"),
        row(scans[6]),
    ]
    write_set(root, rows, [scans[0], scans[3], scans[4], scans[5], scans[6], scans[7]], [])
    (root / scans[1]).mkdir()
    (root / scans[1] / "ct.nii.gz").symlink_to(secret)
    touch(root / "again" / scans[3] / "ct.nii.gz")
    (root / scans[6] / "segmentations").mkdir()
    (root / scans[6] / "segmentations" / "liver.nii.gz").symlink_to(secret)
    table = read(root)
    assert [one.study_id for one in table.studies] == [scans[0]]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    # Every row but the good one, and two volumes that no row names.
    assert len(table.quarantined) == len(reasons) == len(rows) - 1 + 2
    assert "the study id is taken" in reasons[f"{scans[0]}#repeated"]
    # A row has five lines: a line break within a cell counts.
    for line in (16, 21, 26):
        assert "study_id" in reasons[f"{TABLE}#line-{line}"]
    assert "leads out of the data folder" in reasons[scans[1]]
    assert f"{TABLE}, line 36: the volume is not on disk" in reasons[scans[2]]
    assert f"the scan lies in {scans[3]}/ct.nii.gz and in again/{scans[3]}" in reasons[scans[3]]
    assert reasons[scans[4]].startswith("the report is empty")
    assert reasons[scans[5]].startswith("the report is empty")
    assert "leads out of the data folder" in reasons[scans[6]]
    assert f"no row of {TABLE} names this volume" in reasons[f"{scans[7]}/ct.nii.gz#unlisted"]
    skipped = {one.study_id for one in read(root, missing_volumes="skip").quarantined}
    assert reasons.keys() - skipped == {scans[2]}


def test_the_other_official_split_and_none(tmp_path: Path) -> None:
    scans = [f"BDMAP_{number:08}" for number in range(30)]
    write_set(tmp_path, [row(scan) for scan in scans], scans, scans[20:])
    write_csv(tmp_path / "TrainTestIDS" / "OOD_test.csv", ("BDMAP ID",), [(scan,) for scan in scans[25:]])
    write_csv(tmp_path / "TrainTestIDS" / "OOD_train.csv", ("BDMAP ID",), [])
    heldout = [one.study_id for one in read(tmp_path, official="OOD").studies if one.split == "heldout"]
    assert heldout == scans[25:]
    limited = read(tmp_path, limit=2)
    assert sum(one.split == "heldout" for one in limited.studies) == 2
    assert (len(limited.studies) <= 6, limited.readable) == (True, 30)
    none = read(tmp_path, official=None, split={"sft": 10, "align": 5, "heldout": 5})
    assert sorted(one.split for one in none.studies) == ["align"] * 5 + ["heldout"] * 5 + ["sft"] * 10


def test_a_scan_on_both_sides_of_the_split_stops(tmp_path: Path) -> None:
    write_set(tmp_path, [row("BDMAP_00000001")], ["BDMAP_00000001"], [])
    write_csv(tmp_path / "TrainTestIDS" / "IID_test.csv", ("BDMAP ID",), [("BDMAP_00000001",)])
    with pytest.raises(DatasetError, match=r"IID_test\.csv, line 2: BDMAP_00000001 is in the official training part"):
        read(tmp_path)


def test_unusable_tables_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"holds no {TABLE} or AbdomenAtlas3\.0\.csv; name the table"):
        read(tmp_path)
    write_csv(tmp_path / "AbdomenAtlas3.0.csv", HEADER, [row("BDMAP_00000001")])
    with pytest.raises(DatasetError, match=r"holds no TrainTestIDS/IID_train\.csv.*data\.official=null"):
        read(tmp_path)
    with pytest.raises(DatasetError, match=r"lacks the column 'narative report' \(nearest: 'narrative report'\)"):
        read(tmp_path, official=None, columns={"report": "narative report"})
    (tmp_path / "AbdomenAtlas3.0.csv").write_bytes(b"BDMAP ID,narrative report\nBDMAP_1,\xff\n")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read(tmp_path, official=None)
