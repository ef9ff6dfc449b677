"""Intervals, paired differences, effects and pooled seeds of metrics, against numbers worked out by hand."""

import numpy as np
import pytest

from rlaif.metrics.intervals import bootstrap
from rlaif.metrics.measures import diversity, lengths
from rlaif.metrics.measures.measured import Measured, ReportPair, Signature, from_sums, from_values
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.metrics.measures.statistics import Reported, difference_of, interval_of, pooled_of

PLAIN = Signature("by hand", "words", "sample_mean")


def reported(values: list[float], patients: list[str], cases: list[str] | None = None) -> Reported:
    return Reported(from_values("m", PLAIN, np.array(values)), patients, cases or [f"c{n}" for n in range(len(values))])


def ratio(tops: list[float], bottoms: list[float]) -> Measured:
    def combine(sums: np.ndarray) -> np.ndarray:
        return sums[:, 0] / sums[:, 1]

    return from_sums("ratio", PLAIN, np.column_stack([tops, bottoms]), combine)


def test_the_interval_of_a_mean_is_that_of_whole_patients() -> None:
    values, patients = [0.0, 1.0, 1.0, 0.5], ["a", "a", "b", "c"]
    one = interval_of(reported(values, patients), resamples=4000)
    other = bootstrap(values, patients, resamples=4000)
    assert one is not None and one.mean == other.mean == 0.625 and one.n == 4
    assert one.low == pytest.approx(other.low, abs=0.02) and one.high == pytest.approx(other.high, abs=0.02)


def test_reports_without_a_value_do_not_count() -> None:
    one = interval_of(reported([1.0, np.nan, 0.0], ["a", "b", "c"]), resamples=200)
    assert one is not None and one.mean == 0.5 and one.n == 2
    assert interval_of(reported([np.nan], ["a"]), resamples=200) is None


def test_a_corpus_figure_is_of_sums_and_not_of_means() -> None:
    one = interval_of(Reported(ratio([1, 9], [1, 99]), ["a", "b"], ["c0", "c1"]), resamples=500)
    assert one is not None and one.mean == pytest.approx(0.1)
    # Resamples of two patients: both of a (1), both of b (1/11), or the whole.
    assert one.high == pytest.approx(1.0) and one.low == pytest.approx(1 / 11)


def test_a_difference_is_of_the_common_cases_of_the_same_patients() -> None:
    first = reported([0.0, 0.4, 0.9], ["a", "b", "x"], ["c0", "c1", "only here"])
    second = reported([0.7, 0.2], ["b", "a"], ["c1", "c0"])
    one = difference_of(first, second, resamples=500)
    assert one is not None and one.mean == pytest.approx(0.25) and one.n == 2
    # Patients gained 0.2 and 0.3: mean 0.25, standard deviation 0.0707.
    assert one.effect == pytest.approx(0.25 / (0.1 / 2**0.5)) and one.low == pytest.approx(0.2)
    assert one.high == pytest.approx(0.3)
    assert difference_of(first, reported([1.0], ["z"], ["elsewhere"]), resamples=10) is None


def test_a_shift_that_is_equal_for_all_has_no_width_and_no_effect() -> None:
    first = reported([0.1, 0.4, 0.6], ["a", "b", "c"])
    second = reported([0.2, 0.5, 0.7], ["a", "b", "c"])
    one = difference_of(first, second, resamples=300)
    assert one is not None and one.low == pytest.approx(0.1) and one.high == pytest.approx(0.1) and one.effect is None


def test_a_case_without_a_value_on_one_side_is_in_neither() -> None:
    one = difference_of(reported([0.0, 0.5], ["a", "b"]), reported([np.nan, 1.0], ["a", "b"]), resamples=50)
    assert one is not None and one.mean == 0.5 and one.n == 1


def test_seeds_count_alike_and_their_spread_is_told() -> None:
    seeds = [reported([0.2, 0.4], ["a", "b"]), reported([0.6], ["a"])]
    one = pooled_of(seeds, same_patients=False, resamples=2000)
    assert one is not None and one.mean == pytest.approx(0.45) and one.seeds == 2 and one.n == 3
    assert one.spread == pytest.approx(0.3 / 2**0.5)
    # The second seed has one patient, so only the first varies: means of 0.2, 0.3 and 0.4.
    assert one.low == pytest.approx(0.4) and one.high == pytest.approx(0.5)


def test_seeds_on_the_same_patients_vary_together() -> None:
    seeds = [reported([0.0, 1.0], ["a", "b"]) for _ in range(3)]
    together = pooled_of(seeds, same_patients=True, resamples=3000)
    apart = pooled_of(seeds, same_patients=False, resamples=3000)
    assert together is not None and apart is not None and together.mean == apart.mean == 0.5
    # The same two patients in all seeds are no more evidence than in one: half of the resamples have but one of them.
    assert (together.low, together.high) == (0.0, 1.0) and apart.low > 0.0 and apart.high < 1.0
    assert together.spread == 0.0


