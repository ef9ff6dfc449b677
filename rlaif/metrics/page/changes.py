"""The lists of the report page that lead to the case browser: the best gains and the worst regressions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rlaif.metrics.display import Judges, display_of, number_text
from rlaif.metrics.page.heldout_changes import heldout_changes
from rlaif.metrics.page.run_tables import bounded
from rlaif.metrics.page.sentences import typographic

_MOST = 10


def case_link(case_id: str) -> str:
    """The address within the page at which the case browser shows a case."""
    return f"#case={quote(case_id, safe='')}"


def extremes(run: Path, judges: Judges, shown: Sequence[str]) -> dict[str, Any] | None:
    """The held-out cases that gained most and lost most by the main metric, each a row with its link where shown.

    A case that did not get better is no gain, and one that did not get worse no regression. None where nothing was
    scored for both the base and a round.
    """
    changes = heldout_changes(run, judges)
    if changes is None or changes.metric is None or not changes.ranked:
        return None
    metric, display = changes.metric, display_of(changes.metric, judges)
    sign = -1 if display.better == "lower" else 1
    (_, base), (label, last) = changes.policies[0], changes.policies[-1]
    known = set(shown)

    def row(case: str) -> dict[str, str]:
        ends = (base[case]["metrics"][metric], last[case]["metrics"][metric])
        return {
            "case": bounded(case, 80),
            "link": case_link(case) if case in known else "",
            "base": typographic(number_text(ends[0], 2)),
            "last": typographic(number_text(ends[1], 2)),
            "change": typographic(number_text(changes.change[case], 2, signed=True)),
            "before": bounded(base[case]["text"], 160),
            "after": bounded(last[case]["text"], 160),
        }

    better = [case for case in changes.ranked if sign * changes.change[case] > 0]
    worse = [case for case in reversed(changes.ranked) if sign * changes.change[case] < 0]
    return {
        "metric": display.words,
        "last": label,
        "counts": (len(better), len(changes.ranked) - len(better) - len(worse), len(worse)),
        "better": [row(case) for case in better[:_MOST]],
        "worse": [row(case) for case in worse[:_MOST]],
    }
