"""A folder of one's own: with a table, without one, and with rows that would leave it."""

import os
from pathlib import Path

import pytest
import yaml

from rlaif.datasets.registry import load
from rlaif.datasets.settings import FolderSettings
from rlaif.datasets.study_table import DatasetError, StudyTable
from rlaif.records import Quarantined, table_of
from rlaif.volumes.source import VolumeSource

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
    (tmp_path / "later.nii.gz").touch()
    write_dicom(tmp_path / "scans" / "b")
    write_table(
        tmp_path,
        's1,a.nii.gz,ann,"Clear lungs, no effusion.",Normal.,heldout',
        "s2,scans/b,ben,,,",
        "s3,later.nii.gz,ann,,,",
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
    written = yaml.safe_load((CONFIGS / "data" / "folder.yaml").read_text(encoding="utf-8"))
    settings = {name: value for name, value in written.items() if name not in ("path", "seed")}
    assert [study.study_id for study in read(tmp_path, **settings).studies] == ["s1"]


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


def test_of_two_rows_with_one_ct_the_first_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    write_dicom(tmp_path / "b")
    rows = ("s1,a.nii,ann,,,sft", "s2,./a.nii,ben,,,heldout", "s3,b#1.2,cat,,,sft", "s4,b/#1.2,cat,,,sft")
    write_table(tmp_path, *rows, "s5,b#1.3,cat,,,sft", header=HEADER + ",split")
    table = read(tmp_path)
    assert [(one.study_id, one.split) for one in table.studies] == [("s1", "sft"), ("s3", "sft"), ("s5", "sft")]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    assert list(reasons) == ["s2", "s4"]
    assert "this volume is that of s1 already" in reasons["s2"] and "that of s3 already" in reasons["s4"]


def test_a_volume_whose_first_row_is_unusable_goes_to_the_second(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    write_table(tmp_path, "s1,a.nii,ann,,", "s2,a.nii,ann,Clear lungs.,")
    assert [one.study_id for one in read(tmp_path, empty_reports="quarantine").studies] == ["s2"]


def test_cts_that_no_row_names_are_reported(tmp_path: Path) -> None:
    for name in ("listed/slices", "unlisted/series", "unlisted/archived", "of#series", "unusable"):
        write_dicom(tmp_path / name)
    (tmp_path / "unlisted" / "series" / "0-read-me.txt").write_text("slices of a CT")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "note.txt").write_text("no CT")
    (tmp_path / "unlisted" / "deep.nii").touch()
    write_table(
        tmp_path,
        "s1,listed,ann,,",
        "s2,unlisted/archived.tar.gz,ben,,",
        "s3,of#series#1.2,cat,,",
        "not/an/id,unusable/,dan,,",
    )
    table = read(tmp_path)
    assert [one.study_id for one in table.studies] == ["s1", "s2", "s3"]
    unlisted = {one.path: one.reason for one in table.quarantined if one.study_id.endswith("#unlisted")}
    assert list(unlisted) == ["unlisted/deep.nii", "unlisted/series"]
    assert "no row of studies.csv names this volume" in unlisted["unlisted/series"]
    skipped = read(tmp_path, unlisted_volumes="skip")
    assert [one.study_id for one in skipped.quarantined] == ["studies.csv#line-5"]


def test_slices_in_the_folder_of_the_table_itself_are_reported_as_unlisted(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "a.nii").touch()
    write_table(tmp_path, "s1,a.nii,ann,,")
    assert [(one.study_id, one.path) for one in read(tmp_path).quarantined] == [(".#unlisted", ".")]


def test_one_odd_path_stops_no_other_row(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone.nii").symlink_to(tmp_path / "absent.nii")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "gone").symlink_to(tmp_path / "absent")
    odd = os.fsdecode(bytes(tmp_path) + b"/M\xfcller.nii")
    Path(odd).touch()
    write_table(tmp_path, f"long,{'n' * 300},p,,", "loop,loop,p,,", "gone,gone.nii,p,,", "good,a.nii,p,,")
    table = read(tmp_path)
    assert [one.study_id for one in table.studies] == ["good"]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    assert "longer than a file's name can be" in reasons["long"]
    assert "does not exist" in reasons["loop"] and "does not exist" in reasons["gone"]
    assert "no row of studies.csv" in reasons["M\\xfcller.nii#unlisted"]
    assert "none of its files can be read" in reasons["links#unlisted"]
    assert table_of(Quarantined, table.quarantined).num_rows == len(reasons) == 5


def test_without_a_table_odd_names_stop_no_other_ct(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    root = bytes(tmp_path)
    os.mkdir(root + b"/M\xfcller")
    for name in (b"/\xfc.nii", b"/M\xfcller/1"):
        Path(os.fsdecode(root + name)).write_bytes(bytes(128) + b"DICM")
    (tmp_path / "annex").mkdir()
    (tmp_path / "annex" / "1.dcm").symlink_to(tmp_path / "absent")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "gone").symlink_to(tmp_path / "absent")
    (tmp_path / "mixed" / "note.txt").write_text("no CT")
    os.mkfifo(tmp_path / "mixed" / "pipe")
    table = read(tmp_path)
    assert [one.study_id for one in table.studies] == ["a"]
    reasons = {one.path: one.reason for one in table.quarantined}
    assert sorted(reasons) == ["M\\xfcller", "\\xfc.nii", "annex"]
    assert "no UTF-8 text" in reasons["M\\xfcller"] and "is no file that is there" in reasons["annex"]
    assert table_of(Quarantined, table.quarantined).num_rows == 3


def test_a_name_with_a_number_sign_is_taken_whole_before_it_is_cut(tmp_path: Path) -> None:
    for name in ("pat#12", "pat", "lab#a", "old#1.2"):
        write_dicom(tmp_path / name)
    for name in ("scan#3.nii.gz", "ct#7"):
        (tmp_path / name).touch()
    (tmp_path / "old#1.2.tar.gz").touch()
    rows = {
        "digits": "pat#12",
        "series": "pat#1.2.3",
        "letters": "lab#a",
        "of_letters": "lab#a#1.2",
        "file": "scan#3.nii.gz",
        "bare_file": "ct#7",
        "no_uid": "pat#venous",
        "empty": "pat#",
        "of_digits": "pat#12#1.5",
        "archive": "old#1.2.tar.gz",
    }
    write_table(tmp_path, *(f"{study_id},{path},{study_id},," for study_id, path in rows.items()))
    table = read(tmp_path)
    sources = {one.study_id: VolumeSource.of(one) for one in table.studies}
    assert {name: (Path(one.location).name, one.series) for name, one in sources.items()} == {
        "series": ("pat", "1.2.3"),
        "letters": ("lab#a", None),
        "of_letters": ("lab#a", "1.2"),
        "file": ("scan#3.nii.gz", None),
        "of_digits": ("pat#12", "1.5"),
    }
    reasons = {one.study_id: one.reason for one in table.quarantined}
    assert list(reasons) == ["digits", "bare_file", "no_uid", "empty", "archive"]
    for name in ("digits", "archive"):
        assert "ends in # and digits, which name a series: rename it" in reasons[name]
    assert "of a kind that is not read" in reasons["bare_file"]
    assert "'venous' is no UID of a series" in reasons["no_uid"]
    assert "does not exist" in reasons["empty"]


def test_without_a_table_a_folder_that_would_be_misread_is_quarantined(tmp_path: Path) -> None:
    write_dicom(tmp_path / "pat#12")
    write_dicom(tmp_path / "pat#12b")
    table = read(tmp_path)
    assert [one.study_id for one in table.studies] == ["pat#12b"]
    assert [(one.path, "rename it" in one.reason) for one in table.quarantined] == [("pat#12", True)]
    assert "rename it" in read(tmp_path / "pat#12").quarantined[0].reason


SEGMENTED = HEADER + ",segmentation"


def write_segmented(root: Path, *files: str, row: str) -> None:
    """A table with one study, its CT, and the (empty) files of its segmentation."""
    (root / "ct.nii.gz").touch()
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    write_table(root, f"s1,ct.nii.gz,ann,,,{row}", header=SEGMENTED)


def read_segmented(root: Path, segmenter: str, **settings: object) -> StudyTable:
    return read(root, columns={"segmentation": "segmentation"}, segmenter=segmenter, **settings)


def test_a_label_map_of_totalsegmentator_gives_the_regions_it_has_labels_for(tmp_path: Path) -> None:
    write_segmented(tmp_path, "masks/s1.nii.gz", row="masks/s1.nii.gz")
    table = read_segmented(tmp_path, "totalsegmentator")
    assert table.quarantined == []
    regions = table.studies[0].regions
    assert regions is not None
    label_map = tmp_path / "masks" / "s1.nii.gz"
    assert regions["lung"] == (f"{label_map}#10,11,12,13,14",)
    assert regions["mediastinum"] == (f"{label_map}#52,53,54,55,56,57,58,59,60,62",)
    assert list(regions) == [
        *("abdomen", "bone", "esophagus", "heart", "lung", "mediastinum", "thyroid", "trachea and bronchie"),
    ]


def test_a_folder_of_masks_gives_the_regions_whose_structures_it_holds(tmp_path: Path) -> None:
    names = ("lung_upper_lobe_left", "lung_lower_lobe_right", "vertebrae_T4", "autochthon_left")
    write_segmented(tmp_path, *(f"seg/s1/{name}.nii.gz" for name in names), "seg/s1/statistics.json", row="seg/s1/")
    table = read_segmented(tmp_path, "totalsegmentator")
    assert table.quarantined == []
    folder = tmp_path / "seg" / "s1"
    assert table.studies[0].regions == {
        "bone": (f"{folder}/vertebrae_T4.nii.gz",),
        "lung": (f"{folder}/lung_lower_lobe_right.nii.gz", f"{folder}/lung_upper_lobe_left.nii.gz"),
    }


def test_masks_named_as_sat_and_radgenome_name_them_are_read(tmp_path: Path) -> None:
    write_segmented(tmp_path, "seg/left lung upper lobe.nii.gz", "seg/left breast.nii.gz", row="seg")
    assert list(read_segmented(tmp_path, "sat").studies[0].regions or ()) == ["breast", "lung"]
    (reason,) = (one.reason for one in read_segmented(tmp_path, "radgenome").quarantined)
    assert "no region is known for 'left lung upper lobe'" in reason
    write_segmented(tmp_path, "regions/trachea and bronchie.nii.gz", "regions/pleura.nii.gz", row="regions")
    table = read_segmented(tmp_path, "radgenome", unlisted_volumes="skip")
    assert list(table.studies[0].regions or ()) == ["pleura", "trachea and bronchie"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("names.csv", "number,name\n0,background\n1,trachea\n2,left lung\n3,right lung\n"),
        ("names.json", '{"1": "trachea", "2": "left lung", "3": "right lung"}'),
    ],
)
def test_numbers_of_a_label_map_are_named_by_a_file(tmp_path: Path, file: str, text: str) -> None:
    write_segmented(tmp_path, "seg.nii.gz", row="seg.nii.gz")
    assert "name a file in data.label_names" in read_segmented(tmp_path, "sat").quarantined[0].reason
    (tmp_path / file).write_text(text)
    label_map = tmp_path / "seg.nii.gz"
    assert read_segmented(tmp_path, "sat", label_names=file).studies[0].regions == {
        "lung": (f"{label_map}#2,3",),
        "trachea and bronchie": (f"{label_map}#1",),
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("number,name\n1,trachea\n1,lung\n", "label 1 has two names"),
        ("number,name\none,trachea\n", "'one' with the name 'trachea' is no label number"),
        ("number,name\n40000,trachea\n", "no label number from 1 to 32767"),
        ("number,name\n1,\n", "'1' with the name '' is no label number"),
        ("number,name\n0,background\n", "names no labels"),
        ("number,name\n1,wing\n2,lung\n3,tail\n", "no region is known for 'wing', 'tail'; give each a region"),
    ],
)
def test_label_names_that_cannot_be_used_stop_the_reading(tmp_path: Path, text: str, reason: str) -> None:
    write_segmented(tmp_path, "seg.nii.gz", row="seg.nii.gz")
    (tmp_path / "names.csv").write_text(text)
    with pytest.raises(DatasetError, match=reason):
        read_segmented(tmp_path, "sat", label_names="names.csv")


