"""A data set's folder: nothing is read from outside of it, and S3 gives the same as a disk."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlaif.datasets import ct_rate, folder, phantom
from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.layout import SplitSettings
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.datasets.settings import CtRateSettings, FolderSettings
from rlaif.datasets.study_table import DatasetError
from rlaif.records import Study


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a file, a deep one, and links to a file and a folder outside."""
    root = tmp_path / "set"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "t.csv").write_text("a,b\n1,2\n")
    (root / "deep" / "er" / "ct.nii.gz").write_bytes(b"ct")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.csv").write_text("secret")
    (root / "link.csv").symlink_to(tmp_path / "outside" / "secret.csv")
    (root / "linked").symlink_to(tmp_path / "outside")
    return root


def test_what_is_in_the_folder_is_found(tree: Path) -> None:
    data = DataFolder(tree)
    assert data.name == "set"
    assert data.is_file("t.csv") and not data.is_file("deep") and not data.is_file("absent")
    assert data.is_folder("deep/er") and not data.is_folder("t.csv")
    assert data.size("t.csv") == 8
    with data.open("t.csv") as file:
        assert file.read() == b"a,b\n1,2\n"
    assert data.files_below() == ["deep/er/ct.nii.gz", "link.csv", "t.csv"]
    assert data.files_below("deep") == ["deep/er/ct.nii.gz"] and data.files_below("absent") == []
    assert data.locate("deep/er/ct.nii.gz") == str(tree / "deep" / "er" / "ct.nii.gz")


@pytest.mark.parametrize(
    "path", ["../outside/secret.csv", "/etc/passwd", "deep/../../outside", "//etc/passwd", "a\\b", "a\x00b"]
)
def test_no_path_leaves_the_folder(tree: Path, path: str) -> None:
    data = DataFolder(tree)
    for look in (data.locate, data.is_file, data.is_folder, data.open, data.size, data.files_below):
        with pytest.raises(DatasetError, match="not a plain path below the data folder"):
            look(path)


@pytest.mark.parametrize("path", ["link.csv", "linked/secret.csv"])
def test_no_link_leads_out_of_the_folder(tree: Path, path: str) -> None:
    data = DataFolder(tree)
    for look in (data.locate, data.is_file, data.open, data.size):
        with pytest.raises(DatasetError, match="leads out of the data folder through a link"):
            look(path)


@pytest.mark.parametrize("path", ["n" * 256, "é" * 128 + "/ct.nii", "deep/" * 900 + "ct.nii"])
def test_names_that_no_file_can_bear_are_one_error_each(tree: Path, path: str) -> None:
    data = DataFolder(tree)
    for look in (data.locate, data.is_file, data.is_folder, data.open, data.size, data.files_below):
        with pytest.raises(DatasetError, match="longer than a file's name can be"):
            look(path)
    assert not data.is_file("n" * 255)


def test_a_name_that_is_no_text_is_listed_as_text_and_refused_when_used(tree: Path) -> None:
    Path(os.fsdecode(bytes(tree) + b"/deep/M\xfcller.nii")).touch()
    data = DataFolder(tree)
    assert data.files_below("deep") == ["deep/M\\xfcller.nii", "deep/er/ct.nii.gz"]
    with pytest.raises(DatasetError, match="rename what holds a backslash, or a byte that is no UTF-8 text"):
        data.locate("deep/M\\xfcller.nii")
    odd = Path(os.fsdecode(bytes(tree) + b"/\xfc"))
    odd.mkdir()
    with pytest.raises(DatasetError, match="its name is no UTF-8 text"):
        DataFolder(odd)


def test_links_to_nothing_or_to_themselves_and_pipes_are_no_files(tree: Path) -> None:
    (tree / "gone").symlink_to(tree / "fetched-later")
    (tree / "loop").symlink_to(tree / "loop")
    os.mkfifo(tree / "pipe")
    data = DataFolder(tree)
    assert {"gone", "loop", "pipe"} <= set(data.files_below())
    for path in ("gone", "loop", "pipe"):
        assert not data.is_file(path) and not data.is_folder(path)
        for look in (data.open, data.size):
            with pytest.raises(FileNotFoundError, match="is no file that is there"):
                look(path)


