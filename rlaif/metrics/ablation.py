"""What an ablation of judges and strategies shows: each one's gain in the eyes of every judge."""

import io
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from rlaif.metrics.agreement import agreement_of
from rlaif.metrics.heldout_scores import scored_reports
from rlaif.metrics.intervals import bootstrap, interval_words
from rlaif.records import Judgement
from rlaif.tables import Table

SHOWN = ("finding_f1", "hallucinated", "omitted", "report_words")
_AGREEMENT_COLUMNS = ("round", "judge", "case_id", "candidate_id", "score", "scale_low", "scale_high", "failure")


@dataclass(frozen=True)
class AblationRun:
    """One finished run of an ablation: which judge trained with which strategy, from which seed."""

    judge: str
    pairs: str
    seed: int
    folder: Path


def ablation_of(runs: Sequence[AblationRun], *, resamples: int = 2000) -> dict[str, Any]:
    """The ablation's rows (one for each judge and strategy, over all seeds) and the judges' agreement, for JSON.

    Gains are paired differences last round - base of the held-out cases. All runs have one base and the same cases, so
    intervals resample patients with their values of all seeds. `own` marks a judge that grades its own pupil.
    """
    groups: dict[tuple[str, str], list[AblationRun]] = defaultdict(list)
    for run in runs:
        groups[run.judge, run.pairs].append(run)
    rows = [_row(judge, pairs, members, resamples) for (judge, pairs), members in groups.items()]
    return {"rows": rows, "agreement": _agreement(runs)}


def _row(judge: str, pairs: str, runs: Sequence[AblationRun], resamples: int) -> dict[str, Any]:
    summaries = [json.loads((run.folder / "summary.json").read_text(encoding="utf-8")) for run in runs]
    differences: dict[str, list[tuple[str, float]]] = defaultdict(list)
    means: dict[str, list[float]] = defaultdict(list)
    before: dict[str, list[float]] = defaultdict(list)
    for run, summary in zip(runs, summaries, strict=True):
        last = f"round-{len(summary['rounds']) - 1:03d}"
        base = {one.case_id: one for one in scored_reports(run.folder, "base") if not one.control}
        changes: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for one in scored_reports(run.folder, last):
            if one.control:
                continue
            for metric in one.metrics.keys() & base[one.case_id].metrics.keys():
                changes[metric].append((one.patient_id, one.metrics[metric] - base[one.case_id].metrics[metric]))
                before[metric].append(base[one.case_id].metrics[metric])
        for metric, values in changes.items():
            differences[metric] += values
            means[metric].append(sum(value for _, value in values) / len(values))
    gain = {
        metric: {
            **asdict(bootstrap([v for _, v in values], [p for p, _ in values], resamples=resamples)),
            "by_seed": means[metric],
            "base": sum(before[metric]) / len(before[metric]),
            "own": metric == f"{judge}_score",
        }
        for metric, values in sorted(differences.items())
        if metric.endswith("_score") or metric in SHOWN
    }
    rounds = [one for summary in summaries for one in summary["rounds"]]
    stages = [one["judging"]["judges"] for one in rounds]
    stages += [judges for summary in summaries for judges in summary["heldout_judging"].values()]
    judged = [told for judges in stages for told in judges.values()]
    return {
        "judge": judge,
        "pairs": pairs,
        "seeds": [run.seed for run in runs],
        "gain": gain,
        "pairs_a_round": sum(one["pairs"] for one in rounds) / len(rounds) if rounds else 0.0,
        "cases_a_round": sum(one["pairs"] + one["dropped_cases"] for one in rounds) / len(rounds) if rounds else 0.0,
        "failures": sum(sum(told["failures"].values()) for told in judged),
        "cost_usd": sum(told["cost_usd"] for told in judged),
        "prompt_tokens": sum(told["prompt_tokens"] for told in judged),
    }


