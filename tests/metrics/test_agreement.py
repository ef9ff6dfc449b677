"""Agreement of judges on tables small enough to compute by hand, and on ones made to agree or not."""

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rlaif.metrics.agreement import agreement_of, grades_of, position_bias, resampled, score_agreement, spearman
from rlaif.records import Comparison, Judgement, table_of

NAMES = ("spearman", "kendall", "kappa", "order")


def judgement(judge: str, candidate: str, score: float | None, scale=(0.0, 1.0), round_=0) -> Judgement:
    case, failure = candidate.split(".")[0], None if score is not None else "parse"
    return Judgement(
        f"{candidate}.{judge}", candidate, case, round_, judge, "1", score, *scale, failure, "", None, None, None,
        False, 0.0, 0, 0, 0.0,
    )  # fmt: skip


def judgements(judge: str, scores: Sequence[float | None], a_case: int = 4, **more: Any) -> list[Judgement]:
    return [judgement(judge, f"c{i // a_case}.{i % a_case}", score, **more) for i, score in enumerate(scores)]


def entry(first: Sequence[float | None], second: Sequence[float | None], **more: Any) -> dict[str, Any]:
    [one] = agreement_of([*judgements("a", first), *judgements("b", second, **more)], resamples=100)
    return one


def means(one: dict[str, Any]) -> dict[str, float | None]:
    return {name: one[name] and one[name]["mean"] for name in NAMES}


def test_numbers_that_can_be_computed_by_hand() -> None:
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: d² sums to 4, so rho = 1 - 6·4/120; 8 pairs concordant, 2 discordant.
    one = entry([0.1, 0.3, 0.5, 0.7, 0.9], [2, 1, 4, 3, 5], scale=(1.0, 5.0))
    # Grades 0 1 2 3 4 against 1 0 3 2 4: squared distances sum to 4, and by chance to 100 / 5.
    assert means(one) == pytest.approx({"spearman": 0.8, "kendall": 0.6, "kappa": 0.8, "order": 4 / 6})
    assert one["spearman"]["n"] == 5 and one["order"]["n"] == 6 and (one["candidates"], one["cases"]) == (5, 2)


def test_ties_count_as_the_field_counts_them() -> None:
    # Ranks 1.5 1.5 3 4 against 1 2 3 4: rho = 4.5 / sqrt(4.5 · 5); 5 concordant pairs, 1 tied: 5 / sqrt(5 · 6).
    one = entry([0.1, 0.1, 0.5, 0.9], [0.0, 0.3, 0.5, 1.0])
    assert one["spearman"]["mean"] == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert one["kendall"]["mean"] == pytest.approx(5 / np.sqrt(30))
    # The pair that one calls equal has no order to agree on.
    assert one["order"]["mean"] == 1.0 and one["order"]["n"] == 5


def test_equal_and_opposite_judges() -> None:
    rng = np.random.default_rng(0)
    scores = rng.permutation(np.arange(60) / 59).tolist()
    same, opposite = entry(scores, scores), entry(scores, [1 - score for score in scores])
    assert means(same) == pytest.approx(dict.fromkeys(NAMES, 1.0))
    assert same["spearman"]["low"] == pytest.approx(1.0)
    assert means(opposite)["spearman"] == pytest.approx(-1.0) and means(opposite)["order"] == 0.0


def test_a_judge_that_gives_one_score_to_all_agrees_with_nobody() -> None:
    varied = [0.1, 0.9, 0.4, 0.6, 0.2, 0.7, 0.3, 0.8]
    for one in (entry(varied, [0.5] * 8), entry([0.5] * 8, [0.5] * 8)):
        assert [one[name] for name in NAMES] == [None] * 4 and one["candidates"] == 8
        json.dumps(one, allow_nan=False)
    # Scores that differ, all of one grade: ranks have something to say, grades have not.
    close = entry(varied, [0.81 + score / 100 for score in varied])
    assert close["spearman"]["mean"] == pytest.approx(1.0) and close["kappa"] is None


def test_failures_take_no_part_and_are_counted() -> None:
    whole = entry([0.1, 0.3, 0.5, 0.7, 0.9, 0.2], [0.1, 0.2, 0.6, 0.5, 0.9, 0.3])
    failed = entry([0.1, 0.3, 0.5, 0.7, 0.9, 0.2, None, 0.4], [0.1, 0.2, 0.6, 0.5, 0.9, 0.3, 0.0, None])
    assert failed["failures"] == {"a": 1, "b": 1} and failed["candidates"] == 6
    assert means(failed) == means(whole)


