"""How far two judges agree on the same candidates.

All intervals are percentile bootstraps that resample cases with all their candidates: candidates of one case are not
independent. Of large tables each resample draws a bounded number of cases, see `resampled`, so that a pair of judges
takes seconds whatever the number of candidates.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import cohen_kappa_score

from rlaif.metrics.intervals import bootstrap
from rlaif.records import Judgement, table_of

GRADES = 5
RESAMPLES = 500
# A resample of more items than this draws fewer cases than there are.
MOST_DRAWN = 6000
# An interval ready for JSON: {mean, low, high, n}; the bounds are None where there is one case or patient only.
IntervalValues = dict[str, Any]
_JUDGEMENT_COLUMNS = ("round", "judge", "case_id", "candidate_id", "score", "scale_low", "scale_high")


@dataclass(frozen=True)
class _Judged:
    """What one judge was asked about, by the candidates' numbers, ascending: cases, scores with scale, which it scored.

    `given` holds score, scale low and scale high, float64 `[candidates, 3]`.
    """

    candidates: NDArray[np.int64]
    cases: NDArray[np.int64]
    given: NDArray[np.float64]
    scored: NDArray[np.bool_]


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
    statistic: Callable[[NDArray[np.intp]], float | None],
    cases: Sequence[Hashable] | NDArray[np.int64],
    *,
    resamples: int,
    seed: int = 0,
    most: int = MOST_DRAWN,
) -> IntervalValues | None:
    """A statistic of items, given by their indices, with its 95 % interval over cases.

    Of more than `most` items a resample draws about as many, in whole cases, and the distances of the interval's ends
    from the statistic are multiplied by sqrt(cases drawn / cases): the m out of n bootstrap (Bickel, Götze and van Zwet
    1997, "Resampling fewer than n observations"), for statistics whose error goes with one over the root of the cases.
    None where the statistic is not defined for the items as they are. Resamples for which it is not take no part; where
    one of fewer cases is so, the draws are too small to say how sure the statistic is, and the ends are None.
    """
    if len(cases) == 0:
        return None
    mean = statistic(np.arange(len(cases)))
    if mean is None:
        return None
    numbers, sizes = np.unique(np.asarray(cases), return_inverse=True, return_counts=True)[1:]
    order, starts, count = np.argsort(numbers, kind="stable"), np.cumsum(sizes) - sizes, len(sizes)
    drawn = count if len(cases) <= most else max(1, min(count, round(count * most / len(cases))))
    rng, values = np.random.default_rng(seed), []
    for _ in range(resamples if count > 1 else 0):
        chosen = rng.integers(count, size=drawn)
        lengths = sizes[chosen]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        value = statistic(order[np.repeat(starts[chosen], lengths) + within])
        if value is not None:
            values.append(value)
    low, high = None, None
    if values and (drawn == count or len(values) == resamples):
        shrunk = np.sqrt(drawn / count) * (np.quantile(values, [0.025, 0.975]) - mean)
        low, high = (float(mean + distance) for distance in shrunk)
    return {"mean": mean, "low": low, "high": high, "n": len(cases)}


def clustered_mean(
    values: Sequence[float], groups: Sequence[Hashable], *, resamples: int, seed: int = 0
) -> IntervalValues | None:
    """The mean of values with its 95 % interval over groups (cases, patients); None where there are no values."""
    return asdict(bootstrap(values, groups, resamples=resamples, seed=seed)) if len(values) else None


def cases_by_size(cases: Sequence[Hashable] | NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """The indices of each case's items: for every number of items that a case can have one array `[cases, items]`."""
    if len(cases) == 0:
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
    """Cohen's kappa of categories 0 to 4, with `quadratic` weights where they are grades; None where either has one."""
    if _constant(first) or _constant(second):
        return None
    # Without labels a grade that neither gives would be left out of the distance between its neighbours.
    return float(cohen_kappa_score(first, second, weights=weights, labels=np.arange(GRADES)))


def _constant(values: NDArray[Any]) -> bool:
    return len(values) == 0 or bool((values == values[0]).all())


