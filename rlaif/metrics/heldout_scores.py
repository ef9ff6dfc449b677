"""Held-out reports with all their scores: their own metrics, and what the run's judges said of them."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from rlaif.records import HeldoutReport, Judgement
from rlaif.tables import Table


def scored_reports(run: Path, name: str) -> list[HeldoutReport]:
    """The held-out reports of a policy (`base`, `round-000`) of a run folder, with `<judge>_score` among the metrics.

    A score is absent where the judge failed, and for the blind control, which only the rules score.
    """
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    columns = ["candidate_id", "case_id", "judge", "score"]
    for row in Table(run / "heldout-judging" / name / "judgements", Judgement).arrow(columns).to_pylist():
        # A pairwise judge has a row for the base's report too.
        if row["score"] is not None and row["candidate_id"] == f"{row['case_id']}.{name}":
            scores[row["case_id"]][f"{row['judge']}_score"] = row["score"]
    return [
        one if one.control else replace(one, metrics=scores[one.case_id] | one.metrics)
        for one in Table(run / "heldout" / name, HeldoutReport).read()
    ]
