"""How far judges agree with a team's own radiologists, and the radiologists with each other."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.agreement import RESAMPLES, clustered_mean, grades_of, kappa, resampled, score_agreement
from rlaif.metrics.ratings import Choice, Pair, Ratings

Scale = tuple[float, float]
Given = TypeVar("Given")
_CODES: dict[Choice, int] = {"a": 0, "tie": 1, "b": 2}


class _Sampling(TypedDict):
    resamples: int
    seed: int


def calibration_of(
    ratings: Ratings,
    scores_by_judge: Mapping[str, Mapping[str, float | None]],
    scales: Mapping[str, Scale],
    *,
    rating_scale: Scale | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Each judge's agreement with the raters, and each rater's with the others as the ceiling, ready for JSON.

    `scores_by_judge` has a score, or None for a failure, for every item of the ratings; `scales` the ends of each
    judge's scale; `rating_scale` those of the raters', else their lowest and highest score. `judges` and `raters` hold
    by name the number of `reports` (or `pairs`) and `cases` that both rated, the `failures`, and, each with its 95 %
    interval over cases: for scores what `score_agreement` gives, against the mean of the raters; for choices the
    `accuracy` where the raters decided (a judge's tie counts half) and Cohen's `kappa` over a, b and tie, against what
    most raters chose (tie, where no choice leads). A rater is held against all the others; one alone has no ceiling.
    Raises ValueError for an item that a judge lacks, and for scores that are not on their scale.
    """
    _check(ratings, scores_by_judge, scales)
    sampling = _Sampling(resamples=resamples, seed=seed)
    head = {"kind": ratings.kind, "items": len(ratings.items), "cases": len({*_cases(ratings, ratings.items)})}
    if ratings.kind == "choices":
        chosen = {judge: _chosen_by(scores, ratings) for judge, scores in scores_by_judge.items()}
        return head | {
            "judges": {
                judge: _choices_against(ratings, own, _most_chosen(ratings.choices.values()), sampling)
                for judge, own in chosen.items()
            },
            "raters": {
                rater: _choices_against(ratings, ratings.choices[rater], _most_chosen(others), sampling)
                for rater, others in _each_and_others(ratings.choices)
            },
        }
    given = [score for own in ratings.scores.values() for score in own.values()]
    scale = rating_scale or (min(given), max(given))
    if rating_scale is not None:
        grades_of(given, *rating_scale)
    return head | {
        "rating_scale": list(scale),
        "judges": {
            judge: _scores_against(ratings, own, _mean_of(ratings.scores.values()), (scales[judge], scale), sampling)
            for judge, own in scores_by_judge.items()
        },
        "raters": {
            rater: _scores_against(ratings, ratings.scores[rater], _mean_of(others), (scale, scale), sampling)
            for rater, others in _each_and_others(ratings.scores)
        },
    }


def _check(
    ratings: Ratings, scores_by_judge: Mapping[str, Mapping[str, float | None]], scales: Mapping[str, Scale]
) -> None:
    for judge, scores in scores_by_judge.items():
        if judge not in scales:
            raise ValueError(f"judge {judge} has no scale; scales names {', '.join(sorted(scales)) or 'none'}")
        missing = sorted(ratings.items.keys() - scores.keys())
        if missing:
            raise ValueError(f"judge {judge} has nothing for item {missing[0]} and {len(missing) - 1} more")
        grades_of([score for score in scores.values() if score is not None], *scales[judge])


def _each_and_others(by_rater: Mapping[str, Given]) -> Iterator[tuple[str, list[Given]]]:
    """Each rater with what the others gave; nobody where there is one only."""
    for rater in sorted(by_rater) if len(by_rater) > 1 else ():
        yield rater, [by_rater[other] for other in sorted(by_rater) if other != rater]


def _cases(ratings: Ratings, items: Iterable[str]) -> list[str]:
    return [ratings.items[item].case_id for item in items]


def _mean_of(raters: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The raters' mean score of every item; the same whatever their order."""
    scores: dict[str, list[float]] = defaultdict(list)
    for own in raters:
        for item, score in own.items():
            scores[item].append(score)
    return {item: math.fsum(all_scores) / len(all_scores) for item, all_scores in scores.items()}


def _scores_against(
    ratings: Ratings,
    own: Mapping[str, float | None],
    others: Mapping[str, float],
    scales: tuple[Scale, Scale],
    sampling: _Sampling,
) -> dict[str, Any]:
    scored = {item: score for item in sorted(own.keys() & others.keys()) if (score := own[item]) is not None}
    first, second = list(scored.values()), [others[item] for item in scored]
    cases = _cases(ratings, scored)
    grades = _grades(first, scales[0]), _grades(second, scales[1])
    return {
        "reports": len(scored),
        "cases": len({*cases}),
        "failures": len(own.keys() & others.keys()) - len(scored),
        **score_agreement(first, second, grades, cases, **sampling),
    }


def _grades(scores: Sequence[float], scale: Scale) -> NDArray[np.int64]:
    """The grades of scores; one for all on a scale that was observed to have no width."""
    return np.zeros(len(scores), np.int64) if scale[0] == scale[1] else grades_of(scores, *scale)


def _chosen_by(scores: Mapping[str, float | None], ratings: Ratings) -> dict[Pair, Choice | None]:
    """What a judge's scores choose of every pair that was rated; None where it failed on either report."""
    chosen: dict[Pair, Choice | None] = {}
    for a, b in (pair for own in ratings.choices.values() for pair in own):
        first, second = scores[a], scores[b]
        if first is None or second is None:
            chosen[a, b] = None
        else:
            chosen[a, b] = "a" if first > second else "b" if first < second else "tie"
    return chosen


def _most_chosen(raters: Iterable[Mapping[Pair, Choice]]) -> dict[Pair, Choice]:
    """What most raters chose of every pair; a tie where no choice leads."""
    votes: dict[Pair, Counter[Choice]] = defaultdict(Counter)
    for own in raters:
        for pair, choice in own.items():
            votes[pair][choice] += 1
    leading = {pair: counts.most_common(2) for pair, counts in votes.items()}
    return {pair: "tie" if len(two) == 2 and two[0][1] == two[1][1] else two[0][0] for pair, two in leading.items()}


def _choices_against(
    ratings: Ratings, own: Mapping[Pair, Choice | None], others: Mapping[Pair, Choice], sampling: _Sampling
) -> dict[str, Any]:
    chosen = {pair: choice for pair in sorted(own.keys() & others.keys()) if (choice := own[pair]) is not None}
    cases = _cases(ratings, (a for a, _ in chosen))
    decided = [pair for pair in chosen if others[pair] != "tie"]
    right = [0.5 if chosen[pair] == "tie" else float(chosen[pair] == others[pair]) for pair in decided]
    first, second = (
        np.array([_CODES[choices[pair]] for pair in chosen], dtype=np.int64) for choices in (chosen, others)
    )
    return {
        "pairs": len(chosen),
        "cases": len({*cases}),
        "failures": len(own.keys() & others.keys()) - len(chosen),
        "accuracy": clustered_mean(right, _cases(ratings, (a for a, _ in decided)), **sampling),
        "kappa": resampled(lambda items: kappa(first[items], second[items]), cases, **sampling),
    }
