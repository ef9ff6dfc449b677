"""The result table of a run, for the terminal and as Markdown."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from rlaif.metrics.display import (
    ABSENT,
    Judges,
    Verdict,
    column_label,
    display_of,
    interval_text,
    judge_displays,
    ordered,
    policy_columns,
    scale_text,
    verdict_of,
)
from rlaif.metrics.outages import outages_in_words

_STYLES: dict[Verdict, str] = {"better": "green", "worse": "red", "changed": "", "unclear": "dim"}
_GAIN = "Gain (last - base)"
_BROAD_COLUMNS = 3
_NOTHING = "No held-out scores: the run has no held-out references, or has not evaluated yet."


def _rows(summary: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str], str, Verdict]]]:
    """The policy columns, and for each metric its label, cells, gain and the gain's verdict."""
    heldout: Mapping[str, Any] = summary.get("heldout") or {}
    gain: Mapping[str, Any] = summary.get("gain") or {}
    columns, judges = policy_columns(heldout), judge_displays(summary)
    rows = []
    for metric in ordered([*(name for column in columns for name in heldout[column] or {}), *gain]):
        display = display_of(metric, judges)
        arrow = {"higher": " \N{UPWARDS ARROW}", "lower": " \N{DOWNWARDS ARROW}", None: ""}[display.better]
        cells = [interval_text((heldout[column] or {}).get(metric), display) for column in columns]
        difference = gain.get(metric)
        rows.append(
            (
                display.label + _scale(metric, judges) + arrow,
                ["-" if cell == ABSENT else cell for cell in cells],
                interval_text(difference, display, signed=True) if difference else "-",
                verdict_of(difference, display),
            )
        )
    return columns, rows


def _scale(metric: str, judges: Judges) -> str:
    """The scale of a judge's scores, where it is not that of all others, 0 to 1."""
    judge = judges.get(metric.removesuffix("_score")) if metric.endswith("_score") else None
    if judge is None or judge.pairwise or judge.scale in (None, (0, 1)):
        return ""
    return f", {scale_text(judge.scale)}"


def _sample_size(summary: Mapping[str, Any]) -> str:
    """How many held-out cases stand behind the table, where the summary says it."""
    policies = (summary.get("heldout") or {}).values()
    intervals = [interval for metrics in policies for interval in (metrics or {}).values() if interval]
    sizes = {interval["n"] for interval in intervals if interval.get("n") is not None}
    if not sizes:
        return ""
    low, high = min(sizes), max(sizes)
    return f", {low} held-out cases" if low == high else f", {low} to {high} held-out cases"


def result_table(summary: Mapping[str, Any]) -> Table:
    """The held-out metrics of the base and of each round as mean [95 % interval], with the paired gain.

    Below it stand the warnings of the guards. `summary` is the content of a run's `summary.json`; missing keys leave
    their cells out.
    """
    columns, rows = _rows(summary)
    title = f"{summary.get('name', 'run')}: mean [95 % interval]{_sample_size(summary)}"
    table = Table(title=Text(title), title_justify="left", caption_justify="left", header_style="bold")
    table.add_column("Metric", no_wrap=True)
    if not rows:
        table.add_row(Text(_NOTHING))
        table.caption = _warnings(summary) or None
        return table
    for column in columns:
        table.add_column(column_label(column), justify="right", no_wrap=True)
    if summary.get("gain"):
        table.add_column(_GAIN, justify="right", no_wrap=True)
    for label, cells, gain, verdict in rows:
        gain_cell = [Text(_narrow(gain, len(columns)), style=_STYLES[verdict])] if summary.get("gain") else []
        table.add_row(Text(label), *(Text(_narrow(cell, len(columns))) for cell in cells), *gain_cell)
    table.caption = Text("Arrows point to the better side. For research; not for clinical use.")
    if lost := outages_in_words(summary.get("outages") or []):
        table.caption.append(f"\n{lost}")
    if warnings := _warnings(summary):
        table.caption.append("\n").append(warnings)
    return table


def _narrow(cell: str, columns: int) -> str:
    """A cell whose interval stands below its mean, where many columns leave no room beside it."""
    return cell.replace(" [", "\n[") if columns > _BROAD_COLUMNS else cell


def _warnings(summary: Mapping[str, Any]) -> Text:
    """The sentences of the guards against gaming the judge, a line each; empty where there are none."""
    sentences = (summary.get("guards") or {}).get("warnings") or []
    return Text("\n".join(f"Warning: {sentence}" for sentence in sentences), style="not italic not dim yellow")


def plain_table(summary: Mapping[str, Any]) -> str:
    """The same table in Markdown, ending in a newline."""
    columns, rows = _rows(summary)
    if not rows:
        return f"{_NOTHING}\n"
    with_gain = bool(summary.get("gain"))
    header = ["Metric", *(column_label(column) for column in columns), *([_GAIN] if with_gain else [])]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    lines += [[label, *cells, *([gain] if with_gain else [])] for label, cells, gain, _ in rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
