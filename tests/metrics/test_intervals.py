from dataclasses import asdict

import numpy as np
import pytest

from rlaif.metrics.display import display_of, interval_text, verdict_of
from rlaif.metrics.intervals import bootstrap, paired, pooled


def test_a_constant_has_no_width():
    interval = bootstrap([2.0, 2.0, 2.0], ["a", "b", "c"])
    assert (interval.mean, interval.low, interval.high, interval.n) == (2.0, 2.0, 2.0, 3)


def test_interval_of_independent_values_is_that_of_the_normal_law():
    values = np.random.default_rng(1).normal(5, 2, 400)
    interval = bootstrap(values.tolist(), range(400))
    error = values.std(ddof=1) / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error * 2)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error * 2)


def test_reports_of_one_patient_count_as_one_draw():
    rng = np.random.default_rng(2)
    per_patient = rng.normal(0, 1, 30)
    values = np.repeat(per_patient, 10)
    patients = np.repeat(np.arange(30), 10)
    by_patient = bootstrap(values.tolist(), patients.tolist())
    by_report = bootstrap(values.tolist(), range(300))
    assert (by_patient.high - by_patient.low) > 2.5 * (by_report.high - by_report.low)
    alone = bootstrap(per_patient.tolist(), range(30))
    assert (by_patient.low, by_patient.high) == pytest.approx((alone.low, alone.high))
    assert by_patient.n == 300


def test_one_patient_gives_no_interval_and_shows_nothing():
    interval = bootstrap([0.0, 1.0], ["p", "p"])
    assert (interval.mean, interval.low, interval.high, interval.n) == (0.5, None, None, 2)
    gain = paired({"a": 0.1, "b": 0.2}, {"a": 0.5, "b": 0.5}, {"a": "p", "b": "p"})
    assert gain.mean == pytest.approx(0.35)
    assert not gain.above(0) and not gain.below(1)
    assert verdict_of(asdict(gain), display_of("rules_score")) == "unclear"
    assert interval_text(asdict(gain), display_of("rules_score")) == "0.350"


def test_seeds_of_one_patient_each_give_no_interval():
    interval = pooled([([0.5], ["p"]), ([0.7], ["q"])])
    assert (interval.mean, interval.low, interval.high) == (pytest.approx(0.6), None, None)
    assert pooled([([0.5], ["p"]), ([0.6, 0.8], ["q", "r"])]).above(0.5)


def test_the_same_seed_gives_the_same_interval_and_level_widens_it():
    values, groups = [0.0, 1.0, 0.5, 0.7, 0.1], list("abcde")
    assert bootstrap(values, groups, seed=3) == bootstrap(values, groups, seed=3)
    narrow, wide = bootstrap(values, groups, level=0.5), bootstrap(values, groups, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_about_95_of_100_intervals_hold_the_true_mean():
    rng = np.random.default_rng(4)
    hits = 0
    for trial in range(200):
        values = rng.exponential(1.0, 80)
        interval = bootstrap(values.tolist(), range(80), seed=trial, resamples=500)
        hits += interval.low <= 1.0 <= interval.high
    assert 175 <= hits <= 198


def test_paired_difference_over_common_cases():
    base = {"c1": 0.1, "c2": 0.5, "gone": 9.0}
    last = {"c1": 0.3, "c2": 0.7, "new": -9.0}
    interval = paired(base, last, {"c1": "p1", "c2": "p2", "gone": "p3", "new": "p4"})
    assert interval.n == 2
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.2, 0.2, 0.2))


def test_paired_is_narrower_than_the_noise_that_both_share():
    rng = np.random.default_rng(5)
    level = rng.normal(0, 1, 100)
    base = {str(i): float(level[i]) for i in range(100)}
    last = {str(i): float(level[i] + 0.1 + rng.normal(0, 0.01)) for i in range(100)}
    interval = paired(base, last, {str(i): i for i in range(100)})
    assert 0.09 < interval.low < interval.mean < interval.high < 0.11


def test_pooled_means_over_seeds_and_narrows():
    rng = np.random.default_rng(6)
    seeds = [(rng.normal(1, 1, 50).tolist(), list(range(50))) for _ in range(4)]
    together = pooled(seeds)
    alone = bootstrap(*seeds[0])
    assert together.n == 200
    assert together.mean == pytest.approx(np.mean([values for values, _ in seeds]))
    assert together.high - together.low < 0.7 * (alone.high - alone.low)
    assert pooled(seeds[:1]) == alone


def test_many_patients_fit_in_memory():
    interval = bootstrap(np.arange(20_000.0).tolist(), range(20_000), resamples=300)
    assert interval.low < 9_999.5 < interval.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap([], []), "no values"),
        (lambda: bootstrap([1.0], ["a", "b"]), "1 values but 2 groups"),
        (lambda: bootstrap([1.0, float("nan")], ["a", "b"]), "value 1 is not a finite"),
        (lambda: bootstrap([1.0], ["a"], level=1.5), "level"),
        (lambda: bootstrap([1.0], ["a"], resamples=0), "resamples"),
        (lambda: paired({"a": 1.0}, {"b": 1.0}, {}), "no case in common"),
        (lambda: paired({"a": 1.0}, {"a": 1.0}, {}), "case a"),
        (lambda: pooled([]), "no seeds"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
