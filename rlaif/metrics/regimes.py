"""Tables of fine-tuning against alignment: each policy on the same held-out patients, and what alignment adds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlaif.metrics.intervals import bootstrap, interval_words, paired
from rlaif.metrics.rouge import KINDS, rouge, rouge_words
from rlaif.records import NOT_WRITTEN, HeldoutReport
from rlaif.reports.region_reports import without_region_prefixes
from rlaif.tables import Table

METRICS = (*KINDS, "rules_score", "finding_f1", "hallucinated", "report_words")
_LABELS = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rules_score": "Rules score",
    "finding_f1": "Finding F1",
    "hallucinated": "Hallucinated",
    "report_words": "Words",
}


@dataclass(frozen=True)
class MeasuredPolicy:
    """A policy's name in the tables, the fine-tuned one that it is held against (None: it is one itself), and its
    held-out reports.
    """

    name: str
    control: str | None
    folder: Path


def regime_table(policies: Sequence[MeasuredPolicy], *, resamples: int) -> dict[str, Any]:
    """Each policy's metrics with intervals by patient, and each aligned one's paired difference from every fine-tuned
    one that is measured beside it. Raises ValueError where two policies have one name.
    """
    names = [one.name for one in policies]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{repeated[0]} is the name of two policies of one table: give each its own")
    measured = {one.name: _measured(one.folder) for one in policies}
    values = {
        one.name: {
            metric: asdict(bootstrap([*by_case.values()], [patients[case] for case in by_case], resamples=resamples))
            for metric, by_case in metrics.items()
            if by_case
        }
        for one in policies
        for metrics, patients in [measured[one.name]]
    }
    controls = [one.name for one in policies if one.control is None]
    gains: dict[str, dict[str, Any]] = {}
    for one in policies:
        if one.control is None:
            continue
        ours, patients = measured[one.name]
        gains[one.name] = {
            control: {
                metric: asdict(paired(theirs[metric], ours[metric], patients, resamples=resamples))
                for metric in METRICS
                if theirs[metric].keys() & ours[metric].keys()
            }
            for control in controls
            for theirs in [measured[control][0]]
        }
    return {"policies": values, "gains": gains}


def _measured(folder: Path) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Every metric's values by case, and the cases' patients; ROUGE is of what judges see, and a reference without a
    word that it knows has none, nor has a prompt that left no room for a report.
    """
    metrics: dict[str, dict[str, float]] = {metric: {} for metric in METRICS}
    patients: dict[str, str] = {}
    for row in Table(folder, HeldoutReport).iterate():
        if row.control or row.finish_reason == NOT_WRITTEN:
            continue
        patients[row.case_id] = row.patient_id
        own = dict(row.metrics)
        if row.reference and rouge_words(row.reference):
            own |= rouge(row.reference, without_region_prefixes(row.text))
        for metric in METRICS:
            if metric in own:
                metrics[metric][row.case_id] = own[metric]
    return metrics, patients


def markdown(title: str, table: Mapping[str, Any]) -> str:
    """A table of policies, and one of what alignment adds, as Markdown."""
    shown = [metric for metric in METRICS if any(metric in one for one in table["policies"].values())]
    lines = [f"### {title}", "", _row(["", *(_LABELS[one] for one in shown)]), _rule(len(shown))]
    for name, values in table["policies"].items():
        lines.append(_row([name, *(_cell(values.get(metric), signed=False) for metric in shown)]))
    if table["gains"]:
        lines += ["", _row(["difference", *(_LABELS[one] for one in shown)]), _rule(len(shown))]
        for name, controls in table["gains"].items():
            for control, values in controls.items():
                cells = (_cell(values.get(metric), signed=True) for metric in shown)
                lines.append(_row([f"{name} - {control}", *cells]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(columns: int) -> str:
    return _row(["---", *["---:"] * columns])


def _cell(interval: Mapping[str, Any] | None, *, signed: bool) -> str:
    if interval is None:
        return "-"
    return interval_words(interval["mean"], interval["low"], interval["high"], signed=signed)
