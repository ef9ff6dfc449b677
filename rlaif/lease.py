"""The lease of a run folder: one writer at a time, and writes of an older attempt are refused.

`lease.json` names the holder and the number of its attempt. It changes only under a lock on
`.lease.lock` (flock, which NFSv4 carries between hosts), and so does every name in the run
folder: a writer checks its attempt and renames its file inside the same critical section.
"""

import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import psutil

from rlaif.files import RunError, replacing

LEASE_FILE = "lease.json"
LOCK_FILE = ".lease.lock"
HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
LOCK_SECONDS = 60.0
DYING_SECONDS = 2.0

logger = logging.getLogger(__name__)


class LeaseHeld(RunError):
    """Another process writes this run folder now."""


class LeaseLost(RunError):
    """This process no longer holds the lease: its writes are refused."""


@dataclass(frozen=True)
class Holder:
    """What `lease.json` says: the attempt, and the process that makes it.

    `host` and `namespace` together say where `pid` means something; `started` is the process's
    start in seconds since the epoch, which tells it from a later process of the same number.
    """

    attempt: int
    host: str
    namespace: str
    pid: int
    started: float
    heartbeat: str
    released: bool

    @classmethod
    def this_process(cls, attempt: int, released: bool = False) -> "Holder":
        """This process as the holder, with its heartbeat at this moment."""
        # The start time is asked anew at each heartbeat: it shifts when the system's clock is set.
        started = psutil.Process().create_time()
        now = datetime.now(UTC).isoformat()
        return cls(attempt, socket.gethostname(), _namespace(), os.getpid(), started, now, released)

    @property
    def near(self) -> bool:
        """Whether the holder's process, if it lives, is visible from this one."""
        return (self.host, self.namespace) == (socket.gethostname(), _namespace())

    @property
    def running(self) -> bool:
        """Whether a near holder's process lives."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1.0
            return same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except psutil.NoSuchProcess:
            return False


class Lease:
    """A run folder's lease, held by this process and renewed by a daemon thread until `release`."""

    def __init__(self, folder: Path, attempt: int) -> None:
        self.folder = folder
        self.attempt = attempt
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {folder.name}", daemon=True)
        self._thread.start()

    @classmethod
    def take(cls, folder: Path) -> "Lease":
        """Take the lease of an existing folder with the attempt after the last one.

        A holder that this host can see decides, and has DYING_SECONDS to go: a process that was killed
        still counts as running while the system takes its memory back. For one elsewhere its heartbeat
        decides: this call waits, at most STALE_SECONDS, until it is renewed or too old.
        Raises LeaseHeld while another process (or this one) holds the lease.
        """
        seen: str | None = None
        began = time.monotonic()
        deadline = began + STALE_SECONDS
        while True:
            with _locked(folder) as lock:
                holder = _read(folder)
                if holder is None or holder.released or _gone(holder, folder, lock) or _expired(holder, seen, deadline):
                    attempt = 1 if holder is None else holder.attempt + 1
                    _write(folder, Holder.this_process(attempt))
                    return cls(folder, attempt)
            if holder.near:
                if holder.pid == os.getpid() or time.monotonic() - began > DYING_SECONDS:
                    raise LeaseHeld(_held(holder, folder))
                time.sleep(0.05)
                continue
            if seen is not None and holder.heartbeat != seen:
                raise LeaseHeld(_held(holder, folder))
            if seen is None:
                logger.warning("%s: waiting for the heartbeat of pid %d on %s", folder, holder.pid, holder.host)
            seen = holder.heartbeat
            time.sleep(0.5)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """The critical section of one write; raises LeaseLost where this attempt no longer holds the lease."""
        with _locked(self.folder):
            self._check()
            yield

    def release(self) -> None:
        """Give the lease back, so that the next attempt need not wait; a lost lease is left to its holder."""
        self._stop.set()
        self._thread.join(timeout=LOCK_SECONDS)
        if not self.folder.is_dir():
            return
        with _locked(self.folder):
            holder = _read(self.folder)
            if holder is not None and holder.attempt == self.attempt and not holder.released:
                _write(self.folder, Holder.this_process(self.attempt, released=True))

    def _check(self) -> None:
        holder = _read(self.folder)
        if holder is None:
            raise LeaseLost(f"{self.folder}: {LEASE_FILE} is gone, so nothing more is written; start the run again")
        if holder.attempt != self.attempt:
            raise LeaseLost(
                f"{self.folder}: attempt {holder.attempt} (pid {holder.pid} on {holder.host}) took this run over from "
                f"attempt {self.attempt}, whose writes are refused; let it go on, or stop it and start the run again"
            )
        if holder.released:
            raise LeaseLost(f"{self.folder}: the run folder was closed; open it again to write")

    def _renew(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                with self.guard():
                    _write(self.folder, Holder.this_process(self.attempt))
            except LeaseLost as error:
                logger.error("%s", error)
                return
            except (OSError, RunError) as error:
                logger.warning("%s: the lease was not renewed and will be tried again: %s", self.folder, error)


def _namespace() -> str:
    """What else it takes to know a pid's world: the boot and the process namespace (containers share host names)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The folder's lock, as an open descriptor; raises RunError after LOCK_SECONDS, or where there are no locks."""
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunError(
                        f"{folder / LOCK_FILE} was locked for {LOCK_SECONDS:.0f} s by another process; "
                        "see which (fuser), stop it and start again"
                    ) from None
                time.sleep(0.005)
            except OSError as error:
                raise RunError(
                    f"{folder} is on a file system without file locks ({error.strerror}); "
                    "set run.root to a local disk, or mount this one with locks"
                ) from error
        try:
            yield descriptor
        finally:
            # Unlocked by name: a child forked meanwhile has the descriptor too, and closing ours would not do.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _gone(holder: Holder, folder: Path, lock: int) -> bool:
    """Whether the holder is known to be dead: no such process here, or elsewhere no heartbeat for too long."""
    if holder.near:
        return not holder.running
    # Both times come from the file system's own clock, so the hosts' clocks need not agree.
    os.utime(lock)
    age = os.fstat(lock).st_mtime - (folder / LEASE_FILE).stat().st_mtime
    return abs(age) > STALE_SECONDS


def _expired(holder: Holder, seen: str | None, deadline: float) -> bool:
    return not holder.near and holder.heartbeat == seen and time.monotonic() > deadline


def _held(holder: Holder, folder: Path) -> str:
    itself = holder.near and holder.pid == os.getpid()
    who = "this very process" if itself else f"pid {holder.pid} on host {holder.host}"
    todo = "close it first" if itself else "wait for it to end, stop it, or choose another run.name"
    return f"{folder} is being written by {who} (attempt {holder.attempt}, heartbeat {holder.heartbeat}); {todo}"


def _read(folder: Path) -> Holder | None:
    path = folder / LEASE_FILE
    try:
        values = json.loads(path.read_bytes())
        return Holder(**{field.name: values[field.name] for field in fields(Holder)})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{path} is not a lease ({error!r}); make sure nothing writes this run, then remove it"
        ) from error


def _write(folder: Path, holder: Holder) -> None:
    with replacing(folder / LEASE_FILE) as file:
        file.write(json.dumps(asdict(holder), indent=2).encode())
