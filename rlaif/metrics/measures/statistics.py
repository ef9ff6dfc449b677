"""Intervals of metrics, of differences between two sets of reports, and of several seeds together.

Patients are resampled, with all their reports: reports of one patient are not independent.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.intervals import Interval
from rlaif.metrics.measures.measured import Measured

# Weights are made in blocks, so that many reports need no [resamples, reports] array at once.
_BLOCK_ENTRIES = 4_000_000


@dataclass(frozen=True)
class Reported:
    """A metric on a set of reports, with the patient and the case of each report."""

    measured: Measured
    patients: Sequence[Hashable]
    cases: Sequence[str]


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference over `n` cases. `effect` is Cohen's d of patients' differences (their mean in their standard
    deviations); None for figures of whole sets, and where the differences do not vary.
    """

    effect: float | None


@dataclass(frozen=True)
class Pooled(Interval):
    """The mean of several seeds' values; `spread` is their standard deviation, None for a single seed."""

    seeds: int
    spread: float | None


def interval_of(one: Reported, *, resamples: int, seed: int = 0, level: float = 0.95) -> Interval | None:
    """A metric with its percentile bootstrap interval over patients; None where no report counts."""
    if not one.measured.n:
        return None
    point = float(one.measured.over(np.ones((1, len(one.patients))))[0])
    if not np.isfinite(point):
        return None
    drawn = _values([one], [np.ones(len(one.patients))], resamples, seed)[0]
    return Interval(point, *_bounds(drawn, level), one.measured.n)


def difference_of(
    first: Reported, second: Reported, *, resamples: int, seed: int = 0, level: float = 0.95
) -> Difference | None:
    """The paired difference second - first over the cases that both have, the same patients drawn for both.

    None where they have no case in common, or the metric has no value there.
    """
    common = set(_counted(first)) & set(_counted(second))
    masks = [np.array([float(case in common) for case in one.cases]) for one in (first, second)]
    if not common:
        return None
    before, after = (float(one.measured.over(mask[None])[0]) for one, mask in zip((first, second), masks, strict=True))
    if not np.isfinite(after - before):
        return None
    drawn = _values([first, second], masks, resamples, seed)
    bounds = _bounds(drawn[1] - drawn[0], level)
    return Difference(after - before, *bounds, len(common), _effect(first, second, common))


def pooled_of(
    seeds: Sequence[Reported], *, same_patients: bool, resamples: int, seed: int = 0, level: float = 0.95
) -> Pooled | None:
    """The mean of the seeds' values, each seed counting alike.

    `same_patients`: the seeds were measured on the same patients, who are then drawn for all seeds at once; otherwise
    each seed has patients of its own, whatever their names. None where no seed has a value.
    """
    have = [one for one in seeds if interval_of(one, resamples=1) is not None]
    if not have:
        return None
    own = have if same_patients else [_renamed(one, number) for number, one in enumerate(have)]
    points = [float(one.measured.over(np.ones((1, len(one.patients))))[0]) for one in own]
    drawn = _values(own, [np.ones(len(one.patients)) for one in own], resamples, seed)
    spread = float(np.std(points, ddof=1)) if len(points) > 1 else None
    n = sum(one.measured.n for one in own)
    return Pooled(float(np.mean(points)), *_bounds(drawn.mean(axis=0), level), n, len(points), spread)


def _renamed(one: Reported, number: int) -> Reported:
    return Reported(one.measured, [(number, patient) for patient in one.patients], one.cases)


def _counted(one: Reported) -> Iterator[str]:
    """The cases that count: of a metric with values of its own for each report, those that have one."""
    values = one.measured.values
    return (case for place, case in enumerate(one.cases) if values is None or np.isfinite(values[place]))


def _values(
    sets: Sequence[Reported], masks: Sequence[NDArray[np.float64]], resamples: int, seed: int
) -> NDArray[np.float64]:
    """The metric of each set in each resample of the patients of all sets, float64 `[sets, resamples]`."""
    numbering: dict[Hashable, int] = {}
    for one, mask in zip(sets, masks, strict=True):
        for patient, counts in zip(one.patients, mask, strict=True):
            if counts:
                numbering.setdefault(patient, len(numbering))
    places = [np.array([numbering.get(patient, 0) for patient in one.patients]) for one in sets]
    values = np.empty((len(sets), resamples))
    block = max(1, _BLOCK_ENTRIES // max(len(numbering), *(len(one.patients) for one in sets)))
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, block):
        number = min(block, resamples - start)
        drawn = rng.integers(len(numbering), size=(number, len(numbering)))
        times = np.stack([np.bincount(row, minlength=len(numbering)) for row in drawn]).astype(np.float64)
        for index, one in enumerate(sets):
            values[index, start : start + number] = one.measured.over(times[:, places[index]] * masks[index])
    return values


def _bounds(drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The interval's ends; resamples in which the metric is not defined do not count."""
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _effect(first: Reported, second: Reported, common: set[str]) -> float | None:
    before, after = (_by_patient(one, common) for one in (first, second))
    if before is None or after is None:
        return None
    differences = np.array([after[patient] - before[patient] for patient in sorted(before, key=str)])
    deviation = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    # Rounding alone makes equal differences vary in the last digits.
    return float(differences.mean() / deviation) if deviation > 1e-12 else None


def _by_patient(one: Reported, common: set[str]) -> dict[Hashable, float] | None:
    """Each patient's mean over the common cases."""
    if one.measured.values is None:
        return None
    own: dict[Hashable, list[float]] = {}
    for case, patient, value in zip(one.cases, one.patients, one.measured.values, strict=True):
        if case in common and np.isfinite(value):
            own.setdefault(patient, []).append(float(value))
    return {patient: float(np.mean(values)) for patient, values in own.items()}
