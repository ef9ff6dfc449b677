"""Whether a pairwise judge likes a place more than a report, on verdicts few enough to count by hand."""

from dataclasses import replace

import pytest

from rlaif.metrics.position_bias import COMPARISON_COLUMNS, position_bias
from rlaif.records import Comparison, table_of


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


def test_a_table_of_the_columns_that_are_read_is_enough() -> None:
    rows = [comparison(case, order, "ab"[case % 2]) for case in range(6) for order in ("ab", "ba")]
    rows += [comparison(7, "ab", None), comparison(7, "ba", "tie")]
    table = table_of(Comparison, rows).select(COMPARISON_COLUMNS)
    assert position_bias(table) == position_bias(rows)
    # No wholly valid pair, and no rows at all.
    assert position_bias(table.slice(12))["llm_parser"]["orders_agree"] is None
    assert position_bias(table.slice(0, 0)) == {}


def test_one_pair_in_two_rounds_is_two_pairs() -> None:
    rows = [comparison(0, order, "a" if order == "ab" else "b") for order in ("ab", "ba")]
    rows += [replace(row, round=1, verdict="tie") for row in rows]
    bias = position_bias(rows)["llm_parser"]
    assert bias["orders_agree"]["mean"] == 0.5 and bias["orders_agree"]["n"] == 2 and bias["ties"] == 2
