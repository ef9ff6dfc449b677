"""Means with bootstrap intervals, resampling patients: reports of one patient are not independent."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Resamples are drawn in blocks, so that many patients need no [resamples, patients] array at once.
_BLOCK_ENTRIES = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean over `n` values, with the lower and upper bound of its interval; none where no seed has
    two groups: every resample of one is the same, which would look like certainty.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    def above(self, bound: float) -> bool:
        """Whether there is an interval, and all of it is above the bound."""
        return self.low is not None and self.low > bound

    def below(self, bound: float) -> bool:
        """Whether there is an interval, and all of it is below the bound."""
        return self.high is not None and self.high < bound


def interval_words(mean: float, low: float | None, high: float | None, *, digits: int = 3, signed: bool = True) -> str:
    """`mean [low, high]`, or the mean alone where there is no interval."""
    form = f"{'+' if signed else ''}.{digits}f"
    return f"{mean:{form}}" if low is None or high is None else f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def _by_group(
    values: Sequence[float], groups: Sequence[Hashable], what: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the values of each group, both float64 `[groups]`."""
    if len(values) == 0:
        raise ValueError(f"{what}: there are no values to take an interval of")
    if len(values) != len(groups):
        raise ValueError(f"{what}: {len(values)} values but {len(groups)} groups; each value needs its patient")
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{what}: value {int(np.flatnonzero(~np.isfinite(array))[0])} is not a finite number")
    numbering: dict[Hashable, int] = {}
    ids = np.array([numbering.setdefault(group, len(numbering)) for group in groups])
    return np.bincount(ids, weights=array).astype(np.float64), np.bincount(ids).astype(np.float64)


def _resampled(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of values in each resample of whole groups, both float64 `[resamples]`."""
    groups = len(sums)
    totals, numbers = np.empty(resamples), np.empty(resamples)
    block = max(1, _BLOCK_ENTRIES // groups)
    for start in range(0, resamples, block):
        drawn = rng.integers(groups, size=(min(block, resamples - start), groups))
        totals[start : start + block] = sums[drawn].sum(axis=1)
        numbers[start : start + block] = sizes[drawn].sum(axis=1)
    return totals, numbers


def _check(resamples: int, level: float) -> None:
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples must be at least 1 and level between 0 and 1, got {resamples} and {level}")


def bootstrap(
    values: Sequence[float],
    groups: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """The mean of values with its percentile bootstrap interval over groups (patients).

    Whole groups are drawn with replacement, each with all its values. Raises ValueError for no
    values, for unequal lengths, and for values that are not finite.
    """
    return pooled([(values, groups)], seed=seed, resamples=resamples, level=level)


def paired(
    base: Mapping[str, float],
    last: Mapping[str, float],
    groups: Mapping[str, Hashable],
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """The mean difference last - base over the cases that both have, resampled by patient.

    `groups` gives each case's patient. Raises ValueError where no case is in both, or a case has no patient.
    """
    return pooled([differences(base, last, groups)], seed=seed, resamples=resamples, level=level)


def differences(
    base: Mapping[str, float], last: Mapping[str, float], groups: Mapping[str, Hashable]
) -> tuple[list[float], list[Hashable]]:
    """The differences last - base of the common cases, ordered by case, and their patients."""
    common = sorted(base.keys() & last.keys())
    if not common:
        raise ValueError("paired difference: base and last have no case in common")
    missing = [case for case in common if case not in groups]
    if missing:
        raise ValueError(f"paired difference: case {missing[0]} (and {len(missing) - 1} more) has no patient in groups")
    return [last[case] - base[case] for case in common], [groups[case] for case in common]


def pooled(
    per_seed: Sequence[tuple[Sequence[float], Sequence[Hashable]]],
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """The mean of all values of several seeds; patients are resampled within each seed.

    Each entry holds one seed's values (differences) and their groups (patients).
    """
    _check(resamples, level)
    if not per_seed:
        raise ValueError("pooled interval: there are no seeds")
    totals, numbers = np.zeros(resamples), np.zeros(resamples)
    total, n, most_groups = 0.0, 0, 0
    for index, (values, groups) in enumerate(per_seed):
        sums, sizes = _by_group(values, groups, f"seed {index} of {len(per_seed)}")
        drawn, drawn_sizes = _resampled(sums, sizes, resamples, np.random.default_rng([seed, index]))
        totals += drawn
        numbers += drawn_sizes
        total += float(sums.sum())
        n += len(values)
        most_groups = max(most_groups, len(sums))
    if most_groups < 2:
        return Interval(mean=total / n, low=None, high=None, n=n)
    low, high = np.quantile(totals / numbers, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=total / n, low=float(low), high=float(high), n=n)
