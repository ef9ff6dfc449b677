"""Agreement with radiologists, on tables small enough to compute by hand."""

import json
from typing import Any

import pytest

from rlaif.metrics.calibration import calibration_of
from rlaif.metrics.ratings import Choice, RatedReport, Ratings

UNIT = {"rules": (0.0, 1.0)}
REPORTS = [f"i{number}" for number in range(6)]


def items() -> dict[str, RatedReport]:
    """Six reports, two of each of three cases."""
    return {item: RatedReport(item, f"c{number // 2}", "Ref.", f"Text {item}.") for number, item in enumerate(REPORTS)}


def scored(**raters: list[float | None]) -> Ratings:
    given = {
        rater: {item: score for item, score in zip(REPORTS, own, strict=True) if score is not None}
        for rater, own in raters.items()
    }
    return Ratings("scores", items(), given)


def chosen(**raters: list[Choice]) -> Ratings:
    pairs = [("i0", "i1"), ("i2", "i3"), ("i4", "i5"), ("i0", "i2")]
    return Ratings("choices", items(), {}, {name: dict(zip(pairs, own, strict=True)) for name, own in raters.items()})


def judged(*scores: float | None) -> dict[str, dict[str, float | None]]:
    return {"rules": dict(zip(REPORTS, scores, strict=True))}


def calibrated(ratings: Ratings, scores: dict[str, dict[str, float | None]], **more: Any) -> dict[str, Any]:
    table = calibration_of(ratings, scores, UNIT, resamples=100, **more)
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    return table


def test_scores_against_the_mean_of_the_raters() -> None:
    # The means 1 2 3 4 5 3 have ranks 1 2 3.5 5 6 3.5.
    ratings = scored(x=[1, 1, 3, 4, 5, 2], y=[1, 3, 3, 4, 5, 4])
    table = calibrated(ratings, judged(0.0, 0.25, 0.5, 0.75, 1.0, 0.5), rating_scale=(1, 5))
    rules = table["judges"]["rules"]
    assert [rules[name]["mean"] for name in ("spearman", "kendall", "kappa", "order")] == pytest.approx([1.0] * 4)
    assert (rules["reports"], rules["cases"], rules["failures"]) == (6, 3, 0)
    assert (table["kind"], table["items"], table["cases"], table["rating_scale"]) == ("scores", 6, 3, [1, 5])
    # Rater against rater is the ceiling: here x and y are each other's others.
    assert table["raters"]["x"]["spearman"] == pytest.approx(table["raters"]["y"]["spearman"])
    # Ranks 1.5 1.5 4 5 6 3 and 1 2.5 2.5 4.5 6 4.5 about their mean of 3.5: 13.75 / sqrt(17 · 16.5).
    assert table["raters"]["x"]["spearman"]["mean"] == pytest.approx(13.75 / (17 * 16.5) ** 0.5)


def test_the_best_judge_has_the_best_numbers_and_intervals_hold_them() -> None:
    ratings = scored(x=[1, 2, 3, 4, 5, 3])
    scores = judged(0.1, 0.3, 0.4, 0.8, 0.9, 0.5) | {"poor": dict(zip(REPORTS, (3, 1, 5, 2, 4, 1), strict=True))}
    table = calibration_of(ratings, scores, {**UNIT, "poor": (1.0, 5.0)}, resamples=100)["judges"]
    for name in ("spearman", "kendall", "kappa"):
        good, poor = table["rules"][name], table["poor"][name]
        assert good["mean"] > poor["mean"] and good["low"] <= good["mean"] <= good["high"] and good["n"] == 6


def test_grades_that_nobody_gives_keep_their_distance() -> None:
    # Grades 0 0 1 1 4 4 of the raters against 0 1 0 1 4 1: 1 - 11 / (178 / 6), as for two judges.
    rules = calibrated(scored(x=[1, 1, 2, 2, 5, 5]), judged(0, 0.25, 0, 0.25, 1, 0.25), rating_scale=(1, 5))["judges"]
    assert rules["rules"]["kappa"]["mean"] == pytest.approx(112 / 178)


