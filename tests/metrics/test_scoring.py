"""The summary of a score run and its table."""

import io

import pyarrow as pa
from rich.console import Console

from rlaif.metrics.judging import JUDGING_COLUMNS, judging_of
from rlaif.metrics.ratings import RatedReport, Ratings
from rlaif.metrics.scoring import score_summary, score_table
from rlaif.records import Comparison, Judgement, table_of


def judgements() -> pa.Table:
    scores = {"mini": (1.0, 3.0, 5.0, None), "rules": (0.1, 0.5, 0.9, 0.7)}
    rows = [
        Judgement(
            f"{number}.{judge}", f"i{number}", f"c{number}", 0, judge, "1", score, *scale,
            None if score is not None else "parse", "", None, None, None, False, 0.0, 0, 0, 0.0,
        )
        for judge, scale in (("mini", (1.0, 5.0)), ("rules", (0.0, 1.0)))
        for number, score in enumerate(scores[judge])
    ]  # fmt: skip
    return table_of(Judgement, rows).select(JUDGING_COLUMNS)


def test_judges_stand_on_their_own_scales_against_the_raters() -> None:
    items = {f"i{number}": RatedReport(f"i{number}", f"c{number}", "Ref.", f"Text {number}.") for number in range(4)}
    ratings = Ratings("scores", items, {"x": {"i0": 1.0, "i1": 3.0, "i2": 5.0, "i3": 4.0}})
    summary = score_summary(
        ratings, judgements(), judging_of(judgements(), table_of(Comparison, [])), rating_scale=(1.0, 5.0)
    )
    mini, rules = (summary["judges"][name] for name in ("mini", "rules"))
    assert mini["scale"] == [1.0, 5.0] and rules["scale"] == [0.0, 1.0] and "mean_score" not in mini
    assert mini["score"]["mean"] == 3.0 and mini["failures"] == {"parse": 1}
    # On 0 to 4 the grades are those of the rater: of three reports, and of four.
    told = summary["calibration"]["judges"]
    assert told["mini"]["kappa"]["mean"] == told["rules"]["kappa"]["mean"] == 1.0
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(score_table({"name": "mine", **summary}))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "mini, 1 to 5" in text and "rules, 0 to 1" in text and "1 parse" in text