def score_agreement(
    first: Sequence[float] | NDArray[np.float64],
    second: Sequence[float] | NDArray[np.float64],
    grades: tuple[NDArray[np.int64], NDArray[np.int64]],
    cases: Sequence[Hashable] | NDArray[np.int64],
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
    numbers = np.unique(np.asarray(cases), return_inverse=True)[1]
    same, of_case = _same_order(x, y, numbers)
    with_seed = {"resamples": resamples, "seed": seed}
    return {
        "spearman": resampled(lambda items: spearman(x[items], y[items]), numbers, **with_seed),
        "kendall": resampled(lambda items: kendall(x[items], y[items]), numbers, **with_seed),
        "kappa": resampled(lambda items: kappa(a[items], b[items], weights="quadratic"), numbers, **with_seed),
        "order": clustered_mean(same, of_case, **with_seed),
    }


def _same_order(
    x: NDArray[np.float64], y: NDArray[np.float64], cases: NDArray[np.int64]
) -> tuple[list[float], list[int]]:
    """1.0 or 0.0 for each pair of a case's items that neither puts equal, and the pair's case."""
    same: list[float] = []
    of_case: list[int] = []
    for indices in cases_by_size(cases):
        left, right = (indices[:, side].ravel() for side in np.triu_indices(indices.shape[1], 1))
        signs = np.sign(x[left] - x[right]) * np.sign(y[left] - y[right])
        decided = np.flatnonzero(signs)
        same += (signs[decided] > 0).astype(np.float64).tolist()
        of_case += cases[left[decided]].tolist()
    return same, of_case


def agreement_of(
    judgements: pa.Table | Iterable[Judgement], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, Any]]:
    """The agreement of every two judges of a round on the candidates that both gave a score, ready for JSON.

    Each entry has `round`, `judges` (two names), `candidates` and `cases` (of both), `failures` (by judge, of the
    candidates that both were asked about) and what `score_agreement` gives. Of a table the columns that name judge,
    candidate, score and scale are read. Raises ValueError for a candidate that one judge judged twice.
    """
    table = judgements if isinstance(judgements, pa.Table) else table_of(Judgement, judgements)
    entries = []
    for number, judges in _by_round(table.select(_JUDGEMENT_COLUMNS)).items():
        for first, second in combinations(sorted(judges), 2):
            entry = _entry(judges[first], judges[second], (first, second), resamples, seed)
            entries.append({"round": number, **entry})
    return entries


def _by_round(judgements: pa.Table) -> dict[int, dict[str, _Judged]]:
    """What each judge of each round said."""
    rounds, judges = (judgements[name].to_numpy() for name in ("round", "judge"))
    candidates, cases = (_numbers(judgements[name]) for name in ("candidate_id", "case_id"))
    given = np.stack([judgements[name].to_numpy() for name in ("score", "scale_low", "scale_high")], axis=1)
    scored = pc.is_valid(judgements["score"]).to_numpy()
    found: dict[int, dict[str, _Judged]] = {}
    for number in np.unique(rounds).tolist():
        found[number] = {}
        for judge in pc.unique(judgements["judge"]).to_pylist():
            rows = np.flatnonzero((rounds == number) & (judges == judge))
            rows = rows[np.argsort(candidates[rows], kind="stable")]
            twice = np.flatnonzero(np.diff(candidates[rows]) == 0)
            if len(twice):
                candidate = judgements["candidate_id"][int(rows[twice[0]])]
                raise ValueError(f"round {number}: judge {judge} has two judgements of candidate {candidate}")
            if len(rows):
                found[number][judge] = _Judged(candidates[rows], cases[rows], given[rows], scored[rows])
    return found


def _numbers(names: pa.ChunkedArray) -> NDArray[np.int64]:
    """The places of names among all that a column holds, in their order; int64."""
    encoded = names.combine_chunks().dictionary_encode()
    places = pc.rank(encoded.dictionary).to_numpy().astype(np.int64)
    return np.asarray(places[encoded.indices.to_numpy()])


def _entry(first: _Judged, second: _Judged, names: tuple[str, str], resamples: int, seed: int) -> dict[str, Any]:
    _, *asked = np.intersect1d(first.candidates, second.candidates, assume_unique=True, return_indices=True)
    scored = [judge.scored[rows] for judge, rows in zip((first, second), asked, strict=True)]
    both = scored[0] & scored[1]
    cases = first.cases[asked[0][both]]
    x, y = first.given[asked[0][both]].T, second.given[asked[1][both]].T
    grades = grades_of(*x), grades_of(*y)
    return {
        "judges": list(names),
        "candidates": int(both.sum()),
        "cases": len(np.unique(cases)),
        "failures": {name: int((~known).sum()) for name, known in zip(names, scored, strict=True)},
        **score_agreement(x[0], y[0], grades, cases, resamples=resamples, seed=seed),
    }
