"""Whether a pairwise judge likes the place in which a report is shown more than the report."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rlaif.metrics.agreement import clustered_mean
from rlaif.records import Comparison, table_of

# The columns of comparisons that this looks at.
COMPARISON_COLUMNS = ("round", "judge", "case_id", "candidate_a", "candidate_b", "order", "verdict", "failure")


def position_bias(
    comparisons: pa.Table | Iterable[Comparison], *, resamples: int = 2000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """By pairwise judge: how much the place in which a report is shown decides, ready for JSON.

    `first_place` is the share of decided verdicts for the report shown first (0.5: no bias); `orders_agree` that of
    the pairs, valid in both orders, for which both say the same, a tie in both included. `comparisons`, `ties` and
    `failures` (by name) are counts of single verdicts. Intervals are over cases. Of a table COMPARISON_COLUMNS are
    read. Raises ValueError for a pair that was asked twice in one order.
    """
    table = comparisons if isinstance(comparisons, pa.Table) else table_of(Comparison, comparisons)
    table = table.select(COMPARISON_COLUMNS)
    judges = sorted(pc.unique(table["judge"]).to_pylist())
    return {judge: _bias(judge, table.filter(pc.field("judge") == judge), resamples, seed) for judge in judges}


def _bias(judge: str, rows: pa.Table, resamples: int, seed: int) -> dict[str, Any]:
    a, b, a_is_first, verdict = (
        rows["candidate_a"],
        rows["candidate_b"],
        pc.equal(rows["order"], "ab"),
        rows["verdict"],
    )
    first, second = pc.if_else(a_is_first, a, b), pc.if_else(a_is_first, b, a)
    lesser = pc.min_element_wise(a, b)
    winner = pc.if_else(pc.equal(verdict, "a"), a, b)
    # 1 where the lesser id wins, -1 where the other does, 0 for a tie: the same in either order.
    lesser_wins = pc.if_else(pc.equal(verdict, "tie"), 0, pc.if_else(pc.equal(winner, lesser), 1, -1))
    told = pa.table(
        {
            **{name: rows[name] for name in ("round", "case_id", "verdict")},
            "first": first,
            "second": second,
            "lesser": lesser,
            "greater": pc.max_element_wise(a, b),
            "lesser_wins": lesser_wins,
            "first_wins": pc.cast(pc.equal(winner, first), pa.float64()),
        }
    )
    _check_once(judge, told)
    decided = told.filter(pc.field("verdict").isin(["a", "b"]))
    return {
        "comparisons": len(rows),
        "first_place": _mean(decided["first_wins"], decided["case_id"], resamples, seed),
        "orders_agree": _orders_agree(told.filter(pc.field("verdict").is_valid()), resamples, seed),
        "ties": pc.sum(pc.equal(verdict, "tie"), min_count=0).as_py(),
        "failures": dict(sorted(Counter(pc.drop_null(rows["failure"]).to_pylist()).items())),
    }


def _check_once(judge: str, told: pa.Table) -> None:
    asked = told.group_by(["round", "case_id", "first", "second"], use_threads=False).aggregate([([], "count_all")])
    for row in asked.filter(pc.field("count_all") > 1).slice(0, 1).to_pylist():
        raise ValueError(f"judge {judge} compared {row['first']} with {row['second']} twice in this order")


def _orders_agree(valid: pa.Table, resamples: int, seed: int) -> dict[str, Any] | None:
    by_pair = valid.group_by(["round", "case_id", "lesser", "greater"], use_threads=False)
    pairs = by_pair.aggregate([("lesser_wins", "min"), ("lesser_wins", "max"), ("lesser_wins", "count")])
    whole = pairs.filter(pc.field("lesser_wins_count") == 2)
    same = pc.cast(pc.equal(whole["lesser_wins_min"], whole["lesser_wins_max"]), pa.float64())
    return _mean(same, whole["case_id"], resamples, seed)


def _mean(values: pa.ChunkedArray, cases: pa.ChunkedArray, resamples: int, seed: int) -> dict[str, Any] | None:
    return clustered_mean(values.to_pylist(), cases.to_pylist(), resamples=resamples, seed=seed)
