"""The run folder: what is done, what is left, and everything that a run writes.

Any process may be killed at any moment; opening the same run again goes on from what is on disk.
Every write is atomic and is refused once another attempt holds the run's lease.
"""

import json
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import pyarrow as pa

from rlaif.files import (
    RunError,
    checksum_of,
    private_folder,
    recover,
    remove_folder,
    replacing,
    replacing_folder,
)
from rlaif.journal import Journal
from rlaif.lease import LEASE_FILE, LOCK_FILE, Lease, LeaseHeld, LeaseLost
from rlaif.run_configuration import ConfigurationDiffers, plain_configuration, settle_configuration
from rlaif.tables import SegmentWriter, Table

__all__ = [
    "ConfigurationDiffers",
    "Journal",
    "LeaseHeld",
    "LeaseLost",
    "RunError",
    "RunFolder",
    "SegmentWriter",
    "Table",
    "checksum_of",
    "private_folder",
]

Record = TypeVar("Record")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=,+-]*")


class RunFolder:
    """A run folder that this process may write; a context manager that gives the lease back at its end.

    Paths, tables, stages and journals are named relative to the folder, such as `round-000/candidates`.
    May be used by several threads. Every write raises LeaseLost once another attempt took the run over.
    """

    def __init__(self, path: Path, lease: Lease) -> None:
        self.path = path
        self.attempt = lease.attempt
        self._lease = lease
        self._tables: dict[str, Table[Any]] = {}
        self._journals: dict[str, Journal] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, root: Path, name: str, configuration: dict[str, Any]) -> "RunFolder":
        """Make the run `name` under `root`, or take it over from an attempt that ended or was killed.

        Raises LeaseHeld while another process writes it, ConfigurationDiffers for a run of another
        configuration, and RunError for a bad name, a secret among the values, or a folder that is no run.
        """
        path = _inside(root.absolute(), name)
        wanted = plain_configuration(configuration)
        known = {LEASE_FILE, LOCK_FILE}
        if path.is_dir() and any(path.iterdir()) and not known & {one.name for one in path.iterdir()}:
            raise RunError(f"{path} exists and is not a run folder; choose another run.name or run.root")
        lease = Lease.take(private_folder(path))
        run = cls(path, lease)
        try:
            with lease.guard():
                recover(path, nested=LEASE_FILE)
            settle_configuration(path, wanted, lease.guard)
        except BaseException:
            lease.release()
            raise
        return run

    def close(self) -> None:
        """Give the lease back; nothing more is written after this."""
        self._lease.release()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def inside(self, relative: str) -> Path:
        """The path of something in the run folder; raises RunError for a name that leaves it."""
        return _inside(self.path, relative)

    # Stages: the boundaries of resume.

    def done(self, stage: str) -> bool:
        """Whether the stage was finished by this or an earlier attempt."""
        return self._mark(stage).is_file()

    def finish(self, stage: str, **facts: Any) -> None:
        """Mark a stage as finished, durably, with facts such as its seconds and counts."""
        finished_at = datetime.now(UTC).isoformat()
        self._write_json(
            self._mark(stage), {"stage": stage, "attempt": self.attempt, "finished_at": finished_at, "facts": facts}
        )

    def facts(self, stage: str) -> dict[str, Any]:
        """The facts that a finished stage was marked with; raises RunError where it is not finished."""
        if not self.done(stage):
            raise RunError(f"{self.path}: the stage {stage} is not finished, so there are no facts about it")
        return facts_of(self.path, stage)

    def journal(self, relative: str) -> Journal:
        """The journal of the calls in flight in a stage."""
        with self._lock:
            path = self.inside(f"ledger/{relative}.jsonl")
            return self._journals.setdefault(relative, Journal(path, self.attempt, self._lease.guard))

    # Tables.

    def table(self, table: str, record: type[Record]) -> Table[Record]:
        """The table of that name, whose rows are `record`s."""
        with self._lock:
            if table not in self._tables:
                self._tables[table] = Table(self.inside(table), record, self.attempt, self._lease.guard)
            found = self._tables[table]
        if found.record is not record:
            raise RunError(
                f"{self.path}: the table {table} holds {found.record.__name__}, not {record.__name__} records"
            )
        return found

    def append(self, table: str, record: type[Record], records: Sequence[Record]) -> None:
        """Add records as one segment, all or none; an empty sequence writes nothing."""
        self.table(table, record).append(records)

    def read(self, table: str, record: type[Record]) -> list[Record]:
        """All records of a table; an absent table has none."""
        return self.table(table, record).read()

    def iterate(self, table: str, record: type[Record]) -> Iterator[Record]:
        """The records of a table one by one, in bounded memory; it must not be compacted meanwhile."""
        return self.table(table, record).iterate()

    def arrow(self, table: str, record: type[Any], columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a table, or the named columns of them."""
        return self.table(table, record).arrow(columns)

    def compact(self, table: str, record: type[Any], key: str | tuple[str, ...]) -> int:
        """Turn a table's segments into one file and give its rows; raises RunError for a repeated key."""
        return self.table(table, record).compact(key)

    def replace(self, table: str, record: type[Record], records: Iterable[Record]) -> None:
        """Write a whole table at once, in the place of what it held."""
        self.table(table, record).replace(records)

    def writer(self, table: str, record: type[Record], rows: int = 512, seconds: float = 5.0) -> SegmentWriter[Record]:
        """A buffer before a table, which appends a segment at `rows` records or after `seconds`."""
        return SegmentWriter(self.table(table, record), rows, seconds)

    # Files and folders.

    def write_json(self, relative: str, value: Any) -> Path:
        """Write a JSON file; raises RunError for numbers that JSON lacks (NaN, infinity)."""
        return self._write_json(self.inside(relative), value)

    def read_json(self, relative: str) -> Any:
        """The content of a JSON file; raises FileNotFoundError where there is none, RunError where it is damaged."""
        return _read_json(self.inside(relative))

    def write_text(self, relative: str, text: str) -> Path:
        """Write a text file in UTF-8."""
        path = self.inside(relative)
        with replacing(path, self._lease.guard) as file:
            file.write(text.encode())
        return path

    @contextmanager
    def folder(self, relative: str) -> Iterator[Path]:
        """An empty folder to fill, which takes its place in the run when the block ends without an error."""
        with replacing_folder(self.inside(relative), self._lease.guard) as path:
            yield path

    def prune_checkpoints(self, keep: int = 2, needed: Collection[str] = ()) -> list[str]:
        """Remove the checkpoints of all but the last `keep` rounds and the `needed` ones (as `round-000`).

        Gives the rounds whose checkpoints were removed. `base/` is always kept.
        """
        found = [path.parent.name for path in self.path.glob("round-*/checkpoint")]
        rounds = sorted(found, key=lambda name: (len(name), name))
        older = rounds[: max(0, len(rounds) - keep)]
        removed = [name for name in older if name not in needed]
        for name in removed:
            remove_folder(self.path / name / "checkpoint", self._lease.guard)
        return removed

    def _mark(self, stage: str) -> Path:
        return self.inside(f"ledger/{stage}.json")

    def _write_json(self, path: Path, value: Any) -> Path:
        try:
            content = json.dumps(value, indent=2, allow_nan=False)
        except ValueError as error:
            raise RunError(f"{path} was not written: {error}; write null for a number that does not exist") from error
        with replacing(path, self._lease.guard) as file:
            file.write(content.encode() + b"\n")
        return path


def facts_of(run: Path, stage: str) -> dict[str, Any]:
    """The facts that a finished stage of any run was marked with; raises RunError for a mark that is damaged."""
    path = run / "ledger" / f"{stage}.json"
    mark = _read_json(path)
    if not isinstance(mark, dict) or not isinstance(facts := mark.get("facts"), dict):
        raise RunError(f"{path} is damaged (it has no facts); remove it to have it made again")
    return facts


def _inside(root: Path, relative: str) -> Path:
    """`root / relative`, each of whose parts is a plain name; raises RunError otherwise."""
    parts = relative.split("/")
    bad = [part for part in parts if not _NAME.fullmatch(part)]
    if bad:
        raise RunError(
            f"{relative!r} is no name for something in {root}: its part {bad[0]!r} must begin with a letter, a digit "
            "or an underscore and hold only these and . _ = , + -"
        )
    return root.joinpath(*parts)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); remove it to have it made again") from error
