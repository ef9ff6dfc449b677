"""The judge cache on disk: replies that were paid for, under keys made of everything that a reply depends on.

A folder holds append-only segments of JSON lines. Every writer session has segments of its own under a fresh name, so
that several may stand on one folder of a shared file system; nothing that was written is ever changed. A line begins
with a checksum of what follows. Memory holds only where each reply lies: about 150 bytes a reply.
"""

import errno
import io
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rlaif.files import RunError, private_folder, sync_folder
from rlaif.judges.asking import Reply
from rlaif.judges.stored_reply import Payment, StoredReply, check_key, decoded, encoded, lines_of, payment_of

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 64 * 2**20
_SEGMENT_NAME = re.compile(r"replies-[0-9]{20}-[0-9a-f]{16}\.jsonl")
_LENGTH_BITS, _SEGMENT_BITS = 26, 24
# Sums of money are kept in whole units of this many to a dollar: they do not depend on the order of adding.
_UNITS_A_DOLLAR = 10**12
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass
class _Segment:
    """A file with how far its lines were read, its size then, and how many of its lines are damaged."""

    name: str
    read: int = 0
    size: int = 0
    damaged: int = 0


class ReplyStore:
    """Reads and writes the replies of one folder; a reply is durable once `put` or `put_many` returns.

    A reply that is asked for and was damaged since is None, as one that never was. Threads may share a store. All
    methods raise RunError where the file system fails, and ValueError for a key that is none.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._index: dict[int, int] = {}
        self._spent: dict[str, int] = {}
        self._payments: set[int] = set()
        self._writing: io.FileIO | None = None
        self._own = -1
        with self._told("opened"):
            private_folder(folder)
        self.refresh()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def damaged(self) -> dict[str, int]:
        """How many damaged lines were skipped, by the name of the segment."""
        return {segment.name: segment.damaged for segment in self._segments if segment.damaged}

    def spent(self, run: str) -> float:
        """US dollars that a run paid for replies, those that never came or were not kept among them."""
        return self._spent.get(run, 0) / _UNITS_A_DOLLAR

    def get(self, key: str) -> Reply | None:
        """The reply under a key; None where there is none."""
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[str]) -> list[Reply | None]:
        """The replies under keys, in their order; each segment is opened once."""
        wanted: dict[int, dict[str, int]] = {}
        for key in keys:
            place = self._index.get(check_key(key))
            if place is not None:
                wanted.setdefault(place & (1 << _SEGMENT_BITS) - 1, {})[key] = place >> _SEGMENT_BITS
        found: dict[str, Reply] = {}
        with self._told("read"):
            for number, places in wanted.items():
                found |= self._read(number, places)
        return [found.get(key) for key in keys]

    def put(self, key: str, reply: Reply, run: str) -> None:
        """Keeps a reply that `run` paid for; where the key has another one already, only what it cost."""
        self.put_many([StoredReply(key, run, reply)])

    def put_many(self, paid: Sequence[StoredReply | Payment]) -> None:
        """Keeps replies and payments with one write and one fsync: all of them, or none where RunError is raised.

        The first reply under a key stays; of a second one that cost something the payment is kept. What is handed in
        once more is not written again.
        """
        with self._lock:
            new = self._new(paid)
            if not new:
                return
            lines = [encoded(one) for one in new]
            with self._told("written"):
                offset = self._append(b"".join(lines))
            for one, line in zip(new, lines, strict=True):
                self._keep(one, self._own, offset, len(line))
                offset += len(line)
            self._segments[self._own].read = self._segments[self._own].size = offset

    def _new(self, paid: Sequence[StoredReply | Payment]) -> list[StoredReply | Payment]:
        """What is to be written of what is handed in."""
        replies: dict[int, StoredReply] = {}
        payments: dict[int, Payment] = {}
        for one in paid:
            if isinstance(one, StoredReply):
                kept = replies.setdefault(int(one.key, 16), one) if int(one.key, 16) not in self._index else None
                if kept is one or not one.reply.usage.cost_usd or one == (kept or self._stored(one.key)):
                    continue
                one = payment_of(one)
            if int(one.key, 16) not in self._payments:
                payments.setdefault(int(one.key, 16), one)
        return [*replies.values(), *payments.values()]

    def _stored(self, key: str) -> StoredReply | None:
        """What stands under a key, with who paid for it; None where that is damaged."""
        place = self._index[int(key, 16)]
        segment = self._segments[place & (1 << _SEGMENT_BITS) - 1]
        with self._told("read"):
            try:
                with self._opened(segment) as file:
                    file.seek(place >> _SEGMENT_BITS + _LENGTH_BITS)
                    kept = decoded(file.read(place >> _SEGMENT_BITS & (1 << _LENGTH_BITS) - 1))
            except (ValueError, FileNotFoundError):
                return None
        return kept if isinstance(kept, StoredReply) else None

    def refresh(self) -> None:
        """Takes in what other writers have added since."""
        with self._lock, self._told("read"):
            numbers = {segment.name: number for number, segment in enumerate(self._segments)}
            with os.scandir(self.folder) as entries:
                sizes = {
                    entry.name: entry.stat(follow_symlinks=False).st_size
                    for entry in entries
                    if _SEGMENT_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                }
            for name in sorted(sizes):
                number = numbers.get(name, len(self._segments))
                if number == len(self._segments):
                    self._segments.append(_Segment(name))
                if self._segments[number].size != sizes[name]:
                    self._scan(number)
                    self._segments[number].size = sizes[name]

    def _scan(self, number: int) -> None:
        segment, damaged = self._segments[number], 0
        with self._opened(segment) as file:
            file.seek(segment.read)
            for length, line in lines_of(file):
                try:
                    self._keep(decoded(line), number, segment.read, length)
                except ValueError:
                    damaged += 1
                segment.read += length
        self._report(segment, damaged)

    def _read(self, number: int, places: dict[str, int]) -> dict[str, Reply]:
        """The replies of one segment by key, each from `offset << _LENGTH_BITS | length`."""
        segment, found = self._segments[number], {}
        damaged = []
        try:
            with self._opened(segment) as file:
                for key, place in places.items():
                    file.seek(place >> _LENGTH_BITS)
                    try:
                        kept = decoded(file.read(place & (1 << _LENGTH_BITS) - 1))
                    except ValueError:
                        damaged.append(key)
                        continue
                    if isinstance(kept, StoredReply) and kept.key == key:
                        found[key] = kept.reply
                    else:
                        damaged.append(key)
        except FileNotFoundError:
            damaged = list(places)
        with self._lock:
            for key in damaged:
                self._index.pop(int(key, 16), None)
            self._report(segment, len(damaged))
        return found

    def _keep(self, one: StoredReply | Payment, number: int, offset: int, length: int) -> None:
        if isinstance(one, Payment):
            if int(one.key, 16) in self._payments:
                return
            self._payments.add(int(one.key, 16))
            cost_usd = one.cost_usd
        else:
            self._index.setdefault(int(one.key, 16), (offset << _LENGTH_BITS | length) << _SEGMENT_BITS | number)
            cost_usd = one.reply.usage.cost_usd
        self._spent[one.run] = self._spent.get(one.run, 0) + round(cost_usd * _UNITS_A_DOLLAR)

    def _append(self, content: bytes) -> int:
        """Writes lines behind the others, durably; returns where they begin."""
        if self._writing is None or self._writing.tell() >= self.segment_bytes:
            self._writing = self._begin()
        file, offset = self._writing, self._writing.tell()
        try:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            # Nothing is certain of a file that failed: it ends with what was acknowledged, and the next one is new.
            self._writing = None
            with suppress(OSError), file:
                os.ftruncate(file.fileno(), offset)
                if not offset:
                    (self.folder / self._segments[self._own].name).unlink()
            raise
        return offset

    def _begin(self) -> io.FileIO:
        private_folder(self.folder)
        name = f"replies-{time.time_ns():020d}-{secrets.token_hex(8)}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        file = io.FileIO(os.open(self.folder / name, flags, 0o600), "w")
        sync_folder(self.folder)
        self._own = len(self._segments)
        self._segments.append(_Segment(name))
        return file

    def _opened(self, segment: _Segment) -> BinaryIO:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.fdopen(os.open(self.folder / segment.name, flags), "rb")

    def _report(self, segment: _Segment, damaged: int) -> None:
        if damaged:
            segment.damaged += damaged
            logger.warning(
                "%s: %d damaged lines were skipped; their questions are asked again when they come up",
                self.folder / segment.name,
                damaged,
            )

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = "check its file system"
            if error.errno in _FULL:
                advice = "free space there"
            elif error.errno in _CLOSED:
                advice = "make it readable and writable for its owner"
            raise RunError(
                f"the judge cache {self.folder} cannot be {done} ({error}): {advice}, or set cache.root to another "
                "folder, and start again; the replies that were kept are safe"
            ) from error