def test_scales_do_not_matter_to_grades() -> None:
    assert grades_of([1, 2, 3, 4, 5], 1, 5).tolist() == [0, 1, 2, 3, 4]
    assert grades_of([0.0, 0.19, 0.2, 0.6, 0.79, 0.8, 1.0], 0, 1).tolist() == [0, 0, 1, 3, 3, 4, 4]
    # 0.2 below 1 - 0.4 is 0.39999999999999997, which is a 0.4.
    assert grades_of([1 - 0.4 - 0.2], 0, 1).tolist() == [2]
    unit = [0.1, 0.3, 0.5, 0.7, 0.9, 0.1]
    assert means(entry(unit, [1 + 4 * score for score in unit], scale=(1.0, 5.0)))["kappa"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("score", "low", "high"), [(0.5, 1, 1), (0.5, 1, 0), (6, 1, 5), (float("nan"), 1, 5), (1, 0, float("inf"))]
)
def test_scores_without_a_scale_are_refused(score: float, low: float, high: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        grades_of([score], low, high)


def test_every_two_judges_of_every_round_from_a_table_as_from_records() -> None:
    rows = []
    for round_ in (1, 0):
        for name, shift in (("rules", 0.0), ("green", 0.1), ("gpt4", -0.1)):
            scores = [min(1, max(0, score + shift * (i % 3))) for i, score in enumerate([0.2, 0.5, 0.4, 0.9, 0.1, 0.6])]
            rows += judgements(name, scores, a_case=3, round_=round_)
    entries = agreement_of(table_of(Judgement, rows), resamples=10)
    assert [(one["round"], one["judges"]) for one in entries] == [
        (number, pair) for number in (0, 1) for pair in (["gpt4", "green"], ["gpt4", "rules"], ["green", "rules"])
    ]
    assert entries == agreement_of(rows, resamples=10)
    assert json.loads(json.dumps(entries, allow_nan=False)) == entries
    assert agreement_of([]) == [] and agreement_of(judgements("rules", [0.1, 0.2])) == []


def test_judges_of_different_candidates_have_nothing_to_agree_on() -> None:
    [one] = agreement_of([judgement("a", "c.0", 0.5), judgement("b", "d.0", 0.5)])
    assert one["candidates"] == 0 and [one[name] for name in NAMES] == [None] * 4


def test_a_candidate_that_was_judged_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"round 0: judge a has two judgements of candidate c0\.0"):
        agreement_of([*judgements("a", [0.1]), *judgements("a", [0.1])])


def test_one_case_has_no_interval() -> None:
    one = entry([0.1, 0.3, 0.5, 0.7], [0.2, 0.1, 0.6, 0.9])
    assert [one[name]["low"] for name in NAMES if one[name]] == [None] * 4


def interval(cases: int, shared: float, seed: int) -> dict[str, Any]:
    """Spearman's of two judges that agree on nothing, of 6 candidates a case that are alike to a case's `shared`."""
    rng = np.random.default_rng(seed)
    x, y = (np.repeat(rng.normal(size=(cases, 2)), 6, axis=0) * shared + rng.normal(size=(cases * 6, 2))).T
    names = [f"c{i // 6}" for i in range(cases * 6)]
    return resampled(lambda items: spearman(x[items], y[items]), names, resamples=100)


def test_candidates_of_a_case_are_resampled_together() -> None:
    apart, together = interval(80, 0.0, 1), interval(80, 5.0, 1)
    # Of candidates that are alike there are as many facts as cases: the interval widens by about sqrt(6).
    assert (together["high"] - together["low"]) / (apart["high"] - apart["low"]) > 1.8


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = [(one := interval(40, 5.0, seed))["low"] <= 0 <= one["high"] for seed in range(2, 32)]
    assert sum(covered) >= 26


def test_five_thousand_candidates_take_seconds() -> None:
    rng = np.random.default_rng(0)
    cases, x = [f"c{i // 6}" for i in range(5000)], rng.random(5000)
    y = np.clip(x + rng.normal(0, 0.2, 5000), 0, 1)
    start = time.process_time()
    one = score_agreement(x, y, (grades_of(x, 0, 1), grades_of(y, 0, 1)), cases)
    assert time.process_time() - start < 30
    assert one["spearman"]["low"] < one["spearman"]["mean"] < one["spearman"]["high"]


def comparison(case: int, order: str, verdict: str | None, judge: str = "llm_parser") -> Comparison:
    failure = None if verdict else "parse"
    return Comparison(f"{case}.{order}.{judge}", f"c{case}", 0, judge, "x", "y", order, verdict, failure, None)


def test_a_judge_that_takes_whatever_comes_first() -> None:
    rows = [comparison(case, order, "a" if order == "ab" else "b") for case in range(20) for order in ("ab", "ba")]
    bias = position_bias(rows)["llm_parser"]
    assert bias["first_place"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 40}
    assert bias["orders_agree"]["mean"] == 0.0 and bias["orders_agree"]["n"] == 20


def test_a_judge_without_bias_ties_and_failures() -> None:
    said = {0: ("a", "a"), 1: ("b", "b"), 2: ("a", "b"), 3: ("tie", "tie"), 4: ("a", None), 5: ("tie", "b")}
    rows = [
        comparison(case, order, both[place]) for case, both in said.items() for place, order in enumerate(("ab", "ba"))
    ]
    bias = position_bias(table_of(Comparison, rows))["llm_parser"]
    # Decided: a/ab (first), a/ba (second), b/ab (second), b/ba (first), a/ab, b/ba (first), a/ab (first), b/ba (first).
    assert bias["first_place"]["mean"] == pytest.approx(6 / 8) and bias["first_place"]["n"] == 8
    # Cases 0, 1 and 3 of those valid in both orders; case 4 failed in one.
    assert bias["orders_agree"]["mean"] == pytest.approx(3 / 5) and bias["orders_agree"]["n"] == 5
    assert (bias["comparisons"], bias["ties"], bias["failures"]) == (12, 3, {"parse": 1})
    assert bias["first_place"]["low"] <= 0.75 <= bias["first_place"]["high"]


def test_names_in_the_other_order_are_the_same_pair() -> None:
    rows = [comparison(0, "ab", "a"), Comparison("2", "c0", 0, "llm_parser", "y", "x", "ab", "b", None, None)]
    assert position_bias(rows)["llm_parser"]["orders_agree"]["mean"] == 1.0


def test_judges_that_compare_are_kept_apart_and_none_gives_nothing() -> None:
    both = position_bias([comparison(0, "ab", "a", "one"), comparison(0, "ab", None, "two")])
    assert list(both) == ["one", "two"] and both["two"]["first_place"] is None and both["two"]["orders_agree"] is None
    assert position_bias([]) == {}


def test_a_pair_asked_twice_in_one_order_is_an_error() -> None:
    with pytest.raises(ValueError, match="judge llm_parser compared x with y twice"):
        position_bias([comparison(0, "ab", "a"), comparison(0, "ab", "b")])
