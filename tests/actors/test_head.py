"""A local head beside others: its job's log and status, what it leaves behind, and which head a job joins."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from actors.cluster import head_address
from actors.head import free_ports
from actors.head_token import guard_own_token
from actors.running_head import started_head
from rlaif.config import ConfigurationError

PROJECT = Path(__file__).resolve().parents[2]

# A job whose worker starts a process that nobody waits for.
JOB = """
import os, subprocess, sys, time
from pathlib import Path
import ray

ray.init()

@ray.remote
def work():
    return subprocess.Popen(["sleep", "600"], start_new_session=True).pid

token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
print("folder", token.parent, oct(token.parent.stat().st_mode)[-3:], "token", oct(token.stat().st_mode)[-3:])
print("stands in", os.getcwd())
print("left", ray.get(work.remote()), flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(7)
"""


class Submission:
    """`jobs/submit.py` with a job of the given length; it sees no head but the one that it starts."""

    def __init__(self, folder: Path, seconds: float) -> None:
        (folder / "job.py").write_text(JOB)
        self.log = folder / "log"
        settings = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        command = [sys.executable, str(PROJECT / "jobs" / "submit.py"), str(folder / "job.py"), str(seconds)]
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                command,
                env={**settings, "TMPDIR": str(folder)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def words_after(self, beginning: str) -> list[str]:
        """The words of the log's line that begins so, once it is there."""
        until = time.monotonic() + 200
        while time.monotonic() < until:
            ended = self.process.poll() is not None
            lines = self.log.read_text(encoding="utf-8").splitlines()
            if found := [line for line in lines if line.startswith(f"{beginning} ")]:
                return found[0].removeprefix(beginning).split()
            if ended:
                break
            time.sleep(0.2)
        raise AssertionError(self.log.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_job_gets_a_private_head_and_nothing_of_it_stays(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "600"])
    submission = Submission(tmp_path, seconds=0)
    status = submission.process.wait(280)
    folder, folder_mode, _, token_mode = submission.words_after("folder")
    try:
        assert status == 7
        assert (folder_mode, token_mode) == ("700", "600")
        assert submission.words_after("stands in") == [str(PROJECT)]
        assert not psutil.pid_exists(int(submission.words_after("left")[0]))
        assert not Path(folder).exists()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.slow
def test_an_interrupted_job_ends_with_its_head(tmp_path: Path) -> None:
    submission = Submission(tmp_path, seconds=600)
    left = int(submission.words_after("left")[0])
    below = psutil.Process(submission.process.pid).children(recursive=True)
    os.killpg(submission.process.pid, signal.SIGINT)
    assert submission.process.wait(60) == 130
    assert [one for one in below if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    assert not psutil.pid_exists(left)
    assert "Traceback" not in submission.log.read_text(encoding="utf-8")


def test_a_stale_note_of_a_head_is_no_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    note = tmp_path / "ray" / "ray_current_cluster"
    note.parent.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        note.write_text(f"127.0.0.1:{listener.getsockname()[1]}")
        assert started_head() == note.read_text(encoding="utf-8")
        assert head_address("auto") == note.read_text(encoding="utf-8")
        assert head_address("local") == "local"
    assert started_head() is None
    assert head_address("auto") == "local"


def test_a_named_head_that_cannot_be_joined_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    silent = f"127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("RAY_ADDRESS", silent)
    with pytest.raises(ConfigurationError, match=f"no Ray head answers at {silent}: start it, or unset RAY_ADDRESS"):
        head_address("auto")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(ConfigurationError, match="takes submitted jobs: use `ray job submit`"):
        head_address("auto")


def test_the_token_of_the_user_is_made_and_kept_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    token = tmp_path / ".ray" / "auth_token"
    guard_own_token()
    first = token.read_text(encoding="utf-8")
    assert len(first) == 64
    assert token.stat().st_mode & 0o777 == 0o600
    token.chmod(0o644)
    guard_own_token()
    assert token.read_text(encoding="utf-8") == first
    assert token.stat().st_mode & 0o777 == 0o600
