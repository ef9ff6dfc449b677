"""A tracker's client in a process of its own: its packages, threads and network never reach the job's process.

The process has an environment of few variables, a time limit, and no say in whether the run goes on.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
    module: str,
    told: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    keys: Mapping[str, str],
    proxy: bool,
    timeout_s: float,
) -> None:
    """Runs `python -m module` with `told` on its standard input (`told_here`), and `keys` in its environment too.

    Raises TrackerFailed with the process's last error, without the keys; where no process can be started; and for one
    that is not done after `timeout_s` seconds. Its process group is ended then. W&B's service has a session of its own
    and ends itself when its client is gone.
    """
    try:
        _run(module, {**told, "timeout_s": timeout_s}, environment, keys, proxy=proxy)
    except OSError as error:
        raise TrackerFailed(f"no process of its own could be run: {error}") from error


def told_here() -> dict[str, Any]:
    """What `run_apart` told this process, which ends when its time is over, also where the job is gone by then."""
    told: dict[str, Any] = json.load(sys.stdin)
    signal.alarm(math.ceil(told["timeout_s"]))
    return told


def _run(
    module: str, told: Mapping[str, Any], environment: Mapping[str, str], keys: Mapping[str, str], *, proxy: bool
) -> None:
    kept = (*_KEPT, *_PROXIES) if proxy else _KEPT
    settings = {name: os.environ[name] for name in kept if name in os.environ} | dict(environment) | dict(keys)
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
            status = process.wait(told["timeout_s"])
        except subprocess.TimeoutExpired:
            raise TrackerFailed(f"it was not done after trackers.timeout_s={told['timeout_s']:g}") from None
        finally:
            _end(process)
        if status:
            errors.seek(0, os.SEEK_END)
            errors.seek(max(0, errors.tell() - _MOST_BYTES))
            reason = _reason(_without_keys(errors.read().decode(errors="replace"), keys.values()))
            raise TrackerFailed(reason or f"it ended with status {status}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and what it started in its process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _without_keys(text: str, keys: Iterable[str]) -> str:
    """The text without the keys, as they are and as an address holds them."""
    shown = {form for key in keys for form in (key, quote(key, safe=""))}
    for form in sorted(shown, key=len, reverse=True):
        text = text.replace(form, "[key]")
    return text


def _reason(errors: str) -> str:
    """The error in a process's last traceback: the first line after it that is not indented."""
    after = errors.rpartition("Traceback (most recent call last):")[2].splitlines()
    lines = [line for line in after if line.strip() and not line.startswith(" ")]
    return lines[0][:_SHOWN] if lines else ""
