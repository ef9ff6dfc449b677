"""One table of a run folder: segments of bounded size, compacted into one Parquet file at the end of a stage.

A table is a folder. Writers add `segment-<number>-<attempt>.parquet`; compaction writes
`part-000.parquet`, which names the segments that it holds, and then removes them. Readers take
the part and every segment that it does not name, so that a kill between any two of these steps
neither loses a row nor shows it twice.
"""

import json
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlaif.files import Guard, RunError, replacing
from rlaif.records import records_of, schema_of, table_of

Record = TypeVar("Record")

PART = "part-000.parquet"
_SEGMENT = re.compile(r"segment-(\d+)-\d+\.parquet")
_METADATA = b"rlaif.segments"
_BATCH_ROWS = 1024
_GROUP_ROWS = 8192
_READ_ATTEMPTS = 5


class Table(Generic[Record]):
    """The table in `folder` with one row for each `record`; reading needs no lease, and may go on beside a writer.

    Writes are renamed into place inside `guard()`. One `Table` may be used by several threads.
    Raises RunError for damaged files and for files of another record class.
    """

    def __init__(self, folder: Path, record: type[Record], attempt: int = 0, guard: Guard = nullcontext) -> None:
        self.folder = folder
        self.record = record
        self._schema: pa.Schema = schema_of(record)  # type: ignore[arg-type]  # a type is hashable, a type variable's not
        self._attempt = attempt
        self._guard = guard
        self._lock = threading.RLock()
        self._next: int | None = None

    def append(self, records: Sequence[Record]) -> None:
        """Add the records as one segment: all of them are durable when this returns, or none is there."""
        if not records:
            return
        with self._lock:
            number = self._next_number()
            target = self.folder / f"segment-{number:06d}-{self._attempt}.parquet"
            with replacing(target, self._guard) as file:
                pq.write_table(table_of(self.record, records), file, compression="zstd")
            self._next = number + 1

    def read(self) -> list[Record]:
        """All records; for large tables prefer `iterate`, or `arrow` with the columns that are needed."""
        return records_of(self.record, self.arrow())

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows as an Arrow table in the record's schema, or in that of the named columns."""
        names = list(columns) if columns is not None else self._schema.names
        schema = pa.schema([self._schema.field(name) for name in names])
        for _ in range(_READ_ATTEMPTS):
            try:
                return pa.Table.from_batches(list(self._batches(names)), schema=schema)
            except FileNotFoundError:
                continue  # a compaction beside us has removed a segment that it holds now
        raise RunError(f"{self.folder} changed at every one of {_READ_ATTEMPTS} attempts to read it; try again later")

    def iterate(self) -> Iterator[Record]:
        """The records one by one, in bounded memory; the table must not be compacted meanwhile."""
        for batch in self._batches(self._schema.names):
            yield from records_of(self.record, pa.Table.from_batches([batch]))

    def compact(self, key: str | tuple[str, ...]) -> int:
        """Turn the segments into one file, in bounded memory, and give the number of rows.

        Raises RunError, and changes nothing, where two rows have the same key.
        """
        names = [key] if isinstance(key, str) else list(key)
        with self._lock:
            keys = self.arrow(names)
            self._refuse_repeated(keys, names)
            segments, part = self._segments(), self._open_part()
            if part is None or any(name not in _folded(part) for name in segments):
                written = self._write_part(self._batches(self._schema.names), segments)
                if written != keys.num_rows:
                    raise RunError(f"{self.folder} changed while it was compacted; another process writes there")
            self._remove(segments)
            return int(keys.num_rows)

    def replace(self, records: Iterable[Record]) -> None:
        """Write the whole table at once, in the place of what it held; readers see the old or the new rows."""
        with self._lock:
            segments = self._segments()
            self._write_part(table_of(self.record, records).to_batches(), segments)
            self._remove(segments)

    def _write_part(self, batches: Iterable[pa.RecordBatch], segments: list[str]) -> int:
        marks = {"holds": segments, "next": self._next_number()}
        schema = self._schema.with_metadata({_METADATA: json.dumps(marks).encode()})
        rows = 0
        with (
            replacing(self.folder / PART, self._guard) as file,
            pq.ParquetWriter(file, schema, compression="zstd") as writer,
        ):
            for group in _groups(batches):
                writer.write_batch(group)
                rows += group.num_rows
        return rows

    def _remove(self, segments: list[str]) -> None:
        for name in segments:
            (self.folder / name).unlink(missing_ok=True)

    def _segments(self) -> list[str]:
        """The segments' names in the order of their numbers."""
        if not self.folder.is_dir():
            return []
        found = [match for path in self.folder.iterdir() if (match := _SEGMENT.fullmatch(path.name))]
        return [match[0] for match in sorted(found, key=lambda match: (int(match[1]), match[0]))]

    def _next_number(self) -> int:
        if self._next is None:
            part = self._open_part()
            numbers = [int(name.split("-")[1]) + 1 for name in self._segments()]
            self._next = max([0, *numbers] if part is None else [_marks(part)["next"], *numbers])
        return self._next

    def _open_part(self) -> pq.ParquetFile | None:
        try:
            return self._open(PART)
        except FileNotFoundError:
            return None

    def _open(self, name: str) -> pq.ParquetFile:
        path = self.folder / name
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise RunError(
                f"{path} is damaged ({error}); restore it, or remove it to have its rows made again"
            ) from error
        if not file.schema_arrow.equals(self._schema):
            raise RunError(
                f"{path} does not hold {self.record.__name__} records of this version of rlaif: its columns are "
                f"{', '.join(file.schema_arrow.names)}; read it with the version that wrote it"
            )
        return file

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        # The segments are listed before the part is opened: one that vanishes in between is in the part.
        segments, part = self._segments(), self._open_part()
        held = _folded(part) if part is not None else frozenset()
        files = (self._open(name) for name in segments if name not in held)
        for file in [part] if part is not None else []:
            yield from (batch.select(columns) for batch in file.iter_batches(_BATCH_ROWS, columns=columns))
        for file in files:
            with file:
                yield from (batch.select(columns) for batch in file.iter_batches(_BATCH_ROWS, columns=columns))

    def _refuse_repeated(self, keys: pa.Table, names: list[str]) -> None:
        counts = keys.group_by(names).aggregate([([], "count_all")])
        repeated = counts.filter(pc.greater(counts["count_all"], 1))
        if repeated.num_rows:
            first = ", ".join(f"{name}={repeated[name][0].as_py()!r}" for name in names)
            raise RunError(
                f"{self.folder}: {repeated.num_rows} keys stand in more than one row, the first is {first} "
                f"({repeated['count_all'][0]} rows); each row must be appended once"
            )


