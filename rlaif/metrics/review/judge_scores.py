"""What the run's judges said of the reports that raters saw."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from rlaif.metrics.calibration import Scale
from rlaif.metrics.review.sampling import Reports
from rlaif.records import Judgement
from rlaif.tables import Table

RULES = "rules"
_RULES_SCALE: Scale = (0.0, 1.0)
Scores = dict[str, float | None]


def candidate_id(case_id: str, system: str) -> str:
    """The id of a held-out report among judgements."""
    return f"{case_id}.{system}"


class JudgeScores:
    """The scores of every judge of a run on held-out reports, and the ends of their scales by judge."""

    def __init__(self, run: Path, reports: Reports) -> None:
        # By system, judge and candidate: a pairwise judge scores the base's report anew beside each round's.
        self._given: dict[str, dict[str, Scores]] = {}
        self.scales: dict[str, Scale] = {}
        self._pairwise: set[str] = set()
        for system, own in reports.items():
            tables: dict[str, Scores] = defaultdict(dict)
            for row in Table(run / "heldout-judging" / system / "judgements", Judgement).read():
                tables[row.judge][row.candidate_id] = row.score
                self.scales[row.judge] = (row.scale_low, row.scale_high)
                if row.candidate_id != candidate_id(row.case_id, system):
                    self._pairwise.add(row.judge)
            rules = {candidate_id(case, system): row.metrics.get("rules_score") for case, row in own.items()}
            if RULES not in tables and any(score is not None for score in rules.values()):
                tables[RULES] = rules
                self.scales[RULES] = _RULES_SCALE
            self._given[system] = dict(tables)

    def of(self, shown: Mapping[str, tuple[str, tuple[str, ...]]]) -> dict[str, Scores]:
        """By judge the score of every item, None where it has none, and where a pairwise judge did not compare the two.

        `shown` tells by item id the case and the systems: the report's own, and of a pair the other's behind it.
        """
        return {
            judge: {item: self._score(judge, case, systems) for item, (case, systems) in shown.items()}
            for judge in sorted(self.scales)
        }

    def _score(self, judge: str, case: str, systems: tuple[str, ...]) -> float | None:
        tables = {system: self._given[system].get(judge, {}) for system in systems}
        wanted = [candidate_id(case, system) for system in systems]
        for table in tables.values():
            if len(wanted) > 1 and all(one in table for one in wanted):
                return table[wanted[0]]
        if len(wanted) > 1 and judge in self._pairwise:
            # Its scores are of comparisons with other reports and say nothing of this pair.
            return None
        return tables[systems[0]].get(wanted[0])
