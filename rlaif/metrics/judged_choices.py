"""How judging went of pairs that radiologists chose from: each was judged by itself, and is one of its case's pairs."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from rlaif.metrics.agreement import RESAMPLES, IntervalValues, agreement_of, clustered_mean
from rlaif.metrics.position_bias import position_bias
from rlaif.metrics.ratings import Ratings


def over_cases(
    judging: Mapping[str, Any], ratings: Ratings, judgements: pa.Table, comparisons: pa.Table
) -> dict[str, Any]:
    """What `judging_of` says of rated choices, with the intervals over the file's cases, each with all its pairs.

    Judges were given each pair as a case of its own, so that it knows of no others. `order` stays that of the pairs
    that were rated: reports of two pairs of a case were never held against each other.
    """
    bias = position_bias(_of_cases(comparisons, "candidate_a", ratings))
    judges = {
        name: {**told, "comparisons": bias[name]} if name in bias else told for name, told in judging["judges"].items()
    }
    scores: dict[str, dict[str, float | None]] = defaultdict(dict)
    for row in judgements.select(["judge", "candidate_id", "score"]).to_pylist():
        scores[row["judge"]][row["candidate_id"]] = row["score"]
    agreement = [
        {**one, "order": _order(ratings, *(scores[name] for name in one["judges"]))}
        for one in agreement_of(_of_cases(judgements, "candidate_id", ratings))
    ]
    return {"judges": judges, "agreement": agreement}


def _of_cases(rows: pa.Table, item: str, ratings: Ratings) -> pa.Table:
    """The rows with the case of the file that the item of a column belongs to."""
    cases = [ratings.items[one].case_id for one in rows[item].to_pylist()]
    return rows.set_column(rows.schema.get_field_index("case_id"), "case_id", pa.array(cases, pa.string()))


def _order(
    ratings: Ratings, first: Mapping[str, float | None], second: Mapping[str, float | None]
) -> IntervalValues | None:
    """The share of the pairs that two judges put in the same order, of those that neither calls equal."""
    same, cases = [], []
    for a, b in dict.fromkeys(pair for own in ratings.choices.values() for pair in own):
        sides = [_side(scores.get(a), scores.get(b)) for scores in (first, second)]
        if all(sides):
            same.append(float(sides[0] == sides[1]))
            cases.append(ratings.items[a].case_id)
    return clustered_mean(same, cases, resamples=RESAMPLES)


def _side(a: float | None, b: float | None) -> int:
    """Which report has the higher score, 1 or -1; 0 where neither has, or one has none."""
    return 0 if a is None or b is None else (a > b) - (a < b)
