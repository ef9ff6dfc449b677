"""A folder of one's own: with a table, without one, and with rows that would leave it."""

import os
from pathlib import Path

import pytest
import yaml

from rlaif.datasets.registry import load
from rlaif.datasets.settings import FolderSettings
from rlaif.datasets.study_table import DatasetError, StudyTable

SHARED = Path(os.environ.get("RLAIF_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
CONFIGS = Path(__file__).parents[2] / "configs"
HEADER = "study_id,path,patient_id,findings,impression"


def read(root: Path, **settings: object) -> StudyTable:
    return load(FolderSettings.model_validate({"path": root, **settings}))


def write_table(root: Path, *rows: str, header: str = HEADER) -> None:
    (root / "studies.csv").write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")


def write_dicom(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "1").write_bytes(bytes(128) + b"DICM")


def test_rows_become_studies_with_their_report_and_split(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    write_dicom(tmp_path / "scans" / "b")
    write_table(
        tmp_path,
        's1,a.nii.gz,ann,"Clear lungs, no effusion.",Normal.,heldout',
        "s2,scans/b,ben,,,",
        "s3,a.nii.gz,ann,,,",
        header=HEADER + ",split",
    )
    table = read(tmp_path, split={"sft": 1, "align": 0, "heldout": 0})
    assert table.quarantined == []
    first, second, third = table.studies
    assert (first.findings, first.impression, first.split) == ("Clear lungs, no effusion.", "Normal.", "heldout")
    assert (second.volume, second.findings, second.split) == (str(tmp_path / "scans" / "b"), None, "sft")
    assert third.split == "heldout"


def test_columns_and_table_can_bear_other_names(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "list.csv").write_text("id,file,who,text\ns1,a.nii,ann,Clear lungs.\n")
    columns = {"study_id": "id", "path": "file", "patient_id": "who", "findings": "text", "impression": None}
    study = read(tmp_path, table="list.csv", columns=columns).studies[0]
    assert (study.study_id, study.patient_id, study.findings, study.impression) == ("s1", "ann", "Clear lungs.", None)
    with pytest.raises(DatasetError, match="lacks the column 'group'"):
        read(tmp_path, table="list.csv", columns={**columns, "split": "group"})
    with pytest.raises(DatasetError, match=r"other\.csv does not exist"):
        read(tmp_path, table="other.csv")


def test_a_table_without_splits_is_read_with_the_settings_of_the_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    write_table(tmp_path, "s1,a.nii,ann,,")
    columns = yaml.safe_load((CONFIGS / "data" / "folder.yaml").read_text())["columns"]
    assert [study.study_id for study in read(tmp_path, columns=columns).studies] == ["s1"]


def test_an_archive_stands_for_the_unpacked_folder_beside_it(tmp_path: Path) -> None:
    for name in ("x.tar.xz", "y.tar", "z.tar.xz"):
        (tmp_path / name).touch()
    write_dicom(tmp_path / "x")
    write_dicom(tmp_path / "y")
    write_table(tmp_path, "x,x.tar.xz,ann,,", "y,y.tar,ben,,", "z,z.tar.xz,cat,,")
    table = read(tmp_path)
    assert [study.volume for study in table.studies] == [str(tmp_path / "x"), str(tmp_path / "y")]
    assert "unpack it into a folder z beside it" in table.quarantined[0].reason


def test_rows_that_cannot_be_used_are_quarantined(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (tmp_path / "outside.nii").touch()
    (root / "a.nii").touch()
    (root / "ct.mnc").touch()
    (root / "link.nii").symlink_to(tmp_path / "outside.nii")
    rows = {
        "up": "up,../outside.nii,p,,",
        "absolute": f"absolute,{tmp_path / 'outside.nii'},p,,",
        "link": "link,link.nii,p,,",
        "none": "none,,p,,",
        "gone": "gone,gone.nii,p,,",
        "kind": "kind,ct.mnc,p,,",
        "nobody": "nobody,a.nii,,,",
        "again": "good,a.nii,p,,",
        "id": "a/b,a.nii,p,,",
        "split": "split,a.nii,p,,,test",
    }
    write_table(root, "good,a.nii,p,,", *rows.values(), header=HEADER + ",split")
    table = read(root)
    assert [study.study_id for study in table.studies] == ["good"]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    assert len(reasons) == len(rows)
    for study_id in ("up", "absolute"):
        assert "not a plain path below the data folder" in reasons[study_id]
    assert "the row names no path" in reasons["none"]
    assert "leads out of the data folder" in reasons["link"]
    assert "gone.nii does not exist" in reasons["gone"]
    assert "convert it to NIfTI" in reasons["kind"]
    assert "patient_id ''" in reasons["nobody"]
    assert "taken by" in reasons["good#repeated"]
    assert "study_id 'a/b'" in reasons["studies.csv#line-11"]
    assert "'test' is none of sft, align, heldout" in reasons["split"]


def test_without_a_table_every_ct_below_is_a_study_without_report(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.nii.gz", "deep/c.nii", "notes.txt"):
        (tmp_path / name).touch()
    write_dicom(tmp_path / "deep" / "series")
    table = read(tmp_path)
    assert [study.study_id for study in table.studies] == ["b", "deep__c", "deep__series"]
    assert all(study.findings is None and study.patient_id == study.study_id for study in table.studies)
    with pytest.raises(DatasetError, match="lacks the column"):
        write_table(tmp_path, header="study_id,path,patient,findings,impression")
        read(tmp_path)


def test_the_folder_itself_may_be_the_series(tmp_path: Path) -> None:
    write_dicom(tmp_path / "ct")
    assert [(one.study_id, one.volume) for one in read(tmp_path / "ct").studies] == [("ct", str(tmp_path / "ct"))]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no studies"):
        read(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        read(tmp_path / "absent")


@pytest.mark.skipif(not (SHARED / "ct").is_dir(), reason=f"no real CTs at {SHARED}")
def test_a_real_table_gives_its_readable_rows_and_names_the_others() -> None:
    table = read(SHARED / "ct")
    assert [one.study_id for one in table.studies] == [
        "lidc_idri_0314",
        "totalseg_abdomen",
        "totalseg_heart",
        "totalseg_aorta",
        "cip_chest",
    ]
    assert [one.study_id for one in table.quarantined] == [
        "lung_dx_a0001",
        "totalseg_dicom20",
        "cip_chest_dicom",
    ]
