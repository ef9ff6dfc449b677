"""Intervals of metrics, of differences between two sets of reports, and of several seeds together.

Patients are resampled, with all their reports: reports of one patient are not independent.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.intervals import Interval
from rlaif.metrics.measures.measured import Measured

# Weights are made in blocks, so that many reports need no [resamples, reports] array at once.
_BLOCK_ENTRIES = 4_000_000
# A jackknife leaves out patients one by one, or in so many groups.
_JACKKNIFE_GROUPS = 400

Values = NDArray[np.float64]


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
    """A metric with its percentile bootstrap interval over patients, jackknifed where the metric asks for it; None
    where no report counts.
    """
    if not one.measured.n:
        return None
    point = float(one.measured.over(np.ones((1, len(one.patients))))[0])
    if not np.isfinite(point):
        return None
    ends = _ends([one], [np.ones(len(one.patients))], lambda values: values[0], point, resamples, seed, level)
    return Interval(point, *ends, one.measured.n)


def difference_of(
    first: Reported, second: Reported, *, resamples: int, seed: int = 0, level: float = 0.95
) -> Difference | None:
    """The paired difference second - first over the cases that both have, the same patients drawn for both; a case
    counts alike whatever its number of reports.

    None where they have no case in common, or the metric has no value there; and for figures that repetitions distort,
    where the sets have other numbers of reports. Raises ValueError where a case has another patient in each.
    """
    common = set(_counted(first)) & set(_counted(second))
    if not common:
        return None
    _check_patients(first, second, common)
    masks = [_case_weights(one, common) for one in (first, second)]
    if not (first.measured.repeats or np.count_nonzero(masks[0]) == np.count_nonzero(masks[1])):
        return None
    before, after = (float(one.measured.over(mask[None])[0]) for one, mask in zip((first, second), masks, strict=True))
    if not np.isfinite(after - before):
        return None
    difference = after - before
    ends = _ends([first, second], masks, lambda values: values[1] - values[0], difference, resamples, seed, level)
    return Difference(difference, *ends, len(common), _effect(first, second, common))


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
    mean, masks = float(np.mean(points)), [np.ones(len(one.patients)) for one in own]
    ends = _ends(own, masks, lambda values: values.mean(axis=0), mean, resamples, seed, level)
    spread = float(np.std(points, ddof=1)) if len(points) > 1 else None
    return Pooled(mean, *ends, sum(one.measured.n for one in own), len(points), spread)


def _renamed(one: Reported, number: int) -> Reported:
    return Reported(one.measured, [(number, patient) for patient in one.patients], one.cases)


def _counted(one: Reported) -> Iterator[str]:
    """The case of each report that counts."""
    counts = one.measured.counts
    return (case for place, case in enumerate(one.cases) if counts is None or counts[place])


def _case_weights(one: Reported, common: set[str]) -> Values:
    """The weight of each report, float64 `[reports]`: a common case has 1 in all, parted among its reports; where
    repetitions distort the metric, parts of reports do too, and each of them counts whole.
    """
    counts, reports = one.measured.counts, Counter(_counted(one))
    whole = not one.measured.repeats
    return np.array(
        [
            (1.0 if whole else 1 / reports[case]) if case in common and (counts is None or counts[place]) else 0.0
            for place, case in enumerate(one.cases)
        ]
    )


def _check_patients(first: Reported, second: Reported, common: set[str]) -> None:
    patients = dict(zip(first.cases, first.patients, strict=True))
    for case, patient in zip(second.cases, second.patients, strict=True):
        if case in common and patients[case] != patient:
            raise ValueError(f"case {case} is of patient {patients[case]} in one set and of {patient} in the other")


def _ends(
    sets: Sequence[Reported],
    masks: Sequence[Values],
    combine: Callable[[Values], Values],
    point: float,
    resamples: int,
    seed: int,
    level: float,
) -> tuple[float | None, float | None]:
    """The interval's ends of what `combine` makes of the sets' metrics, float64 `[sets, resamples]` to `[resamples]`.

    Resamples in which the metric is not defined do not count. One patient has none: all resamples would be the same.
    """
    patients = _numbered(sets, masks)
    if len(patients) < 2:
        return None, None
    if all(one.measured.repeats for one in sets):
        widest = max(len(patients), *(len(one.patients) for one in sets))
        values = combine(_values(sets, masks, patients, _drawn(len(patients), widest, resamples, seed)))
        low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)
    left_out = combine(_values(sets, masks, patients, _leaving_out(len(patients))))
    left_out = left_out[np.isfinite(left_out)]
    # The variance of the delete-a-group jackknife (Efron and Tibshirani 1993, 11.5).
    groups = max(len(left_out), 1)
    deviation = float(np.sqrt((groups - 1) / groups * np.sum((left_out - left_out.mean()) ** 2))) if groups > 1 else 0.0
    width = NormalDist().inv_cdf((1 + level) / 2) * deviation
    return point - width, point + width


def _numbered(sets: Sequence[Reported], masks: Sequence[Values]) -> dict[Hashable, int]:
    """The patients of all sets who count, each with a number."""
    numbering: dict[Hashable, int] = {}
    for one, mask in zip(sets, masks, strict=True):
        for patient, counts in zip(one.patients, mask, strict=True):
            if counts:
                numbering.setdefault(patient, len(numbering))
    return numbering


def _drawn(patients: int, widest: int, resamples: int, seed: int) -> Iterator[Values]:
    """How often each patient is drawn, in blocks of float64 `[block, patients]`; sets have at most `widest` reports."""
    rng, block = np.random.default_rng(seed), max(1, _BLOCK_ENTRIES // widest)
    for start in range(0, resamples, block):
        drawn = rng.integers(patients, size=(min(block, resamples - start), patients))
        yield np.stack([np.bincount(row, minlength=patients) for row in drawn]).astype(np.float64)


def _leaving_out(patients: int) -> Iterator[Values]:
    """All patients but one, or but one group of them, float64 `[1, patients]`."""
    groups = np.arange(patients) % min(patients, _JACKKNIFE_GROUPS)
    return ((groups != group).astype(np.float64)[None] for group in range(groups.max() + 1))


def _values(
    sets: Sequence[Reported], masks: Sequence[Values], patients: dict[Hashable, int], blocks: Iterator[Values]
) -> Values:
    """The metric of each set in each resample of the patients of all sets, float64 `[sets, resamples]`."""
    places = [np.array([patients.get(patient, 0) for patient in one.patients]) for one in sets]
    parts = [
        np.stack([one.measured.over(times[:, own] * mask) for one, own, mask in zip(sets, places, masks, strict=True)])
        for times in blocks
    ]
    return np.concatenate(parts, axis=1)


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
