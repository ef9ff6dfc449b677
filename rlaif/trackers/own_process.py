"""A tracker's client in a process of its own: its packages, threads and network never reach the job's process.

The process has an environment of few variables, a time limit, and no say in whether the run goes on.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

# What a Python process needs, and where certificates stand.
_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)
_PROXIES = tuple(name for one in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for name in (one, one.lower()))
_SOURCE = str(Path(__file__).resolve().parents[2])
_SHOWN = 500
_MOST_BYTES = 1 << 20


class TrackerFailed(RuntimeError):
    """A tracker that did not take what it was told, with its reason."""


def run_apart(
    module: str, told: Mapping[str, Any], environment: Mapping[str, str], *, proxy: bool, timeout_s: float
) -> None:
    """Runs `python -m module` with `told` as JSON on its standard input.

    Raises TrackerFailed with the process's last error, and for one that is not done after `timeout_s` seconds: it and
    what it started are ended then.
    """
    kept = (*_KEPT, *_PROXIES) if proxy else _KEPT
    settings = {name: os.environ[name] for name in kept if name in os.environ} | dict(environment)
    settings["PYTHONPATH"] = os.pathsep.join(filter(None, (_SOURCE, settings.get("PYTHONPATH"))))
    # Files and no pipes: a grandchild that lives on would keep a pipe open.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
        given.write(json.dumps(told, allow_nan=False).encode())
        given.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=settings,
            umask=0o077,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TrackerFailed(f"it was not done after trackers.timeout_s={timeout_s:g}") from None
        finally:
            _end(process)
        if status:
            errors.seek(0, os.SEEK_END)
            errors.seek(max(0, errors.tell() - _MOST_BYTES))
            raise TrackerFailed(_reason(errors.read().decode(errors="replace")) or f"it ended with status {status}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and what it started, which are a process group of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reason(errors: str) -> str:
    """The error in a process's last traceback: the first line after it that is not indented."""
    after = errors.rpartition("Traceback (most recent call last):")[2].splitlines()
    lines = [line for line in after if line.strip() and not line.startswith(" ")]
    return lines[0][:_SHOWN] if lines else ""
