"""The held-out reports of a run by policy, and how much each case gained from the base to the last round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif.metrics.display import Judges, column_label, display_of, is_number, main_metric
from rlaif.metrics.page.run_tables import read_rows

Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class HeldoutChanges:
    """Held-out reports of the base and of each round, by label and case, and what the cases gained.

    `change` is the last round minus the base in `metric`, as it stands; `ranked` has the same cases, the best gain
    first, whichever way is better. `unscored` are the other cases of both, such as those without a reference; where
    no case has any metric, `metric` is None.
    """

    metric: str | None
    policies: tuple[tuple[str, Rows], ...]
    change: Mapping[str, float]
    ranked: tuple[str, ...]
    unscored: tuple[str, ...]


def heldout_changes(run: Path, judges: Judges | None = None) -> HeldoutChanges | None:
    """The changes by the metric that leads a result; None where the base and the last round share no case.

    Reports have the scores of the run's judges among their metrics. The blind control takes no part.
    """
    names = ["base", *sorted(path.name for path in (run / "heldout").glob("round-*") if path.is_dir())]
    if len(names) == 1:
        return None
    policies = tuple((column_label(name), _reports(run, name)) for name in names)
    base, last = policies[0][1], policies[-1][1]
    shared = sorted(base.keys() & last.keys())
    metrics = {case: base[case]["metrics"].keys() & last[case]["metrics"].keys() for case in shared}
    metric = main_metric(name for names in metrics.values() for name in names)
    sign = -1 if metric and display_of(metric, judges).better == "lower" else 1
    change = {
        case: last[case]["metrics"][metric] - base[case]["metrics"][metric]
        for case in shared
        if metric and all(is_number(rows[case]["metrics"].get(metric)) for rows in (base, last))
    }
    ranked = tuple(sorted(change, key=lambda case: (-sign * change[case], case)))
    unscored = tuple(case for case in shared if case not in change)
    return HeldoutChanges(metric, policies, change, ranked, unscored) if shared else None


def _reports(run: Path, name: str) -> dict[str, dict[str, Any]]:
    reports = {row["case_id"]: row for row in read_rows(run / "heldout" / name) if not row["control"]}
    columns = ["candidate_id", "case_id", "judge", "score"]
    for row in read_rows(run / "heldout-judging" / name / "judgements", columns):
        report = reports.get(row["case_id"])
        # A pairwise judge has a row for the base's report too.
        own = row["candidate_id"] == f"{row['case_id']}.{name}"
        if report is not None and own and row["score"] is not None:
            report["metrics"].setdefault(f"{row['judge']}_score", row["score"])
    return reports


def evenly(ranked: Sequence[str], most: int) -> list[str]:
    """At most `most` of ranked cases, evenly spread over the ranks, with both ends."""
    if len(ranked) <= most:
        return list(ranked)
    if most < 2:
        return list(ranked[: max(most, 0)])
    return [ranked[round(place * (len(ranked) - 1) / (most - 1))] for place in range(most)]
