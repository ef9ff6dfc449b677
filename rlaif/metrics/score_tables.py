"""The tables of a score run for the terminal: metrics by set, differences, pooled seeds, agreement with raters."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from rlaif.metrics.display import display_of, interval_text, judge_displays, ordered
from rlaif.metrics.published_rows import MeasuredRow
from rlaif.metrics.scoring import score_table

# Each set is a column, and a table of more would not fit a terminal: the rest is in score.json.
_MOST_COLUMNS = 8
# What of a set is missing or not whole.
_ACCOUNTS = (
    ("unwritten", "no report of {} studies of the split, which do not count"),
    ("no_room", "{} prompts left no room for sampler.max_tokens within sampler.max_length, and do not count"),
    ("cut_off", "{} reports were cut off at sampler.max_tokens, and count as they are"),
)


def score_tables(summary: Mapping[str, Any]) -> list[Table]:
    """The tables of a `score.json` that have something to say."""
    tables = [score_table(summary)] if summary.get("judges") else []
    sets = summary["sets"]
    if sets:
        tables.append(_by_set(f"{summary['name']}: mean [95 % interval over patients]", sets))
    if compared := {name: one for name, one in summary["differences"].items() if one}:
        tables.append(_plain("paired differences, the same patients in both", compared, signed=True))
    if pooled := {name: one for name, one in summary["pooled"].items() if one}:
        tables.append(_plain("seeds pooled", pooled))
    return tables


def score_rows(summary: Mapping[str, Any]) -> list[MeasuredRow]:
    """The sets of a `score.json` as rows beside a published table, each with the data set that it was measured on."""
    return [MeasuredRow(name, one["metrics"], one["data"]) for name, one in summary["sets"].items()]


def _by_set(title: str, sets: Mapping[str, Any]) -> Table:
    table = _plain(title, {f"{name}, {one['reports']} reports": one["metrics"] for name, one in sets.items()})
    missing = {metric: why for one in sets.values() for metric, why in one["missing"].items()}
    lines = [
        f"{name}: {told.format(one[key])}" for name, one in sets.items() for key, told in _ACCOUNTS if one.get(key)
    ]
    lines += [f"{metric}: {why}" for metric, why in missing.items()]
    lines.append("How each was computed stands beside it in score.json. For research; not for clinical use.")
    table.caption = Text("\n".join(lines))
    return table


def _plain(title: str, columns: Mapping[str, Mapping[str, Any]], *, signed: bool = False) -> Table:
    """Metrics by rows; `columns` have an interval for each."""
    shown = dict(list(columns.items())[:_MOST_COLUMNS])
    table = Table(title=Text(title), title_justify="left", caption_justify="left", header_style="bold")
    table.add_column("Metric", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="right")
    judges = judge_displays({})
    for metric in ordered([name for one in shown.values() for name in one]):
        display = display_of(metric, judges)
        cells = [interval_text(one.get(metric), display, signed=signed) for one in shown.values()]
        table.add_row(Text(display.label), *(Text(cell) for cell in cells))
    if len(columns) > len(shown):
        table.add_row(Text(f"{len(columns) - len(shown)} further columns stand in score.json", style="dim"))
    return table
