"""Reading a run folder for its report page: the JSON files and the Parquet tables, only as far as needed."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import pyarrow as pa
import pyarrow.dataset as ds
import yaml

from rlaif.reports.prompts import Target

_ROUND_NAME = re.compile(r"round-\d+")
TEXT_LIMIT = 4000


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file, empty where there is no file; ValueError where it holds anything else."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); run the job again to write it anew") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not an object; run the job again to write it anew")
    return content


def round_folders(run: Path) -> list[Path]:
    """The folders of the rounds that stand on disk, in their order."""
    found = (path for path in run.glob("round-*") if path.is_dir() and _ROUND_NAME.fullmatch(path.name))
    return sorted(found, key=lambda path: int(path.name.removeprefix("round-")))


def _segments(folder: Path) -> list[str]:
    """The finished Parquet files of a table; temporary names are left out."""
    return sorted(str(path) for path in folder.glob("*.parquet") if not path.name.startswith((".", "tmp")))


def read_rows(
    folder: Path, columns: Sequence[str] | None = None, where: tuple[str, Sequence[Any]] | None = None
) -> list[dict[str, Any]]:
    """The rows of a table, in file order, with `columns` only and with `where` = (column, allowed values) only.

    An absent table has no rows. ValueError where a file is not readable Parquet or lacks a column.
    """
    table = read_table(folder, columns, where)
    maps = {field.name for field in table.schema if pa.types.is_map(field.type)}
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        row.update({name: dict(row[name]) for name in maps if row[name] is not None})
    return rows


def read_table(
    folder: Path, columns: Sequence[str] | None = None, where: tuple[str, Sequence[Any]] | None = None
) -> pa.Table:
    """As `read_rows`, as an Arrow table (without columns where the table is absent)."""
    segments = _segments(folder)
    if not segments:
        return pa.table({})
    condition = None
    if where is not None:
        column, allowed = where
        condition = ds.field(column).isin(list(allowed))
    try:
        table: pa.Table = ds.dataset(segments, format="parquet").to_table(columns=columns, filter=condition)
    except pa.ArrowInvalid as error:
        raise ValueError(f"the table {folder} cannot be read for the report page: {error}") from error
    return table


def learning_steps(metrics_file: Path) -> list[dict[str, Any]]:
    """The optimiser steps recorded in a `metrics.json`, empty where none are."""
    steps = (read_json(metrics_file).get("learning") or {}).get("steps") or []
    return [step for step in steps if isinstance(step, dict) and "step" in step]


def judge_scales(run: Path) -> dict[str, tuple[float, float]]:
    """The scale of each judge that a run's judgements name, of candidates and of held-out reports."""
    scales: dict[str, tuple[float, float]] = {}
    for folder in [*round_folders(run), *sorted((run / "heldout-judging").glob("*"))]:
        table = read_table(folder / "judgements", ["judge", "scale_low", "scale_high"])
        if table.num_rows:
            firsts = table.group_by("judge").aggregate([("scale_low", "min"), ("scale_high", "max")]).to_pylist()
            scales |= {row["judge"]: (row["scale_low_min"], row["scale_high_max"]) for row in firsts}
    return scales


def bounded(text: str, limit: int = TEXT_LIMIT) -> str:
    """A text of at most `limit` characters, which says how much was left out."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} more characters)"


def target_of(run: Path) -> Target | None:
    """Which part of a report the run's policy writes; None where no configuration says. ValueError where it is none."""
    path = run / "config.yaml"
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML ({error}); run the job again to write it anew") from error
    section = content.get("run") if isinstance(content, dict) else None
    target = section.get("target") if isinstance(section, dict) else None
    if target is None or target in get_args(Target):
        return cast(Target | None, target)
    raise ValueError(f"{path}: run.target is {target!r}, and can be {', '.join(get_args(Target))}")
