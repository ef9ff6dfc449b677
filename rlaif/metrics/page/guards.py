"""The section of the report page on the guards: whether the policy pleases its judge without writing truer reports."""

from collections.abc import Mapping
from typing import Any

from rlaif.metrics.display import (
    Judges,
    MetricDisplay,
    column_label,
    display_of,
    interval_text,
    is_number,
    ordered,
    policy_columns,
    verdict_of,
)
from rlaif.metrics.guards import MATCHED_LENGTH
from rlaif.metrics.page.forest import ForestPanel, forest_panel
from rlaif.metrics.page.judges import figure_text
from rlaif.metrics.page.run_tables import bounded
from rlaif.metrics.page.sentences import training_judges, typographic

_MOST_WARNINGS = 20
_WARNING_LIMIT = 600
_HELD_OUT = "held out"


def guards_section(summary: Mapping[str, Any], judges: Judges) -> dict[str, Any] | None:
    """What the page shows of the guards; None where the summary has none.

    `warnings` are sentences, `quiet` the sentence that stands in their place, `notes` sentences on what may be chance.
    `length` has a row a round, `errors` a column a policy, `gains` a row a judge or metric, `panel` the judges' gains
    on one axis, `matched` a sentence.
    """
    guards: Mapping[str, Any] = summary.get("guards") or {}
    if not guards:
        return None
    warnings, notes = (
        [bounded(str(one), _WARNING_LIMIT) for one in (guards.get(name) or [])[:_MOST_WARNINGS]]
        for name in ("warnings", "notes")
    )
    gains = _gains(summary, guards, judges)
    return {
        "judge": bounded(str(guards.get("judge")), 80),
        "warnings": warnings,
        "notes": notes,
        "quiet": f"No warning: the guards see no {'sure ' if notes else ''}sign that the policy pleases its judge "
        "without writing truer reports."
        if any(row["metric"].endswith("_score") for row in gains)
        else "Whether the policy games its judge was not measured: no round has scores on held-out cases.",
        "length": [
            (
                column_label(key),
                [
                    figure_text((row or {}).get("correlation"), signed=True),
                    figure_text((row or {}).get("chosen_longer")),
                    figure_text((row or {}).get("chosen_minus_rejected"), 1, signed=True),
                ],
            )
            for key, row in (guards.get("length") or {}).items()
        ],
        "errors": _errors(guards),
        "gains": gains,
        "independent": [row["label"] for row in gains if row["role"] == _HELD_OUT],
        "panel": _panel(guards, judges),
        "matched": _matched(guards, judges),
    }


def _role(metric: str, summary: Mapping[str, Any], guards: Mapping[str, Any]) -> str:
    """What a judge is to the training, empty for a metric that is no judge's."""
    if not metric.endswith("_score"):
        return ""
    name = metric.removesuffix("_score")
    if name == guards.get("judge"):
        return "training judge"
    return "in training too" if name in training_judges(summary) else _HELD_OUT


def _by_role(guards: Mapping[str, Any]) -> list[str]:
    """The metrics of the gains: the training judge's first."""
    own = f"{guards.get('judge')}_score"
    gains = [name for name, interval in (guards.get("gains") or {}).items() if interval]
    return sorted(ordered(gains), key=lambda name: name != own)


def _gains(summary: Mapping[str, Any], guards: Mapping[str, Any], judges: Judges) -> list[dict[str, Any]]:
    """A row for each judge's score and each metric beside it: base, last round, gain, and the gain's verdict."""
    heldout: Mapping[str, Any] = summary.get("heldout") or {}
    columns = policy_columns(heldout)
    rows = []
    for metric in _by_role(guards):
        display, gain = display_of(metric, judges), guards["gains"][metric]
        ends = [(heldout.get(key) or {}).get(metric) for key in (columns[0], columns[-1])] if columns else [None, None]
        rows.append(
            {
                "metric": metric,
                "label": display.label,
                "unit": display.unit,
                "role": _role(metric, summary, guards),
                "ends": [typographic(interval_text(end, display)) for end in ends],
                "gain": typographic(interval_text(gain, display, signed=True)),
                "verdict": verdict_of(gain, display),
            }
        )
    return rows


def _panel(guards: Mapping[str, Any], judges: Judges) -> ForestPanel | None:
    """The gains of the judges and of finding F1 as shares of their scales on one axis; None for one judge alone."""
    own, rows = f"{guards.get('judge')}_score", []
    for metric in _by_role(guards):
        display, gain = display_of(metric, judges), guards["gains"][metric]
        known = judges.get(metric.removesuffix("_score")) if metric.endswith("_score") else None
        scale = (0.0, 1.0) if metric == "finding_f1" else known.scale if known else None
        if (
            scale is None
            or scale[0] >= scale[1]
            or not all(is_number(gain.get(key)) for key in ("mean", "low", "high"))
        ):
            continue
        share = {key: gain[key] / (scale[1] - scale[0]) for key in ("mean", "low", "high")}
        marked = " (training judge)" if metric == own else ""
        rows.append((MetricDisplay(metric, display.label + marked, "share of the scale", 3, "higher"), share))
    scores = sum(display.name.endswith("_score") for display, _ in rows)
    return forest_panel("share of each scale", rows) if scores > 1 else None


def _errors(guards: Mapping[str, Any]) -> dict[str, Any]:
    """Errors a report by class, with hallucinated findings below: columns of policies, rows of label and cells."""
    errors, hallucinated = guards.get("errors") or {}, guards.get("hallucinated") or {}
    columns = policy_columns({**errors, **hallucinated})
    classes = dict.fromkeys(name for key in columns for name in errors.get(key) or {})
    rows = [
        (name.replace("_", " ").capitalize(), [figure_text((errors.get(key) or {}).get(name)) for key in columns])
        for name in classes
    ]
    if any(hallucinated.values()):
        rows.append((display_of("hallucinated").label, [figure_text(hallucinated.get(key)) for key in columns]))
    return {"columns": [column_label(key) for key in columns], "rows": rows}


def _matched(guards: Mapping[str, Any], judges: Judges) -> str:
    """What is left of the training judge's gain among reports as long as the base's."""
    matched = guards.get("length_matched") or {}
    gain, wins = matched.get("gain"), matched.get("win_rate")
    if not gain or not is_number(gain.get("mean")):
        return "No held-out report is as long as the base's and has scores of both: no gain at equal length is known."
    display = display_of(f"{guards.get('judge')}_score", judges)
    cases = f"{gain['n']} held-out cases" if gain.get("n") is not None else "the held-out cases"
    return typographic(
        f"At equal length ({cases} whose report is as long as the base's within {MATCHED_LENGTH:.0%}): the training "
        f"judge's gain is {interval_text(gain, display, signed=True)}, and the last policy's report wins "
        f"{figure_text(wins)} of the cases (a tie counts half; 0.5 is none better)."
    ).replace("%", " %")