def test_structures_of_ones_own_get_their_region_in_the_settings(tmp_path: Path) -> None:
    write_segmented(tmp_path, "seg/Chest_Drain.nii.gz", "seg/table.nii.gz", "seg/aorta.nii.gz", row="seg")
    assert "'Chest_Drain', 'table'" in read_segmented(tmp_path, "sat").quarantined[0].reason
    own = {"chest drain": "pleura", "table": None, "aorta": "heart"}
    regions = read_segmented(tmp_path, "sat", structures=own).studies[0].regions
    assert regions == {"heart": (f"{tmp_path}/seg/aorta.nii.gz",), "pleura": (f"{tmp_path}/seg/Chest_Drain.nii.gz",)}
    with pytest.raises(ValueError, match="tail is none of the regions abdomen, bone"):
        read_segmented(tmp_path, "sat", structures={"table": "tail"})


def test_segmentations_that_cannot_be_used_quarantine_their_row_alone(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "empty").mkdir(parents=True)
    (root / "leak").mkdir()
    (tmp_path / "lung.nii").touch()
    (root / "leak" / "lung.nii").symlink_to(tmp_path / "lung.nii")
    (root / "seg.dcm").touch()
    segmentations = {"gone": "absent.nii", "up": "../lung.nii", "empty": "empty", "leak": "leak", "kind": "seg.dcm"}
    for name in ("none", *segmentations):
        (root / f"{name}.nii").touch()
    write_table(
        root,
        "none,none.nii,p,,,",
        *(f"{name},{name}.nii,p,,,{path}" for name, path in segmentations.items()),
        header=SEGMENTED,
    )
    table = read_segmented(root, "totalsegmentator")
    assert [(one.study_id, one.regions) for one in table.studies] == [("none", None)]
    reasons = {one.study_id: one.reason for one in table.quarantined}
    assert list(reasons) == list(segmentations)
    assert "the segmentation absent.nii does not exist" in reasons["gone"]
    assert "not a plain path below the data folder" in reasons["up"]
    assert "holds no masks" in reasons["empty"]
    assert "leads out of the data folder" in reasons["leak"]
    assert "seg.dcm is no label map" in reasons["kind"]
    partial = read_segmented(root, "totalsegmentator", missing_volumes="skip")
    assert [(one.study_id, one.regions) for one in partial.studies] == [("none", None), ("gone", None)]


def test_segmentations_need_a_column_a_segmenter_and_a_table(tmp_path: Path) -> None:
    (tmp_path / "ct.nii").touch()
    for settings in ({"segmenter": "sat"}, {"columns": {"segmentation": "mask"}}):
        with pytest.raises(ValueError, match="segmentation and segmenter belong together"):
            read(tmp_path, **settings)
    with pytest.raises(DatasetError, match="has no table"):
        read_segmented(tmp_path, "sat")


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


def test_a_column_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    write_table(tmp_path, "a,a.nii,p,Clear.,,sft,heldout", header=HEADER + ",split,split")
    with pytest.raises(DatasetError, match="has the column 'split' more than once"):
        read(tmp_path)


def test_no_study_is_kept_and_in_quarantine_under_one_id(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    write_table(tmp_path, "a,gone.nii,p,,", "a,a.nii,p,,")
    table = read(tmp_path)
    assert [one.study_id for one in table.studies] == ["a"]
    assert [one.study_id for one in table.quarantined] == ["a#refused"]
