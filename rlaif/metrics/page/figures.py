"""The figures of the report page that are read from a run's tables: training curves and score distributions."""

from pathlib import Path

import pyarrow.compute as pc

from rlaif.metrics.display import column_label
from rlaif.metrics.page.curves import Chart, alignment_charts, histogram, score_shares, sft_chart
from rlaif.metrics.page.run_tables import learning_steps, read_table, round_folders


def learning_charts(run: Path) -> list[Chart]:
    """The base policy's SFT loss and the alignment curves of the rounds, as far as steps were recorded."""
    rounds = [(column_label(folder.name), learning_steps(folder / "metrics.json")) for folder in round_folders(run)]
    base = sft_chart(learning_steps(run / "base" / "metrics.json"))
    return [*([base] if base else []), *alignment_charts(rounds)]


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
