"""The errors that judges counted in the candidates, by GREEN's six classes and by round."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rlaif.judges.rules import SIGNIFICANT
from rlaif.metrics.display import Judges, MetricDisplay, column_label, interval_text, judge_label
from rlaif.metrics.intervals import bootstrap
from rlaif.metrics.page.run_tables import read_table, round_folders
from rlaif.metrics.page.sentences import typographic

_SHOWN = (*SIGNIFICANT, "insignificant", "matched")
_LABELS = {"insignificant": "Insignificant errors", "matched": "Matched findings"}
_RESAMPLES = 500
_FIGURE = MetricDisplay("", "", "", 2, None)


def error_tables(run: Path, judges: Judges) -> list[dict[str, Any]]:
    """For each judge that counts errors: columns (rounds), and rows of a class with its mean a candidate.

    A cell has the mean with its 95 % interval over cases, and the mean as a share of the table's largest, for a bar.
    Candidates without counts (no verdict, a judge that only scores) take no part.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for folder in round_folders(run):
        table = read_table(folder / "judgements", ["judge", "case_id", "counts"])
        for judge in sorted(pc.unique(table["judge"]).to_pylist()) if table.num_rows else ():
            means = _means(table.filter(pc.equal(table["judge"], judge)))
            if means:
                found.setdefault(judge, {})[column_label(folder.name)] = means
    return [_table(judge, rounds) for judge, rounds in found.items()]


def _means(table: pa.Table) -> dict[str, Any]:
    """The mean count of each class a candidate, with its interval; empty where no candidate has counts."""
    counted = table.filter(pc.is_valid(table["counts"]))
    cases = counted["case_id"].to_pylist()
    means = {}
    for name in _SHOWN:
        # Class by class: as Python objects the counts of a large round would take hundreds of megabytes.
        numbers = pc.map_lookup(counted["counts"], pa.scalar(name), "first")
        if numbers.null_count < len(numbers):
            values = numbers.fill_null(0).to_pylist()
            means[name] = asdict(bootstrap(values, cases, resamples=_RESAMPLES))
    return means


def _table(judge: str, rounds: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    largest = max((means[name]["mean"] for means in rounds.values() for name in means), default=0.0) or 1.0
    names = [name for name in _SHOWN if any(name in means for means in rounds.values())]
    rows = [
        (
            _LABELS.get(name, name.replace("_", " ").capitalize()),
            name in SIGNIFICANT,
            [
                {
                    "text": typographic(interval_text(means.get(name), _FIGURE)),
                    "share": round(100 * (means.get(name) or {"mean": 0.0})["mean"] / largest, 1),
                }
                for means in rounds.values()
            ],
        )
        for name in names
    ]
    return {"judge": judge_label(judge), "columns": list(rounds), "rows": rows}
