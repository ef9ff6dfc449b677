"""What a job loads before it knows what there is to do."""

import subprocess
import sys

ENGINES = ("torch", "transformers", "peft", "deepspeed", "vllm")
PROGRAM = f"""
import runpy, sys
runpy.run_path(sys.argv[1])
print([name for name in {ENGINES!r} if name in sys.modules])
"""


def test_the_main_job_imports_no_engine() -> None:
    """Configuration errors, finished runs and runs that go on from the ledger should not wait for them."""
    from rlaif.launch import PROJECT

    command = [sys.executable, "-c", PROGRAM, str(PROJECT / "jobs" / "dpo_loop.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]"
