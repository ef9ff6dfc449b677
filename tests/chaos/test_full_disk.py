"""A disk that fills up in the middle of a run: a clear error, and the same command goes on once there is room."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def mounted(folder: Path, *options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight megabytes: a base policy of five has room there, and a checkpoint beside it has not."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mounted(folder, "size=8m"):
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=30)


def test_a_full_disk_ends_the_run_with_a_clear_error_and_the_same_command_goes_on(
    smoke: Any, small_disk: Path, start_job: Callable[..., Any]
) -> None:
    # The cache of a finished run has its phantom, its features and its base.
    overrides = ["experiment=smoke", f"run.root={small_disk}", f"cache.root={smoke.path.parents[1] / 'cache'}"]
    overrides += ["run.rounds=1", "heldout.resamples=200"]
    job = start_job("dpo_loop", *overrides)
    assert job.ended(400) == 2, job.output[-3000:]
    told = job.output.strip().splitlines()[-1]
    assert told.startswith("error: ") and "the disk is full: make room there, then give the same command again" in told
    assert "Traceback" not in job.output
    run = small_disk / "smoke"
    assert (run / "ledger" / "round-000" / "pairs.json").is_file()
    assert (
        not (run / "round-000" / "checkpoint").exists() and not (run / "ledger" / "round-000" / "learn.json").exists()
    )

    assert mounted(small_disk, "remount", "size=64m")
    again = start_job("dpo_loop", *overrides)
    assert again.ended(400) == 0, again.output[-3000:]
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished" and summary["rounds"][0]["candidates"] == 96
