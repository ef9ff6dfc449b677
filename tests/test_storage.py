"""Where data lie: addresses, copies of what is remote, and patience with storage that is away."""

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rlaif import storage
from rlaif.storage import (
    StorageAddressError,
    StorageUnavailable,
    below,
    file_name,
    file_states,
    filesystem_of,
    local_copy,
    parent_of,
    with_retries,
)


def test_addresses_keep_their_options_at_the_end() -> None:
    address = "s3://cts/data?region=eu-west-1"
    assert below(address, "a/b.nii") == "s3://cts/data/a/b.nii?region=eu-west-1"
    assert below(address, "") == address
    assert parent_of("s3://cts/data/t.csv?region=x") == "s3://cts/data?region=x"
    assert file_name("s3://cts/data/a.nii.gz?region=x") == "a.nii.gz"
    assert below("/data/cts", "a/b.nii") == "/data/cts/a/b.nii"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://", "no address of the form s3://bucket/prefix"),
        ("s3:///data", "no address of the form s3://bucket/prefix"),
        ("s3://cts/../other", "holds '..'"),
        ("s3://key:secret@cts/data", "bears no credentials"),
        ("s3://cts/data?secret_key=abc", "credentials come from the environment"),
        ("/data/cts", "no address of the form"),
    ],
)
def test_addresses_that_cannot_be_used_say_why(address: str, message: str) -> None:
    with pytest.raises(StorageAddressError, match=message.replace("?", r"\?")):
        filesystem_of(address)


def test_a_remote_file_and_folder_become_a_local_copy_that_ends_with_its_use(bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "series" / "deep").mkdir(parents=True)
    (tmp_path / "series" / "1.dcm").write_bytes(b"one")
    (tmp_path / "series" / "deep" / "2.dcm").write_bytes(b"two" * 100_000)
    bucket.upload(tmp_path, "copies")
    with local_copy(bucket.location("copies/series")) as folder:
        held = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert held == {"1.dcm": b"one", "deep/2.dcm": b"two" * 100_000}
        assert folder.name == "series"
    assert not folder.exists()
    with local_copy(bucket.location("copies/series/1.dcm")) as file:
        assert (file.name, file.read_bytes()) == ("1.dcm", b"one")
    assert not file.exists()
    with pytest.raises(FileNotFoundError), local_copy(bucket.location("copies/absent.nii")):
        pass
    with local_copy(str(tmp_path)) as local:
        assert local == tmp_path


def test_the_state_of_files_follows_their_content(bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"one")
    bucket.upload(tmp_path, "states")
    ((name, size, changed),) = file_states(bucket.location("states/a.nii"))
    assert (name, size) == ("s3://cts/states/a.nii", 3) and changed > 10**18
    (tmp_path / "a.nii").write_bytes(b"other")
    bucket.upload(tmp_path, "states")
    assert file_states(bucket.location("states/a.nii"))[0][1] == 5
    assert file_states(str(tmp_path)) == file_states(str(tmp_path / "a.nii"))
    for location in (bucket.location("states/absent"), str(tmp_path / "absent")):
        with pytest.raises(FileNotFoundError):
            file_states(location)


def test_a_copy_larger_than_a_study_is_refused(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nii").write_bytes(bytes(2000))
    bucket.upload(tmp_path, "large")
    monkeypatch.setattr(storage, "MAX_COPY_BYTES", 1999)
    with pytest.raises(OSError, match="holds 2000 bytes"), local_copy(bucket.location("large/a.nii")):
        pass


def test_a_key_that_climbs_is_written_nowhere(bucket: Any, tmp_path: Path) -> None:
    import boto3

    endpoint = "http://" + bucket.options.partition("&")[0].partition("=")[2]
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.put_object(Bucket="cts", Key="climbing/series/1.dcm", Body=b"one")
    client.put_object(Bucket="cts", Key="climbing/series/../../../escaped", Body=b"escaped")
    with pytest.raises(PermissionError, match="climbs out"), local_copy(bucket.location("climbing/series")):
        pass


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_storage_that_comes_back_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    port = free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    monkeypatch.setattr(storage, "_RETRY_AFTER_S", (0.2, 1.0, 4.0, 4.0))
    starting = threading.Timer(1.0, server.start)
    starting.start()
    with pytest.raises(FileNotFoundError):
        file_states(f"s3://cts/a.nii?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1")
    starting.join()
    server.stop()


def test_storage_that_stays_away_ends_in_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_RETRY_AFTER_S", (0.1,))
    address = f"s3://cts/a.nii?endpoint_override=127.0.0.1:{free_port()}&scheme=http&region=us-east-1"
    with pytest.raises(StorageUnavailable, match=r"could not be read after 2 attempts .*check the storage"):
        file_states(address)


def test_only_storage_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_RETRY_AFTER_S", (0.01, 0.01))
    asked: list[float] = []

    def failing(error: OSError, times: int) -> Any:
        def action() -> str:
            asked.append(time.monotonic())
            if len(asked) <= times:
                raise error
            return "there"

        return action

    assert with_retries(failing(OSError(116, os.strerror(116)), 2), "/nfs/a.nii") == "there"
    assert len(asked) == 3
    for error in (FileNotFoundError(2, "gone"), PermissionError(13, "refused"), OSError(36, "name too long")):
        asked.clear()
        with pytest.raises(OSError, match=error.strerror):
            with_retries(failing(error, 9), "/nfs/a.nii")
        assert len(asked) == 1
    asked.clear()
    with pytest.raises(StorageUnavailable, match=r"this machine has run out of something .*No space left"):
        with_retries(failing(OSError(28, os.strerror(28)), 9), "s3://cts/a.nii")
    assert len(asked) == 1
    asked.clear()
    with pytest.raises(StorageUnavailable, match="after 3 attempts"):
        with_retries(failing(OSError(5, "Input/output error"), 9), "/nfs/a.nii")
    assert len(asked) == 3