def test_the_same_seed_gives_the_same_interval() -> None:
    values, patients = list(np.random.default_rng(5).random(40)), [f"p{n % 17}" for n in range(40)]
    assert interval_of(reported(values, patients), resamples=300) == interval_of(
        reported(values, patients), resamples=300
    )


def test_a_figure_that_repetitions_distort_is_jackknifed() -> None:
    kinds = np.array([0, 1, 2, 2])

    def distinct(weights: np.ndarray) -> np.ndarray:
        present = np.stack([(weights[:, kinds == kind] > 0).any(axis=1) for kind in range(3)])
        return present.sum(axis=0) / weights.sum(axis=1)

    measured = Measured("kinds", PLAIN, distinct, None, 4, repeats=False)
    one = interval_of(Reported(measured, ["a", "b", "c", "d"], ["c0", "c1", "c2", "c3"]), resamples=50)
    # Without one of the four: 2/3, 2/3, 1, 1; variance 3/4 of the sum of squares (4/36).
    assert one is not None and one.mean == 0.75
    assert one.high - one.mean == pytest.approx(1.959964 * (3 / 4 * 4 / 36) ** 0.5)
    assert one.mean - one.low == pytest.approx(one.high - one.mean)
    same = difference_of(*[Reported(measured, ["a", "b", "c", "d"], ["c0", "c1", "c2", "c3"])] * 2, resamples=50)
    assert same is not None and (same.low, same.mean, same.high) == (0.0, 0.0, 0.0)


def test_a_case_of_several_reports_counts_as_one() -> None:
    first = reported([0.0, 1.0], ["a", "b"])
    second = reported([0.0, 1.0, 1.0, 1.0], ["a", "b", "b", "b"], ["c0", "c1", "c1", "c1"])
    one = difference_of(first, second, resamples=200)
    assert one is not None and one.n == 2 and [one.low, one.mean, one.high] == pytest.approx([0.0] * 3, abs=1e-12)
    # A report without a value takes nothing from its case's others.
    second = reported([0.0, 1.0, np.nan], ["a", "b", "b"], ["c0", "c1", "c1"])
    one = difference_of(first, second, resamples=200)
    assert one is not None and one.mean == pytest.approx(0.0, abs=1e-12)


def test_a_case_of_another_patient_is_not_paired() -> None:
    with pytest.raises(ValueError, match="case c0 is of patient a in one set and of z in the other"):
        difference_of(reported([0.0], ["a"]), reported([1.0], ["z"]), resamples=10)


def test_the_number_of_distinct_things_is_compared_between_sets_of_one_size_only() -> None:
    def size(weights: np.ndarray) -> np.ndarray:
        return (weights > 0).sum(axis=1).astype(np.float64)

    small = Reported(Measured("kinds", PLAIN, size, None, 1, repeats=False), ["a"], ["c0"])
    large = Reported(Measured("kinds", PLAIN, size, None, 2, repeats=False), ["a", "a"], ["c0", "c0"])
    assert difference_of(small, large, resamples=10) is None and difference_of(small, small, resamples=10) is not None


def test_what_does_not_count_is_in_no_paired_case() -> None:
    def top(sums: np.ndarray) -> np.ndarray:
        return sums[:, 0]

    counted = np.array([True, False])
    measured = from_sums("m", PLAIN, np.array([[1.0], [9.0]]), top, counted=counted)
    one = Reported(measured, ["a", "b"], ["c0", "c1"])
    found = difference_of(one, one, resamples=20)
    assert measured.n == 1 and found is not None and found.n == 1


def test_figures_of_sets_with_several_reports_a_case_differ_as_the_sets_do(metric_settings: MetricSettings) -> None:
    texts = [
        f"There is a nodule of {number} mm in the {side} lung." for number in range(6) for side in ("left", "right")
    ]
    cases, patients = [f"c{place // 2}" for place in range(12)], [f"p{place // 4}" for place in range(12)]
    sets = []
    for candidates in (
        texts,
        [texts[place // 5] + " The heart is normal." * (8 * (place % 5 // 2)) for place in range(12)],
    ):
        pairs = [ReportPair(reference, text) for reference, text in zip(texts, candidates, strict=True)]
        measured = [*diversity.measure(metric_settings)(pairs), *lengths.measure(metric_settings)(pairs)]
        sets.append({one.name: Reported(one, patients, cases) for one in measured})
    for name in ("distinct_1", "distinct_3", "same_report", "length_kl"):
        before, after = (interval_of(one[name], resamples=50) for one in sets)
        difference = difference_of(sets[0][name], sets[1][name], resamples=50)
        assert before is not None and after is not None and difference is not None
        assert difference.mean == pytest.approx(after.mean - before.mean, abs=1e-12) and difference.mean != 0, name


def test_one_patient_has_no_interval() -> None:
    one = reported([0.0, 1.0], ["a", "a"])
    interval, pooled = interval_of(one, resamples=20), pooled_of([one], same_patients=True, resamples=20)
    difference = difference_of(one, reported([1.0, 1.0], ["a", "a"]), resamples=20)
    for found, mean in ((interval, 0.5), (pooled, 0.5), (difference, 0.5)):
        assert found is not None and (found.mean, found.low, found.high) == (mean, None, None)
