"""What judging came to, on rows few enough to count by hand."""

import json
from typing import Any

import pytest

from rlaif.metrics.judging import COMPARISON_COLUMNS, JUDGING_COLUMNS, judging_of
from rlaif.records import Comparison, Judgement, table_of


def judgement(judge: str, number: int, score: float | None, **more: Any) -> Judgement:
    values = {
        "judgement_id": f"{number}.{judge}",
        "candidate_id": f"c{number // 2}.{number % 2}",
        "case_id": f"c{number // 2}",
        "round": 0,
        "judge": judge,
        "judge_version": "1",
        "score": score,
        "scale_low": 0.0,
        "scale_high": 1.0,
        "failure": None if score is not None else "parse",
        "explanation": "",
        "counts": None,
        "scores": None,
        "raw": "a long reply",
        "cached": False,
        "latency_s": 0.0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "cost_usd": 0.0,
    }
    return Judgement(**(values | more))


def test_the_accounts_of_a_judge_can_be_counted_by_hand() -> None:
    asked = {"scale_low": 1.0, "scale_high": 5.0, "prompt_tokens": 100, "completion_tokens": 10, "cost_usd": 0.25}
    rows = [
        judgement("mini", 0, 4.0, latency_s=1.0, **asked),
        judgement("mini", 1, 1.0, latency_s=3.0, **asked, judge_version="2"),
        # What came from the cache took no time of the service's now.
        judgement("mini", 2, 4.0, latency_s=9.0, cached=True, **asked),
        judgement("mini", 3, None, latency_s=2.0, **asked),
        judgement("mini", 4, None, scale_low=1.0, scale_high=5.0, failure="no_reference"),
        *(judgement("rules", number, number / 4) for number in range(5)),
    ]
    told = judging_of(table_of(Judgement, rows).select(JUDGING_COLUMNS), table_of(Comparison, []))
    assert told["judges"]["mini"] == {
        "versions": ["1", "2"],
        "scale": [1.0, 5.0],
        "judgements": 5,
        "scored": 3,
        "mean_score": 3.0,
        "failures": {"parse": 1, "no_reference": 1},
        "cached": 1,
        "prompt_tokens": 400,
        "completion_tokens": 40,
        "cost_usd": 1.0,
        "mean_latency_s": 2.0,
    }
    rules = told["judges"]["rules"]
    assert (rules["scale"], rules["mean_score"], rules["mean_latency_s"]) == ([0.0, 1.0], 0.5, None)
    [agreement] = told["agreement"]
    assert agreement["judges"] == ["mini", "rules"] and agreement["failures"] == {"mini": 2, "rules": 0}
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_a_judge_that_only_failed_and_none_at_all() -> None:
    told = judging_of(
        table_of(Judgement, [judgement("mini", 0, None)]).select(JUDGING_COLUMNS), table_of(Comparison, [])
    )["judges"]["mini"]
    assert (told["scored"], told["mean_score"], told["failures"]) == (0, None, {"parse": 1})
    assert judging_of(table_of(Judgement, []).select(JUDGING_COLUMNS), table_of(Comparison, [])) == {
        "judges": {},
        "agreement": [],
    }


def test_comparisons_come_as_a_table_of_the_columns_that_are_read() -> None:
    judgements = table_of(Judgement, [judgement("llm_parser", number, 0.5) for number in range(8)])
    comparisons = [
        Comparison(f"{case}{order}", f"c{case}", 0, "llm_parser", f"c{case}.0", f"c{case}.1", order, "a", None, "raw")
        for case in range(4)
        for order in ("ab", "ba")
    ]
    table = table_of(Comparison, comparisons).select(COMPARISON_COLUMNS)
    told = judging_of(judgements.select(JUDGING_COLUMNS), table)
    bias = told["judges"]["llm_parser"]["comparisons"]
    assert bias["first_place"]["mean"] == pytest.approx(0.5) and bias["orders_agree"]["mean"] == 1.0
    assert "raw" not in COMPARISON_COLUMNS and told == judging_of(judgements, table_of(Comparison, comparisons))
