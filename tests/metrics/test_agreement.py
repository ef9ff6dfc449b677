"""Agreement of judges on tables small enough to compute by hand, and on ones made to agree or not."""

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rlaif.metrics.agreement import agreement_of, grades_of, kappa, resampled, score_agreement, spearman
from rlaif.records import Judgement, table_of

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


def test_a_grade_that_no_judge_gives_still_counts_in_the_distance() -> None:
    # Grades 0 0 1 1 4 4 against 0 1 0 1 4 1: squared distances sum to 11, over all 36 pairings to
    # 6 · 34 + 6 · 19 - 2 · 10 · 7 = 178, so that chance gives 178 / 6. Grades 2 and 3 stand unused.
    first, second = np.array([0, 0, 1, 1, 4, 4]), np.array([0, 1, 0, 1, 4, 1])
    assert kappa(first, second, weights="quadratic") == pytest.approx(1 - 11 / (178 / 6))
    one = entry((first / 4).tolist(), (1.0 + second).tolist(), scale=(1.0, 5.0))
    assert one["kappa"]["mean"] == pytest.approx(112 / 178)


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


def of_cases(cases: int, seed: int, shared: float = 1.0, **more: Any) -> dict[str, Any]:
    """Spearman's of two judges that agree on nothing, of six candidates a case, which are alike."""
    rng = np.random.default_rng(seed)
    x, y = (np.repeat(rng.normal(size=(cases, 2)), 6, axis=0) * shared + rng.normal(size=(cases * 6, 2))).T
    found = resampled(lambda items: spearman(x[items], y[items]), [i // 6 for i in range(cases * 6)], **more)
    assert found is not None
    return found


def test_an_interval_from_fewer_cases_is_as_wide_as_one_from_all() -> None:
    def width(seed: int, most: int) -> float:
        one = of_cases(500, seed, resamples=300, most=most)
        return one["high"] - one["low"]

    whole, fewer = (sum(width(seed, most) for seed in range(3)) for most in (10**6, 900))
    assert 0.85 < fewer / whole < 1.15


def test_an_interval_from_fewer_cases_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = [
        (one := of_cases(300, seed, 5.0, resamples=100, most=600))["low"] <= 0 <= one["high"] for seed in range(30)
    ]
    assert sum(covered) >= 26


def test_a_resample_draws_about_as_many_candidates_as_are_allowed() -> None:
    drawn: list[int] = []
    cases = [f"c{i // 4}" for i in range(4000)]
    resampled(lambda items: drawn.append(len(items)) or 0.5, cases, resamples=5, most=400)
    assert drawn == [4000, *[400] * 5]
    one = resampled(lambda items: drawn.append(len(items)) or 0.5, cases[:400], resamples=5, most=400)
    assert drawn[6:] == [400] * 6 and one == {"mean": 0.5, "low": 0.5, "high": 0.5, "n": 400}


def test_what_fewer_cases_cannot_tell_has_no_interval() -> None:
    # One in 3,000 candidates is scored otherwise: of a few hundred hardly any is.
    x, y = np.zeros(3000), np.arange(3000.0)
    x[7] = 1.0
    one = resampled(lambda items: spearman(x[items], y[items]), np.arange(3000) // 6, resamples=50, most=300)
    assert one is not None and one["mean"] != 0 and one["low"] is None and one["high"] is None


def test_five_thousand_candidates_take_seconds() -> None:
    rng = np.random.default_rng(0)
    cases, x = [f"c{i // 6}" for i in range(5000)], rng.random(5000)
    y = np.clip(x + rng.normal(0, 0.2, 5000), 0, 1)
    start = time.process_time()
    one = score_agreement(x, y, (grades_of(x, 0, 1), grades_of(y, 0, 1)), cases)
    assert time.process_time() - start < 30
    assert one["spearman"]["low"] < one["spearman"]["mean"] < one["spearman"]["high"]


@pytest.mark.slow
def test_three_hundred_thousand_candidates_take_seconds() -> None:
    rng = np.random.default_rng(0)
    count = 300_000
    truth, cases = rng.random(count), [f"c{i // 6:06d}" for i in range(count)]
    tables = [
        pa.table(
            {
                "round": np.zeros(count, np.int64),
                "judge": [judge] * count,
                "case_id": cases,
                "candidate_id": [f"{case}.{i}" for i, case in enumerate(cases)],
                "score": np.clip(truth + rng.normal(0, 0.2, count), 0, 1),
                "scale_low": np.zeros(count),
                "scale_high": np.ones(count),
            }
        )
        for judge in ("a", "b")
    ]
    start = time.process_time()
    [one] = agreement_of(pa.concat_tables(tables))
    assert time.process_time() - start < 30
    assert one["candidates"] == count and one["cases"] == 50_000
    for name in NAMES:
        # About 0.7 / sqrt(300,000) either way.
        assert 0.0005 < one[name]["high"] - one[name]["low"] < 0.01 and one[name]["low"] < one[name]["mean"]