def test_failures_are_counted_and_are_no_score() -> None:
    ratings = scored(x=[1, 2, 3, 4, 5, 3], y=[None, 2, None, 4, 5, 3])
    rules = calibrated(ratings, judged(None, 0.2, 0.4, 0.6, None, 0.3))["judges"]["rules"]
    assert (rules["reports"], rules["failures"], rules["cases"]) == (4, 2, 3)
    nothing = calibrated(ratings, judged(*[None] * 6))
    assert nothing["judges"]["rules"]["failures"] == 6 and nothing["judges"]["rules"]["spearman"] is None
    # A rater takes part where another rated the same.
    assert nothing["raters"]["x"]["reports"] == 4 and nothing["raters"]["x"]["failures"] == 0


def test_one_rater_has_no_ceiling_and_one_score_for_all_no_agreement() -> None:
    table = calibrated(scored(x=[3] * 6), judged(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    assert table["raters"] == {} and table["rating_scale"] == [3, 3]
    assert [table["judges"]["rules"][name] for name in ("spearman", "kendall", "kappa", "order")] == [None] * 4


def test_choices_accuracy_and_kappa() -> None:
    # The judge says a, tie, b, b where the raters say a, a, a, tie: right, half, wrong, and not decided.
    table = calibrated(chosen(x=["a", "a", "a", "tie"]), judged(0.5, 0.1, 0.6, 0.6, 0.2, 0.9))
    rules = table["judges"]["rules"]
    assert rules["accuracy"]["mean"] == pytest.approx(0.5) and rules["accuracy"]["n"] == 3
    # Agreed 1 of 4; by chance a 1/4 · 3/4 and tie 1/4 · 1/4, together 1/4.
    assert rules["kappa"]["mean"] == pytest.approx(0.0) and rules["kappa"]["n"] == 4
    assert (rules["pairs"], rules["cases"], rules["failures"]) == (4, 3, 0) and table["raters"] == {}
    perfect = calibrated(chosen(x=["a", "b", "tie", "b"]), judged(0.5, 0.1, 0.6, 0.7, 0.3, 0.3))["judges"]["rules"]
    assert perfect["accuracy"]["mean"] == 1.0 and perfect["kappa"]["mean"] == pytest.approx(1.0)


def test_most_raters_decide_and_each_is_held_against_the_others() -> None:
    ratings = chosen(x=["a", "a", "b", "tie"], y=["a", "b", "b", "tie"], z=["b", "a", "tie", "a"])
    # What most say: a, a, b, tie.
    table = calibrated(ratings, judged(0.5, 0.1, 0.6, 0.1, 0.2, None))
    assert table["judges"]["rules"]["accuracy"]["mean"] == 1.0
    assert table["judges"]["rules"]["failures"] == 1 and table["judges"]["rules"]["pairs"] == 3
    # z's others are of one mind on pairs 0, 2 and 3, of which 0 and 2 are decided: wrong, and a tie for half.
    assert (
        table["raters"]["z"]["accuracy"]["mean"] == pytest.approx(0.25) and table["raters"]["z"]["accuracy"]["n"] == 2
    )


@pytest.mark.parametrize(
    ("scores", "scales", "more", "told"),
    [
        ({"rules": {"i0": 0.5}}, UNIT, {}, "judge rules has nothing for item i1 and 4 more"),
        (judged(*[0.5] * 6), {}, {}, "judge rules has no scale"),
        (judged(*[0.5] * 5, 1.5), UNIT, {}, "not all on the scale"),
        (judged(*[0.5] * 5, float("nan")), UNIT, {}, "not all on the scale"),
        (judged(*[0.5] * 6), UNIT, {"rating_scale": (1, 2)}, "not all on the scale"),
        (judged(*[0.5] * 6), UNIT, {"rating_scale": (3, 3)}, "finite low below its high"),
    ],
)
def test_bad_input_is_named(scores: Any, scales: Any, more: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        calibration_of(scored(x=[1, 2, 3, 4, 5, 3]), scores, scales, **more)
