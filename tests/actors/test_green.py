"""GREEN's engine stands in the process that asks it: its tests, in green_engine.py, have a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).with_name("green_engine.py")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_engine_and_its_judge() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)]
    # What trainers of other tests leave in the environment would make the engine one of several ranks.
    left = ("ACCELERATE_", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_", "RAY_", "VLLM_", "OMP_", "DS_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(left)}
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=840, cwd=Path(__file__).parents[2], env=clean
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    # Each of them ran: none was skipped or left out.
    assert " passed" in done.stdout and "skipped" not in done.stdout and "failed" not in done.stdout
