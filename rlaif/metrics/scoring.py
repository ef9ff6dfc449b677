"""What judges made of the reports of a file, and how far they agree with the radiologists who rated them."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from rich.table import Table
from rich.text import Text

from rlaif.metrics.agreement import RESAMPLES, clustered_mean
from rlaif.metrics.calibration import Scale, calibration_of
from rlaif.metrics.display import ABSENT, MetricDisplay, interval_text
from rlaif.metrics.ratings import Ratings

_DIGITS = MetricDisplay("", "", "", 2, None)
_COLUMNS = {
    "scores": {"spearman": "Spearman", "kendall": "Kendall", "kappa": "Kappa"},
    "choices": {"accuracy": "Accuracy", "kappa": "Kappa"},
    "none": {},
}


def score_summary(
    ratings: Ratings, judgements: pa.Table, judging: Mapping[str, Any], *, rating_scale: Scale | None = None
) -> dict[str, Any]:
    """The summary of a score run, ready for JSON, from its judgements and what `judging_of` says of them.

    `judges` has by name the accounts, the ends of the `scale`, and the mean `score` with its 95 % interval over cases;
    `agreement` that of every two judges; `calibration` what `calibration_of` gives, None for reports without ratings.
    """
    scores: dict[str, dict[str, float | None]] = defaultdict(dict)
    for row in judgements.select(["judge", "candidate_id", "score"]).to_pylist():
        scores[row["judge"]][row["candidate_id"]] = row["score"]
    scales: dict[str, Scale] = {name: tuple(judging["judges"][name]["scale"]) for name in scores}
    judges = {}
    for name, own in sorted(scores.items()):
        scored = {item: score for item, score in own.items() if score is not None}
        cases = [ratings.items[item].case_id for item in scored]
        told = {key: value for key, value in judging["judges"][name].items() if key != "mean_score"}
        interval = clustered_mean([*scored.values()], cases, resamples=RESAMPLES)
        judges[name] = {"score": interval, **told}
    rated = ratings.kind != "none"
    return {
        "kind": ratings.kind,
        "reports": len(ratings.items),
        "cases": len({report.case_id for report in ratings.items.values()}),
        "judges": judges,
        "agreement": judging["agreement"],
        "calibration": calibration_of(ratings, scores, scales, rating_scale=rating_scale) if rated else None,
    }


def score_table(summary: Mapping[str, Any]) -> Table:
    """The summary for the terminal: a row for each judge and, as the ceiling, for each of several raters."""
    kind, calibration = summary["kind"], summary["calibration"]
    unit = "pairs" if kind == "choices" else "reports"
    title = f"{summary['name']}: {summary['reports']} reports of {summary['cases']} cases, mean [95 % interval]"
    table = Table(title=Text(title), title_justify="left", caption_justify="left", header_style="bold")
    table.add_column("Judge")
    for label in ("Mean score", *_COLUMNS[kind].values(), unit.capitalize(), "Failures", "US$"):
        table.add_column(label, justify="right")
    for name, told in summary["judges"].items():
        low, high = told["scale"]
        agreement = calibration["judges"][name] if calibration else {}
        failures = ", ".join(f"{count} {failure}" for failure, count in sorted(told["failures"].items()))
        size = agreement[unit] if calibration else told["scored"]
        cells = [
            _interval(told["score"]),
            *_agreement(kind, agreement),
            str(size),
            failures or "0",
            f"{told['cost_usd']:.2f}",
        ]
        table.add_row(Text(f"{name}, {low:g} to {high:g}"), *map(Text, cells))
    raters = calibration["raters"] if calibration else {}
    table.add_section()
    for name, agreement in raters.items():
        cells = ["-", *_agreement(kind, agreement), str(agreement[unit]), "-", "-"]
        table.add_row(Text(name, style="dim"), *(Text(cell, style="dim") for cell in cells))
    table.caption = Text(_caption(summary, raters))
    return table


def _agreement(kind: str, agreement: Mapping[str, Any]) -> list[str]:
    return [_interval(agreement.get(column)) for column in _COLUMNS[kind]]


def _interval(interval: Mapping[str, Any] | None) -> str:
    text = interval_text(interval, _DIGITS)
    return "-" if text == ABSENT else text


def _caption(summary: Mapping[str, Any], raters: Mapping[str, Any]) -> str:
    if summary["kind"] == "none":
        return "The file holds no ratings. For research; not for clinical use."
    against = "what most raters chose" if summary["kind"] == "choices" else "the raters' mean"
    ceiling = "; each rater against the others is the ceiling" if raters else ""
    return f"Judges against {against}{ceiling}. For research; not for clinical use."