def _agreement(runs: Sequence[AblationRun]) -> list[dict[str, Any]]:
    """The agreement of every two judges on the candidates of round 0, which runs of one seed have in common."""
    tables: dict[tuple[str, int], pa.Table] = {}
    for run in runs:
        rows = Table(run.folder / "round-000" / "judgements", Judgement).arrow(_AGREEMENT_COLUMNS)
        # Candidates of several seeds bear the same ids; a case is one case, whatever the seed.
        ids = pa.array([f"{run.seed}/{one}" for one in rows["candidate_id"].to_pylist()], pa.string())
        place = rows.schema.get_field_index("candidate_id")
        rows = rows.set_column(place, rows.schema.field(place), ids)
        for judge in set(rows["judge"].to_pylist()):
            tables.setdefault((judge, run.seed), rows.filter(pa.compute.equal(rows["judge"], judge)))
    return agreement_of(pa.concat_tables(list(tables.values()))) if tables else []


def markdown(ablation: dict[str, Any]) -> str:
    """The ablation as a Markdown table; a judge's gain in its own eyes is in italics."""
    metrics = _metrics(ablation)
    head = ["trained by", "pairs", "seeds", *(_label(metric) for metric in metrics), "pairs kept", "cost"]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---', '---', *['---:'] * (len(head) - 2)])} |"]
    for row in ablation["rows"]:
        cells = [_cell(row["gain"].get(metric)) for metric in metrics]
        kept = f"{row['pairs_a_round']:.0f} of {row['cases_a_round']:.0f}"
        cost = f"${row['cost_usd']:,.2f}" if row["cost_usd"] else "no price" if row["prompt_tokens"] else "free"
        lines.append(f"| {' | '.join([row['judge'], row['pairs'], str(len(row['seeds'])), *cells, kept, cost])} |")
    return "\n".join(lines) + "\n"


def _metrics(ablation: dict[str, Any]) -> list[str]:
    found = {metric for row in ablation["rows"] for metric in row["gain"]}
    return [*sorted(found - set(SHOWN)), *(metric for metric in SHOWN if metric in found)]


def _label(metric: str) -> str:
    return metric.removesuffix("_score") if metric.endswith("_score") else metric.replace("_", " ")


def _cell(gain: dict[str, Any] | None) -> str:
    if gain is None:
        return "-"
    digits = 1 if abs(gain["base"]) > 10 else 3
    text = interval_words(gain["mean"], gain["low"], gain["high"], digits=digits)
    return f"*{text}*" if gain["own"] else text


def draw(ablation: dict[str, Any]) -> str | None:
    """The figure as SVG: a panel for each metric, a line for each judge and strategy, a dot for each seed's mean; None
    where no run has a gain to show, as without held-out reports.
    """
    if not (metrics := _metrics(ablation)):
        return None
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = ablation["rows"]
    width, height = 2.6 * len(metrics) + 1.6, 0.5 * len(rows) + 1.6
    figure, panels = pyplot.subplots(1, len(metrics), figsize=(width, height), sharey=True, squeeze=False)
    for panel, metric in zip(panels[0], metrics, strict=True):
        panel.axvline(0, color="#888888", linewidth=0.8)
        for place, row in enumerate(rows):
            gain = row["gain"].get(metric)
            if gain is None:
                continue
            colour = "#b45309" if gain["own"] else "#1d4ed8"
            if gain["low"] is not None:
                panel.plot([gain["low"], gain["high"]], [place, place], color=colour, linewidth=2)
            panel.plot(gain["by_seed"], [place] * len(gain["by_seed"]), ".", color=colour, alpha=0.4, markersize=5)
            panel.plot(gain["mean"], place, "o", color=colour, markersize=5)
        panel.set_title(_label(metric), fontsize=9)
        panel.tick_params(labelsize=8)
    panels[0][0].set_yticks(range(len(rows)), [f"{row['judge']}, {row['pairs']}" for row in rows])
    panels[0][0].invert_yaxis()
    figure.supxlabel("gain, last round - base (orange: in the eyes of the judge that trained)", fontsize=8)
    figure.tight_layout()
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    pyplot.close(figure)
    return drawn.getvalue()
