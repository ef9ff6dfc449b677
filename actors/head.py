"""A local Ray head that lives as long as a context, and ends without touching any other Ray of the machine.

It has ports, a token and a folder of its own, so that several can stand beside each other.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

import psutil

from actors.head_token import write_token
from actors.quiet import QUIET

TRIES = 3
START_S = 120.0
END_S = 15.0
TERMINATE, KILL = psutil.Process.terminate, psutil.Process.kill
OF_ANOTHER_HEAD = {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_TMPDIR"}
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class HeadError(RuntimeError):
    """A Ray head that cannot be started or reached, with its last words."""


@dataclass(frozen=True)
class Head:
    """A head that takes jobs: its address for `ray job submit`, and the environment that such a command needs."""

    address: str
    environment: dict[str, str]


@contextmanager
def local_head(project: Path) -> Iterator[Head]:
    """Starts a head from the project's folder, where its jobs will run; ends it, and only it, with the context.

    What this process starts itself within the context ends with it too. Raises HeadError where the head does
    not come up: Ray gives itself 30 seconds, which a busy machine may need three times.
    """
    folder = private_folder()
    token = folder / "token"
    write_token(token)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in OF_ANOTHER_HEAD},
        **QUIET,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    # Whatever a head's processes leave behind becomes a child of this process, so that all of them are known.
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    not_ours = set(psutil.Process().children(recursive=True))
    try:
        yield _start(project, folder, environment, not_ours)
    finally:
        _end(not_ours)
        shutil.rmtree(folder, ignore_errors=True)


def _start(project: Path, folder: Path, environment: dict[str, str], not_ours: set[psutil.Process]) -> Head:
    for left in reversed(range(TRIES)):
        dashboard, client, agent = free_ports(3)
        head = Head(f"http://127.0.0.1:{dashboard}", environment)
        log = folder / "start.log"
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                _start_command(folder / "ray", dashboard, client, agent),
                cwd=project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the caller, who then ends the head in order.
                start_new_session=True,
                # A caller that is killed takes the head along.
                preexec_fn=lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
            )
        try:
            _wait_for(head, folder, process, log)
        except HeadError:
            if not left:
                raise
            _end(not_ours)
        else:
            break
    return head


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


def object_store_bytes() -> int:
    """Shared memory for Ray's objects: 2 GiB, less where the machine has little."""
    shared = shutil.disk_usage("/dev/shm").free
    return max(256 << 20, min(2 << 30, int(0.2 * psutil.virtual_memory().total), int(0.8 * shared)))


def _start_command(folder: Path, dashboard: int, client: int, agent: int) -> list[str]:
    return [
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
        "--include-dashboard=true",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}",
        f"--dashboard-agent-listen-port={agent}",
        # 0 stands for any free port; Ray's defaults are the same for every head of a machine.
        "--port=0",
        "--min-worker-port=0",
        "--max-worker-port=0",
        f"--temp-dir={folder}",
        f"--object-store-memory={object_store_bytes()}",
    ]


def private_folder() -> Path:
    """A new folder that only its owner can enter; Ray's own, which it opens to everyone, can stand in it."""
    # Ray's sockets stand some 65 characters below it, and a socket's path has at most 107.
    place = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="rlaif-ray-", dir=place if len(place) <= 20 else "/tmp"))


def _wait_for(head: Head, folder: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns once jobs can be submitted."""
    token = (folder / "token").read_text(encoding="utf-8")
    request = Request(f"{head.address}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    opener = build_opener(ProxyHandler({}))
    # A job's supervisor finds its own head among others by this note.
    note = folder / "ray" / "ray_current_cluster"
    until = time.monotonic() + START_S
    reason = "no answer"
    while time.monotonic() < until:
        if process.poll() is not None:
            raise HeadError(f"`ray start` ended with status {process.returncode}:\n{_last_words(log)}")
        try:
            with opener.open(request, timeout=5) as response:
                json.load(response)
                if note.is_file():
                    return
        except (URLError, OSError, ValueError) as error:
            reason = str(error)
        time.sleep(0.2)
    raise HeadError(f"the Ray head at {head.address} took no jobs in {START_S:g} s ({reason}):\n{_last_words(log)}")


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-15:])


def _end(not_ours: set[psutil.Process]) -> None:
    """Ends the head in order, then whatever is left of what it started."""
    # A second Ctrl-C must not leave half of it running.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # The head's first process ends the others in order.
        for end, below in ((TERMINATE, False), (TERMINATE, True), (KILL, True)):
            left = [one for one in psutil.Process().children(recursive=below) if one not in not_ours]
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    end(one)
            psutil.wait_procs(left, timeout=END_S)
    finally:
        signal.signal(signal.SIGINT, before)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
