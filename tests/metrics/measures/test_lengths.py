"""Lengths of reports against numbers computed by hand."""

from math import log

import numpy as np
import pytest

from rlaif.metrics.measures.lengths import BIN_WORDS, BINS, length_histograms, measure
from rlaif.metrics.measures.measured import ReportPair
from rlaif.metrics.measures.settings import MetricSettings

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


def test_histograms() -> None:
    found = length_histograms([ReportPair(SHORT, LONG), ReportPair(LONG, ENDLESS), ReportPair("", SHORT)])
    assert found.edges[:3].tolist() == [0, BIN_WORDS, 2 * BIN_WORDS]
    assert found.references.tolist() == [1, 1] + [0] * (BINS - 2)
    assert found.candidates.tolist() == [0, 1] + [0] * (BINS - 3) + [1]
