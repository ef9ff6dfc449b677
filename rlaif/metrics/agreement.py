"""How far two judges agree on the same candidates, and whether a pairwise judge likes a place more than a report.

All intervals are percentile bootstraps that resample cases with all their candidates: candidates of one case are not
independent. Four statistics of 5,000 candidates with 500 resamples take two to three seconds a pair of judges.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import cohen_kappa_score

from rlaif.metrics.intervals import bootstrap
from rlaif.records import Comparison, Judgement, records_of

GRADES = 5
RESAMPLES = 500
# An interval ready for JSON: {mean, low, high, n}; the bounds are None where there is one case or patient only.
IntervalValues = dict[str, Any]
_JUDGEMENT_COLUMNS = ("round", "judge", "case_id", "candidate_id", "score", "scale_low", "scale_high")


@dataclass(frozen=True)
class _Judged:
    """The candidates that one judge was asked about, with their cases, and its (score, scale low, high) of those."""

    cases: dict[str, str]
    scores: dict[str, tuple[float, float, float]]


def grades_of(scores: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.int64]:
    """Scores between `low` and `high`, moved to 0 to 1 and put into 5 equal grades, int64 0 to 4.

    Raises ValueError for a scale without width, and for a score that is not on it.
    """
    values, bottom, top = (np.asarray(one, dtype=np.float64) for one in (scores, low, high))
    if not (np.isfinite(bottom) & np.isfinite(top) & (bottom < top)).all():
        raise ValueError(f"a scale needs a finite low below its high, got {bottom} to {top}")
    if not ((bottom <= values) & (values <= top)).all():
        raise ValueError(f"scores from {values.min()} to {values.max()} are not all on the scale {bottom} to {top}")
    # A hair of tolerance: (3.4 - 1) / 6 * 5 comes out just below 2.
    return np.minimum(np.floor((values - bottom) / (top - bottom) * GRADES + 1e-9), GRADES - 1).astype(np.int64)


def resampled(
    statistic: Callable[[NDArray[np.intp]], float | None], cases: Sequence[str], *, resamples: int, seed: int = 0
) -> IntervalValues | None:
    """A statistic of items, given by their indices, with its 95 % interval over cases.

    None where it is not defined for the items as they are; resamples for which it is not take no part.
    """
    if not cases:
        return None
    items = np.arange(len(cases))
    mean = statistic(items)
    if mean is None:
        return None
    numbers = np.unique(np.asarray(cases), return_inverse=True)[1]
    count = int(numbers.max()) + 1
    rng, values = np.random.default_rng(seed), []
    for _ in range(resamples if count > 1 else 0):
        times = np.bincount(rng.integers(count, size=count), minlength=count)
        value = statistic(np.repeat(items, times[numbers]))
        if value is not None:
            values.append(value)
    low, high = (float(one) for one in np.quantile(values, [0.025, 0.975])) if values else (None, None)
    return {"mean": mean, "low": low, "high": high, "n": len(cases)}


def clustered_mean(
    values: Sequence[float], groups: Sequence[Hashable], *, resamples: int, seed: int = 0
) -> IntervalValues | None:
    """The mean of values with its 95 % interval over groups (cases, patients); None where there are no values."""
    if len(values) == 0:
        return None
    interval: IntervalValues = asdict(bootstrap(values, groups, resamples=resamples, seed=seed))
    # Of one group every resample is the same, which would look like certainty.
    return interval if len(set(groups)) > 1 else interval | {"low": None, "high": None}


def cases_by_size(cases: Sequence[str]) -> list[NDArray[np.intp]]:
    """The indices of each case's items: for every number of items that a case can have one array `[cases, items]`."""
    if not cases:
        return []
    _, numbers, sizes = np.unique(np.asarray(cases), return_inverse=True, return_counts=True)
    order = np.argsort(numbers, kind="stable")
    starts = np.cumsum(sizes) - sizes
    return [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Spearman's rank correlation; None where either is constant."""
    return None if _constant(first) or _constant(second) else float(spearmanr(first, second).statistic)


def kendall(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Kendall's tau-b; None where either is constant."""
    return None if _constant(first) or _constant(second) else float(kendalltau(first, second).statistic)


def kappa(first: NDArray[np.int64], second: NDArray[np.int64], *, weights: str | None = None) -> float | None:
    """Cohen's kappa of categories, with `quadratic` weights where they are grades; None where either has one only."""
    if _constant(first) or _constant(second):
        return None
    return float(cohen_kappa_score(first, second, weights=weights))


def _constant(values: NDArray[Any]) -> bool:
    return len(values) == 0 or bool((values == values[0]).all())


def score_agreement(
    first: Sequence[float] | NDArray[np.float64],
    second: Sequence[float] | NDArray[np.float64],
    grades: tuple[NDArray[np.int64], NDArray[np.int64]],
    cases: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, IntervalValues | None]:
    """How far two lists of scores of the same items agree: `spearman`, `kendall`, `kappa` and `order`.

    `kappa` is quadratically weighted, on the grades of both. `order` is the share of the pairs of a case's items that
    both put in the same strict order, of those that neither calls equal (n counts pairs): preference pairs are made of
    nothing else. None stands where a statistic is not defined, as for a judge that gives one score to all.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    a, b = grades
    same, of_case = _same_order(x, y, cases)
    with_seed = {"resamples": resamples, "seed": seed}
    return {
        "spearman": resampled(lambda items: spearman(x[items], y[items]), cases, **with_seed),
        "kendall": resampled(lambda items: kendall(x[items], y[items]), cases, **with_seed),
        "kappa": resampled(lambda items: kappa(a[items], b[items], weights="quadratic"), cases, **with_seed),
        "order": clustered_mean(same, of_case, **with_seed),
    }


def _same_order(x: NDArray[np.float64], y: NDArray[np.float64], cases: Sequence[str]) -> tuple[list[float], list[str]]:
    """1.0 or 0.0 for each pair of a case's items that neither puts equal, and the pair's case."""
    same, of_case = [], []
    for indices in cases_by_size(cases):
        left, right = (indices[:, side].ravel() for side in np.triu_indices(indices.shape[1], 1))
        signs = np.sign(x[left] - x[right]) * np.sign(y[left] - y[right])
        decided = np.flatnonzero(signs)
        same += (signs[decided] > 0).astype(np.float64).tolist()
        of_case += [cases[item] for item in left[decided]]
    return same, of_case


def agreement_of(
    judgements: pa.Table | Iterable[Judgement], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, Any]]:
    """The agreement of every two judges of a round on the candidates that both gave a score, ready for JSON.

    Each entry has `round`, `judges` (two names), `candidates` and `cases` (of both), `failures` (by judge, of the
    candidates that both were asked about) and what `score_agreement` gives. Of a table the columns that name judge,
    candidate, score and scale are read. Raises ValueError for a candidate that one judge judged twice.
    """
    entries = []
    for number, judges in sorted(_by_round(judgements).items()):
        for first, second in combinations(sorted(judges), 2):
            entry = _entry(judges[first], judges[second], (first, second), resamples, seed)
            entries.append({"round": number, **entry})
    return entries


def _by_round(judgements: pa.Table | Iterable[Judgement]) -> dict[int, dict[str, _Judged]]:
    """What each judge of each round said."""
    if isinstance(judgements, pa.Table):
        columns = (judgements[name].to_pylist() for name in _JUDGEMENT_COLUMNS)
        rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True)
    else:
        rows = (tuple(getattr(one, name) for name in _JUDGEMENT_COLUMNS) for one in judgements)
    rounds: dict[int, dict[str, _Judged]] = defaultdict(lambda: defaultdict(lambda: _Judged({}, {})))
    for number, judge, case_id, candidate_id, score, low, high in rows:
        judged = rounds[number][judge]
        if candidate_id in judged.cases:
            raise ValueError(f"round {number}: judge {judge} has two judgements of candidate {candidate_id}")
        judged.cases[candidate_id] = case_id
        if score is not None:
            judged.scores[candidate_id] = (score, low, high)
    return rounds


def _entry(first: _Judged, second: _Judged, names: tuple[str, str], resamples: int, seed: int) -> dict[str, Any]:
    asked = first.cases.keys() & second.cases.keys()
    both = sorted(first.scores.keys() & second.scores.keys())
    cases = [first.cases[one] for one in both]
    x, y = (np.array([judge.scores[one] for one in both]).reshape(-1, 3).T for judge in (first, second))
    grades = grades_of(*x), grades_of(*y)
    return {
        "judges": list(names),
        "candidates": len(both),
        "cases": len(set(cases)),
        "failures": {
            name: len(asked - judge.scores.keys()) for name, judge in zip(names, (first, second), strict=True)
        },
        **score_agreement(x[0], y[0], grades, cases, resamples=resamples, seed=seed),
    }


def position_bias(
    comparisons: pa.Table | Iterable[Comparison], *, resamples: int = 2000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """By pairwise judge: how much the place in which a report is shown decides, ready for JSON.

    `first_place` is the share of decided verdicts for the report shown first (0.5: no bias); `orders_agree` that of
    the pairs, valid in both orders, for which both say the same, a tie in both included. `comparisons`, `ties` and
    `failures` (by name) are counts of single verdicts. Raises ValueError for a pair that was asked twice in one order.
    """
    rows = records_of(Comparison, comparisons) if isinstance(comparisons, pa.Table) else comparisons
    by_judge: dict[str, list[Comparison]] = defaultdict(list)
    for row in rows:
        by_judge[row.judge].append(row)
    return {judge: _bias(own, resamples, seed) for judge, own in sorted(by_judge.items())}


def _bias(rows: Sequence[Comparison], resamples: int, seed: int) -> dict[str, Any]:
    won_first: list[float] = []
    first_cases: list[str] = []
    # Who won (None: nobody), by pair and by who was shown first.
    said: dict[tuple[int, str, frozenset[str]], dict[str, str | None]] = defaultdict(dict)
    asked: set[tuple[int, str, str, str]] = set()
    for row in rows:
        shown = (row.candidate_a, row.candidate_b) if row.order == "ab" else (row.candidate_b, row.candidate_a)
        if (row.round, row.case_id, *shown) in asked:
            raise ValueError(f"judge {row.judge} compared {shown[0]} with {shown[1]} twice in this order")
        asked.add((row.round, row.case_id, *shown))
        if row.verdict is None:
            continue
        winner = {"a": row.candidate_a, "b": row.candidate_b}.get(row.verdict)
        said[row.round, row.case_id, frozenset(shown)][shown[0]] = winner
        if winner is not None:
            won_first.append(float(winner == shown[0]))
            first_cases.append(row.case_id)
    whole = [(case, winners) for (_, case, _), winners in said.items() if len(winners) == 2]
    same = [float(len(set(winners.values())) == 1) for _, winners in whole]
    return {
        "comparisons": len(rows),
        "first_place": clustered_mean(won_first, first_cases, resamples=resamples, seed=seed),
        "orders_agree": clustered_mean(same, [case for case, _ in whole], resamples=resamples, seed=seed),
        "ties": sum(row.verdict == "tie" for row in rows),
        "failures": dict(sorted(Counter(row.failure for row in rows if row.failure is not None).items())),
    }
