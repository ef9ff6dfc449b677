import hashlib
import json
import platform
import subprocess
from pathlib import Path

import pytest

from rlaif.files import private_folder
from rlaif.provenance import checksum_of, git_state, provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "inside").mkdir(parents=True)
    assert git_state(project) is None
    git(project, "init", "-q")
    assert git_state(project) is None
    (project / "code.py").write_text("one")
    git(project, "add", "code.py")
    git(project, "commit", "-q", "-m", "one")
    commit = git(project, "rev-parse", "HEAD")
    assert git_state(project) == {"commit": commit, "dirty": False}
    (project / "code.py").write_text("two")
    assert git_state(project) == {"commit": commit, "dirty": True}
    assert git_state(project / "inside") is None  # an environment inside somebody's checkout is not that code
    assert git_state(tmp_path / "absent") is None


def test_provenance_is_plain_json_with_versions_and_checksums(tmp_path: Path) -> None:
    found = provenance({"sampling": 7}, data={"phantom": "aa"}, weights={"base": "bb"}, project=tmp_path)
    assert json.loads(json.dumps(found)) == found
    assert found["python"] == platform.python_version()
    assert found["packages"]["pyarrow"].count(".") == 2 and "no-such-package" not in found["packages"]
    assert (found["seeds"], found["data"], found["weights"]) == ({"sampling": 7}, {"phantom": "aa"}, {"base": "bb"})
    assert found["git"] is None


def test_checksums_are_of_content_and_names(tmp_path: Path) -> None:
    one = tmp_path / "one"
    (one / "inner").mkdir(parents=True)
    (one / "b.bin").write_bytes(b"abc")
    (one / "inner" / "a.bin").write_bytes(b"")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert checksum_of(one / "b.bin") == abc
    assert checksum_of(one) == hashlib.sha256(f"b.bin\0{abc}\ninner/a.bin\0{nothing}\n".encode()).hexdigest()
    (one / "b.bin").rename(one / "c.bin")
    renamed = checksum_of(one)
    (one / "c.bin").rename(one / "b.bin")
    assert checksum_of(one) != renamed
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "inner").symlink_to(one)
    with pytest.raises(ValueError, match="inner is a link to a folder"):
        checksum_of(tmp_path / "linked")
    with pytest.raises(FileNotFoundError):
        checksum_of(tmp_path / "absent")


def test_private_folders_lose_their_open_permissions(tmp_path: Path) -> None:
    fresh = private_folder(tmp_path / "a" / "cache")
    assert fresh.stat().st_mode & 0o777 == 0o700
    fresh.chmod(0o755)
    assert private_folder(fresh).stat().st_mode & 0o777 == 0o700
