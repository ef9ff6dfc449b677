"""Lengths of reports against numbers computed by hand."""

from math import log

import numpy as np
import pytest

from rlaif.metrics.measures.lengths import measure
from rlaif.metrics.measures.measured import ReportPair
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.metrics.measures.statistics import Reported, difference_of, interval_of

SHORT, LONG, ENDLESS = "clear " * 5, "clear " * 20, "clear " * 20_000


def test_mean_and_divergence_by_hand(metric_settings: MetricSettings) -> None:
    # 26 bins with one added: of 28, references have 2 and 2 in the first bins, candidates 1 and 3.
    words, divergence = measure(metric_settings)([ReportPair(SHORT, LONG), ReportPair(LONG, LONG)])
    assert (words.name, divergence.name) == ("report_words", "length_kl")
    assert words.over(np.array([[1.0, 1], [1, 0]])) == pytest.approx([20, 20])
    both = 1 / 28 * log(1 / 2) + 3 / 28 * log(3 / 2)
    # The first alone: 2 of 27 where the references have 1, and the other way round.
    first = 1 / 27 * log(1 / 2) + 2 / 27 * log(2)
    assert divergence.over(np.array([[1.0, 1], [1, 0], [0, 1]])) == pytest.approx([both, first, 0])


def test_empty_and_endless_texts(metric_settings: MetricSettings) -> None:
    pairs = [ReportPair("", LONG), ReportPair(LONG, ""), ReportPair(ENDLESS, ENDLESS)]
    words, divergence = measure(metric_settings)(pairs)
    assert words.values == pytest.approx([20, 0, 20_000])
    assert (words.n, divergence.n) == (3, 2)
    # Without any reference there is nothing to compare with.
    assert divergence.over(np.array([[1.0, 0, 0], [0, 0, 1]])) == pytest.approx([np.nan, 0], nan_ok=True)


def test_the_last_bin_is_open(metric_settings: MetricSettings) -> None:
    _, divergence = measure(metric_settings)([ReportPair(SHORT, LONG), ReportPair("clear " * 500, ENDLESS)])
    both = 1 / 28 * log(1 / 2) + 2 / 28 * log(2)
    assert divergence.over(np.ones((1, 2))) == pytest.approx([both])


def test_the_divergence_lies_in_its_interval(metric_settings: MetricSettings) -> None:
    for seed in range(30):
        dice = np.random.default_rng(seed)
        lengths = dice.normal(120, 40, size=(60, 2)).clip(1).astype(int)
        _, divergence = measure(metric_settings)([ReportPair("w " * one, "w " * other) for one, other in lengths])
        names = [str(place) for place in range(60)]
        found = interval_of(Reported(divergence, names, names), resamples=200)
        assert found is not None and found.low <= found.mean <= found.high


def test_a_report_without_reference_is_no_case_of_a_difference(metric_settings: MetricSettings) -> None:
    sets = [
        Reported(measure(metric_settings)([ReportPair(SHORT, text), ReportPair("", text)])[1], "ab", ["a", "b"])
        for text in (SHORT, LONG)
    ]
    assert sets[0].measured.counted is not None and sets[0].measured.counted.tolist() == [True, False]
    found = difference_of(*sets, resamples=10)
    assert found is not None and found.n == 1