def test_a_folder_that_cannot_be_listed_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may list every folder but one whose path is too long to be named.
    with monkeypatch.context() as moved:
        moved.chdir(tree / "deep")
        for _ in range(17):
            Path("d" * 250).mkdir()
            moved.chdir("d" * 250)
        Path("ct.nii").touch()
    with pytest.raises(DatasetError, match=r"d{20}.*' cannot be read \(File name too long\)"):
        DataFolder(tree).files_below()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_what_may_not_be_read_is_named(tree: Path) -> None:
    data = DataFolder(tree)
    (tree / "t.csv").chmod(0)
    (tree / "deep").chmod(0)
    try:
        with pytest.raises(DatasetError, match=r"t\.csv' cannot be read \(Permission denied\)"):
            data.open("t.csv")
        for look in (data.is_file, data.files_below):
            with pytest.raises(DatasetError, match=r"deep.*' cannot be read \(Permission denied\)"):
                look("deep/er/ct.nii.gz" if look == data.is_file else "deep")
    finally:
        (tree / "deep").chmod(0o755)


def test_what_git_keeps_for_itself_is_passed_over(tree: Path) -> None:
    (tree / ".git" / "annex").mkdir(parents=True)
    (tree / ".git" / "annex" / "ct.nii.gz").touch()
    assert DataFolder(tree).files_below() == ["deep/er/ct.nii.gz", "link.csv", "t.csv"]


def test_one_file_has_one_location_however_it_is_written(tree: Path, bucket: Any) -> None:
    for data in (DataFolder(tree), DataFolder(bucket.upload(tree / "deep", "spelling"))):
        assert data.locate("er//ct.nii.gz") == data.locate("./er/ct.nii.gz") == data.locate("er/ct.nii.gz")


def test_a_bucket_shows_what_the_disk_shows(tree: Path, bucket: Any) -> None:
    for link in ("link.csv", "linked"):
        (tree / link).unlink()
    local, remote = DataFolder(tree), DataFolder(bucket.upload(tree, "tree"))
    assert remote.files_below() == local.files_below() and remote.files_below("deep") == local.files_below("deep")
    assert remote.files_below("absent") == []
    for path in ("t.csv", "deep", "deep/er/ct.nii.gz", "absent"):
        assert (remote.is_file(path), remote.is_folder(path)) == (local.is_file(path), local.is_folder(path))
    with remote.open("t.csv") as file:
        assert file.read() == b"a,b\n1,2\n"
    assert remote.size("t.csv") == 8
    with pytest.raises(FileNotFoundError):
        remote.size("absent")
    with pytest.raises(DatasetError, match="not a plain path"):
        remote.is_file("../other")
    with pytest.raises(DatasetError, match=r"data folder s3://cts/nothing\?.* does not exist"):
        DataFolder(bucket.location("nothing"))


def test_ct_rate_in_a_bucket_gives_the_studies_of_the_disk(bucket: Any, tmp_path: Path) -> None:
    phantom.generate(tmp_path / "set", PhantomSettings(sft=3, align=2, heldout=2, seed=1), workers=1)
    address = bucket.upload(tmp_path / "set", "phantom")
    split = SplitSettings(sft=3, align=2, heldout=2)
    local = ct_rate.read_studies(CtRateSettings(path=str(tmp_path / "set"), split=split))
    remote = ct_rate.read_studies(CtRateSettings(path=address, split=split))
    assert len(remote.studies) == 7 and remote.quarantined == local.quarantined == []

    def without_place(studies: list[Study]) -> list[Study]:
        return [replace(one, volume=None) for one in studies]

    assert without_place(remote.studies) == without_place(local.studies)
    first = remote.studies[0]
    assert first.volume == bucket.location(f"phantom/dataset/train/train_1/train_1_a/{first.study_id}.nii.gz")


def test_a_folder_of_ones_own_may_be_a_bucket(bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"ct")
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1").write_bytes(bytes(128) + b"DICM")
    address = bucket.upload(tmp_path, "own")
    studies = folder.read_studies(FolderSettings(path=address)).studies
    assert [(one.study_id, one.volume) for one in studies] == [
        ("a", bucket.location("own/a.nii.gz")),
        ("series", bucket.location("own/series")),
    ]
