"""What is said of a file's reports once they are judged, from tables written by hand: nobody is asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.rated_reports import TABLE_SET, judged_cases, rated_summary
from rlaif.ledger import RunFolder
from rlaif.metrics.judging import judging_of
from rlaif.metrics.ratings import read_ratings
from rlaif.metrics.report_sets import JUDGING
from rlaif.records import Comparison, Judgement, table_of

STAGE, PAIRS = f"{JUDGING}/{TABLE_SET}", 10


def judgement(item: str, case: str, judge: str, score: float) -> Judgement:
    return Judgement(
        f"{item}.{judge}", item, case, 0, judge, "1", score, 0.0, 1.0, None, "", None, None, None, False, 0.0, 0, 0, 0.0
    )


def test_pairs_of_a_case_are_resampled_together(tmp_path: Path, configured: Callable[..., Any]) -> None:
    """Two cases of ten pairs: in the one a judge takes what is shown first and agrees with the other judge, in the
    other the opposite. With two cases that says nothing, however many pairs they have.
    """
    lines = [f"{case},R.,good {number},bad {number},a" for case in ("same", "turned") for number in range(PAIRS)]
    file = tmp_path / "choices.csv"
    file.write_text("case_id,reference,candidate_a,candidate_b,choice\n" + "\n".join(lines) + "\n", encoding="utf-8")
    ratings = read_ratings(file)
    judgements, comparisons = [], []
    for one in judged_cases(ratings):
        (good, bad), same = one.reports, one.case_id.startswith("same")
        for name, better in (("rules", good), ("pairwise", good if same else bad)):
            judgements += [judgement(it.candidate_id, one.case_id, name, float(it is better)) for it in one.reports]
        comparisons += [
            Comparison(
                f"{one.case_id}.{order}", one.case_id, 0, "pairwise", good.candidate_id, bad.candidate_id,
                order, "a" if (order == "ab") == same else "b", None, "",
            )
            for order in ("ab", "ba")
        ]  # fmt: skip
    with RunFolder.open(tmp_path, "score", {}) as run:
        run.append(f"{STAGE}/judgements", Judgement, judgements)
        run.append(f"{STAGE}/comparisons", Comparison, comparisons)
        told = judging_of(table_of(Judgement, judgements), table_of(Comparison, comparisons))
        told["judges"]["pairwise"]["spent_usd"] = 0.5
        run.finish(STAGE, judging=told)
        summary = rated_summary(run, configured(f"score.table={file}"), ratings)
    pairwise = summary["judges"]["pairwise"]
    assert pairwise["comparisons"]["first_place"] == {"mean": 0.5, "low": 0.0, "high": 1.0, "n": 4 * PAIRS}
    assert pairwise["comparisons"]["orders_agree"]["mean"] == 0.0 and pairwise["spent_usd"] == 0.5
    assert "comparisons" not in summary["judges"]["rules"]
    (agreement,) = summary["agreement"]
    assert agreement["cases"] == 2 and agreement["candidates"] == 4 * PAIRS
    # Only the reports of a pair were held against each other.
    assert agreement["order"] == {"mean": 0.5, "low": 0.0, "high": 1.0, "n": 2 * PAIRS}
    assert agreement["spearman"] == {
        "mean": pytest.approx(0.0), "low": pytest.approx(-1.0), "high": pytest.approx(1.0), "n": 4 * PAIRS,
    }  # fmt: skip
