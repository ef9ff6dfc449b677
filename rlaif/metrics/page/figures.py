"""The figures of the report page that are drawn from a run: training, held-out metrics by round, distributions."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from rlaif.metrics.display import Judges, column_label, display_of, interval_text, is_number, ordered, policy_columns
from rlaif.metrics.page.curves import Chart, Tick, alignment_charts, histogram, line_chart, score_shares, sft_chart
from rlaif.metrics.page.run_tables import learning_steps, read_table, round_folders

_MOST_METRICS = 6
_MOST_LABELS = 7


def learning_charts(run: Path) -> list[Chart]:
    """The base policy's SFT loss and the alignment curves of the rounds, as far as steps were recorded."""
    rounds = [(column_label(folder.name), learning_steps(folder / "metrics.json")) for folder in round_folders(run)]
    base = sft_chart(learning_steps(run / "base" / "metrics.json"))
    return [*([base] if base else []), *alignment_charts(rounds)]


def heldout_charts(summary: Mapping[str, Any], judges: Judges | None = None) -> list[Chart]:
    """The first held-out metrics from the base over the rounds, with their 95 % intervals; empty without a round."""
    heldout: Mapping[str, Any] = summary.get("heldout") or {}
    columns = policy_columns(heldout)
    if len(columns) < 2:
        return []
    charts = []
    for metric in ordered(name for column in columns for name in heldout[column] or {})[:_MOST_METRICS]:
        display = display_of(metric, judges)
        intervals = [((heldout[column] or {}).get(metric) or {}) for column in columns]
        known = [(place, one) for place, one in enumerate(intervals) if is_number(one.get("mean"))]
        whole = [(place, one) for place, one in known if is_number(one.get("low")) and is_number(one.get("high"))]
        curves = {
            "Mean": [[(float(place), one["mean"]) for place, one in known]],
            "95 % interval": [[(float(place), one["low"]), (float(place), one["high"])] for place, one in whole],
        }
        better = f"; {display.better} is better" if display.better else ""
        chart = line_chart(display.label, display.unit + better, curves, "policy")
        if chart is not None and len(known) > 1:
            first, last = known[0][0], known[-1][0]
            stride = -(-len(known) // _MOST_LABELS)
            ticks = [
                Tick(round(100 * (place - first) / (last - first), 2), column_label(columns[place]))
                for place, _ in known[::stride]
            ]
            words = "; ".join(f"{column_label(columns[place])} {interval_text(one, display)}" for place, one in known)
            charts.append(replace(chart, x_ticks=tuple(ticks), words=words))
    return charts


def histograms(run: Path) -> list[tuple[str, list[Chart], int]]:
    """For each judge: its name, one histogram a round on a shared axis, and how many candidates had no score."""
    scores: dict[str, list[tuple[str, list[float], int]]] = {}
    scales: dict[str, tuple[float, float]] = {}
    for folder in round_folders(run):
        table = read_table(folder / "judgements", ["judge", "score", "scale_low", "scale_high"])
        for judge in pc.unique(table["judge"]).to_pylist() if table.num_rows else ():
            own = table.filter(pc.equal(table["judge"], judge))
            valid = own["score"].drop_null().to_pylist()
            scores.setdefault(judge, []).append((column_label(folder.name), valid, own.num_rows - len(valid)))
            scales[judge] = (own["scale_low"][0].as_py(), own["scale_high"][0].as_py())
    result = []
    for judge, by_round in sorted(scores.items()):
        low, high = scales[judge]
        top = max(max(score_shares(values, low, high)[0], default=0.0) for _, values, _ in by_round)
        charts = [histogram(label, values, low, high, top) for label, values, _ in by_round if values]
        result.append((judge, charts, sum(failed for _, _, failed in by_round)))
    return result
