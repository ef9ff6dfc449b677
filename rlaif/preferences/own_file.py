"""The rows of a team's own file: Parquet, JSONL, a folder of Parquet, or a data set saved by `datasets`.

Nothing of a file is trusted: no pickle is read, no path leaves its folder, and sizes are bounded.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.config_faults import nearest

MAX_ROWS = 5_000_000
MAX_LINE_BYTES = 2**24
_BATCH_ROWS = 1024
# So many of a JSONL file's first rows say which columns it has.
_PEEKED = 1000
_KINDS = "a Parquet file, a JSONL file, a folder of Parquet files, or a folder of datasets' save_to_disk"


class OwnFileError(ValueError):
    """A team's own file that cannot be used: the message says the file, the column and what to do."""


@dataclass(frozen=True)
class Row:
    """A row of a file, counted from 1: its values by column, or what is wrong with the line."""

    number: int
    values: dict[str, Any]
    fault: str = ""


@dataclass(frozen=True)
class OwnFile:
    """The rows of a file, which are read as often as they are asked for."""

    path: Path
    columns: tuple[str, ...]
    parts: tuple[Path, ...]

    def column(self, *names: str, because: str = "") -> str:
        """The first of some columns that the file has; raises OwnFileError, with the nearest that is there."""
        found = next((name for name in names if name in self.columns), None)
        if found is not None:
            return found
        near = next((close for name in names if (close := nearest(name, [*self.columns]))), None)
        hint = f"; is {near!r} meant? Then rename it" if near else f"; it has {', '.join(self.columns[:20])}"
        raise OwnFileError(f"{self.path} has no column {' or '.join(map(repr, names))}{because}{hint}")

    def rows(self, columns: Collection[str]) -> Iterator[Row]:
        """Every row, with the values of some columns; raises OwnFileError where the file turns out to be damaged."""
        wanted = [name for name in self.columns if name in columns]
        number = 0
        for part in self.parts:
            for values, fault in _values(part, wanted):
                number += 1
                if number > MAX_ROWS:
                    raise OwnFileError(f"{self.path} has more than {MAX_ROWS:,} rows; part it")
                yield Row(number, values, fault)


def open_own(path: Path) -> OwnFile:
    """A team's own file or folder; raises OwnFileError for what is not there or is of another kind."""
    parts = tuple(_parts(path))
    columns: dict[str, None] = {}
    for part in parts:
        own = _columns(part)
        if columns and columns.keys() != dict.fromkeys(own).keys():
            raise OwnFileError(f"{path}: {part.name} has other columns ({', '.join(own)}) than the files before it")
        columns |= dict.fromkeys(own)
    if not columns:
        raise OwnFileError(f"{path} has no rows")
    return OwnFile(path, tuple(columns), parts)


def _parts(path: Path) -> Sequence[Path]:
    if path.is_file():
        if _kind(path) is None:
            raise OwnFileError(f"{path}: give {_KINDS}; files are told apart by .parquet and .jsonl")
        return [path]
    if not path.is_dir():
        raise OwnFileError(f"{path} does not exist; give {_KINDS}")
    if (path / "dataset_dict.json").is_file():
        splits = _read_state(path / "dataset_dict.json").get("splits")
        names = (
            ", ".join(str(path / str(name)) for name in splits) if isinstance(splits, list) else "one of its folders"
        )
        raise OwnFileError(f"{path} holds a data set for each split: give one of them, {names}")
    if (path / "state.json").is_file():
        files = _read_state(path / "state.json").get("_data_files")
        listed = [one.get("filename") if isinstance(one, dict) else None for one in files or [None]]
        if not all(isinstance(one, str) and Path(one).name == one and _kind(Path(one)) == "arrow" for one in listed):
            raise OwnFileError(f"{path / 'state.json'} does not list the data set's .arrow files; save it once more")
        found = [path / str(one) for one in listed]
        if absent := [one for one in found if not one.is_file()]:
            raise OwnFileError(f"{absent[0]} is missing, which state.json lists; save the data set once more")
        return found
    found = sorted(one for one in path.iterdir() if one.is_file() and one.suffix == ".parquet")
    if not found:
        raise OwnFileError(f"{path} holds no .parquet file and no data set; give {_KINDS}")
    return found


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_bytes()) if path.stat().st_size < MAX_LINE_BYTES else None
    except (ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise OwnFileError(f"{path} is damaged; save the data set once more")
    return state


def _kind(path: Path) -> str | None:
    return {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".arrow": "arrow"}.get(
        path.suffix.lower()
    )


def _columns(part: Path) -> list[str]:
    if _kind(part) == "jsonl":
        first = islice((values for values, fault in _lines(part) if not fault), _PEEKED)
        return [*dict.fromkeys(name for values in first for name in values)]
    try:
        if _kind(part) == "parquet":
            return list(pq.read_schema(part).names)
        with pa.OSFile(str(part)) as file:
            return list(pa.ipc.open_stream(file).schema.names)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(part, error) from error


def _values(part: Path, wanted: list[str]) -> Iterator[tuple[dict[str, Any], str]]:
    if _kind(part) == "jsonl":
        for values, fault in _lines(part):
            yield {name: values.get(name) for name in wanted}, fault
        return
    try:
        for batch in _batches(part, wanted):
            for values in batch.to_pylist():
                yield values, ""
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(part, error) from error


def _batches(part: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    if _kind(part) == "parquet":
        with pq.ParquetFile(part) as file:
            yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted)
        return
    with pa.memory_map(str(part)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            yield batch.select(wanted)


def _lines(part: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Each line's object, or what is wrong with it; blank lines are none."""
    with part.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            if len(line) > MAX_LINE_BYTES:
                raise OwnFileError(f"{part} has a line of more than {MAX_LINE_BYTES} bytes: is it JSONL, a row a line?")
            if not line.strip():
                continue
            try:
                values = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                yield {}, f"no JSON ({str(error)[:100]})"
                continue
            yield (values, "") if isinstance(values, dict) else ({}, 'no JSON object, such as {"study_id": …}')


def _damaged(part: Path, error: Exception) -> OwnFileError:
    return OwnFileError(f"{part} cannot be read ({' '.join(str(error).split())[:200]}); write it once more")