class SegmentWriter(Generic[Record]):
    """Buffers records for a table and appends a segment at `rows` records, or `seconds` after the first of them.

    Time is looked at whenever `add` or `tick` is called: a loop that may wait long calls `tick`.
    Leaving the context appends what is left, also when an error passes through.
    """

    def __init__(self, table: Table[Record], rows: int = 512, seconds: float = 5.0) -> None:
        self._table = table
        self._rows = rows
        self._seconds = seconds
        self._buffer: list[Record] = []
        self._since = 0.0

    def add(self, *records: Record) -> None:
        """Buffer records, and append a segment if one is due."""
        for record in records:
            if not self._buffer:
                self._since = time.monotonic()
            self._buffer.append(record)
            if len(self._buffer) >= self._rows:
                self.flush()
        self.tick()

    def tick(self) -> None:
        """Append a segment if the oldest buffered record has waited long enough."""
        if self._buffer and time.monotonic() - self._since >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Append what is buffered: it is durable when this returns."""
        self._table.append(self._buffer)
        self._buffer = []

    def __enter__(self) -> "SegmentWriter[Record]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches joined into larger ones, so that small segments do not become small row groups."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= _GROUP_ROWS:
            yield pa.concat_batches(waiting)
            waiting = []
    if waiting:
        yield pa.concat_batches(waiting)


def _marks(part: pq.ParquetFile) -> dict[str, Any]:
    metadata = part.schema_arrow.metadata or {}
    marks: dict[str, Any] = json.loads(metadata.get(_METADATA, b'{"holds": [], "next": 0}'))
    return marks


def _folded(part: pq.ParquetFile) -> frozenset[str]:
    return frozenset(_marks(part)["holds"])
