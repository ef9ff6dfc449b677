"""How a metric is shown to a reader: its label, unit, digits, and which way is better."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Interval = Mapping[str, Any]
Better = Literal["higher", "lower"]
Verdict = Literal["better", "worse", "changed", "unclear"]

ABSENT = "not available"


@dataclass(frozen=True)
class MetricDisplay:
    """The label, unit, number of digits and better direction (None: neither) of a metric."""

    name: str
    label: str
    unit: str
    digits: int
    better: Better | None


_KNOWN = (
    MetricDisplay("rules_score", "Rules score", "score, 0 to 1", 3, "higher"),
    MetricDisplay("finding_f1", "Finding F1", "score, 0 to 1", 3, "higher"),
    MetricDisplay("hallucinated", "Hallucinated findings", "findings per report", 2, "lower"),
    MetricDisplay("omitted", "Omitted findings", "findings per report", 2, "lower"),
    MetricDisplay("report_words", "Report length", "words per report", 1, None),
    MetricDisplay("region_recognition", "Regions recognised", "share of the regions asked for", 3, "higher"),
)
_BY_NAME = {display.name: display for display in _KNOWN}
_SCORE_UNITS = {"gpt4_score": "score, 1 to 5"}


def display_of(metric: str) -> MetricDisplay:
    """The display of a metric; a name that is not known gets its own words, and `<judge>_score` is better higher."""
    if metric in _BY_NAME:
        return _BY_NAME[metric]
    words = metric.replace("_", " ")
    if metric.endswith("_score"):
        return MetricDisplay(metric, words[:1].upper() + words[1:], _SCORE_UNITS.get(metric, "score"), 3, "higher")
    return MetricDisplay(metric, words[:1].upper() + words[1:], words, 3, None)


def ordered(metrics: Iterable[str]) -> list[str]:
    """Metric names without repeats: the rules' score, other judges' scores, the known others, then the rest."""
    known = list(_BY_NAME)

    def rank(metric: str) -> tuple[int, int, str]:
        if metric == known[0]:
            return 0, 0, metric
        if metric.endswith("_score"):
            return 1, 0, metric
        return (2, known.index(metric), metric) if metric in known else (3, 0, metric)

    return sorted(set(metrics), key=rank)


def main_metric(metrics: Iterable[str]) -> str | None:
    """The metric that leads a result, or None where there is none."""
    names = ordered(metrics)
    return names[0] if names else None


def is_number(value: Any) -> bool:
    """Whether a value of a summary is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number_text(value: Any, digits: int, signed: bool = False) -> str:
    """A number with fixed digits, with its sign where asked; no negative zero."""
    if not is_number(value):
        return ABSENT
    rounded = round(float(value), digits) + 0.0
    return f"{rounded:+.{digits}f}" if signed and rounded else f"{rounded:.{digits}f}"


def interval_text(interval: Interval | None, display: MetricDisplay, signed: bool = False) -> str:
    """`mean [low, high]`, or the mean alone where no interval could be computed."""
    if not interval or not is_number(interval.get("mean")):
        return ABSENT
    mean, low, high = (number_text(interval.get(key), display.digits, signed) for key in ("mean", "low", "high"))
    return mean if ABSENT in (low, high) else f"{mean} [{low}, {high}]"


def verdict_of(difference: Interval | None, display: MetricDisplay) -> Verdict:
    """What a difference and its interval say: better, worse, changed (no direction is better), or unclear."""
    if not difference or not all(is_number(difference.get(key)) for key in ("mean", "low", "high")):
        return "unclear"
    if difference["low"] <= 0 <= difference["high"]:
        return "unclear"
    if display.better is None:
        return "changed"
    return "better" if (difference["low"] > 0) == (display.better == "higher") else "worse"


def column_label(key: str) -> str:
    """The reader's words for a key of `heldout`: `base` or `round-001`."""
    prefix, _, number = key.partition("-")
    return f"Round {int(number)}" if prefix == "round" and number.isdigit() else key.capitalize()


def policy_columns(heldout: Mapping[str, Any]) -> list[str]:
    """The keys of `heldout` in the order of training: the base, then the rounds."""
    rounds = sorted((key for key in heldout if key != "base"), key=lambda key: (len(key), key))
    return (["base"] if "base" in heldout else []) + rounds
