"""The interval plot of the report page: each metric's gain with its 95 % interval, around zero."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlaif.metrics.display import (
    Interval,
    Judges,
    MetricDisplay,
    Verdict,
    display_of,
    interval_text,
    is_number,
    ordered,
    verdict_of,
)
from rlaif.metrics.page.curves import Tick, ticks


@dataclass(frozen=True)
class ForestRow:
    """One metric's difference with its interval, in per cent of the panel's width."""

    label: str
    text: str
    verdict: Verdict
    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class ForestPanel:
    """Metrics that share a unit and so an axis; `zero` is where no change lies."""

    unit: str
    better: str
    zero: float
    ticks: tuple[Tick, ...]
    rows: tuple[ForestRow, ...]


def forest(gain: Mapping[str, Interval], judges: Judges | None = None) -> list[ForestPanel]:
    """The gains with their 95 % intervals, grouped into panels of one unit that share an axis around zero."""
    panels: dict[str, list[tuple[MetricDisplay, Interval]]] = {}
    for metric in ordered(gain):
        interval, display = gain[metric], display_of(metric, judges)
        if interval and all(is_number(interval.get(key)) for key in ("mean", "low", "high")):
            panels.setdefault(display.unit, []).append((display, interval))
    return [forest_panel(unit, rows) for unit, rows in panels.items()]


def forest_panel(unit: str, rows: Sequence[tuple[MetricDisplay, Interval]]) -> ForestPanel:
    """One panel of whole intervals, with room beside the widest and zero always in sight."""
    ends = [0.0, *(float(interval[key]) for _, interval in rows for key in ("low", "mean", "high"))]
    reach = (max(ends) - min(ends)) * 0.08 or 1.0
    low, high = min(ends) - reach, max(ends) + reach

    def across(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    directions = {display.better for display, _ in rows}
    better = {"higher": "right", "lower": "left"}.get(str(directions.pop()), "") if len(directions) == 1 else ""
    return ForestPanel(
        unit=unit,
        better=better,
        zero=across(0.0),
        ticks=tuple(ticks(low, high, across, signed=True)),
        rows=tuple(
            ForestRow(
                display.label,
                interval_text(interval, display, signed=True),
                verdict_of(interval, display),
                across(float(interval["low"])),
                across(float(interval["mean"])),
                across(float(interval["high"])),
            )
            for display, interval in rows
        ),
    )
