"""Diversity of sets of reports against numbers computed by hand."""

import numpy as np
import pytest

from rlaif.metrics.measures.diversity import measure
from rlaif.metrics.measures.measured import Measured, ReportPair
from rlaif.metrics.measures.settings import MetricSettings


def measured(settings: MetricSettings, *texts: str) -> dict[str, Measured]:
    return {one.name: one for one in measure(settings)([ReportPair("", text) for text in texts])}


def test_by_hand(metric_settings: MetricSettings) -> None:
    found = measured(metric_settings, "Clear lung, clear", "clear lung", "clear  lung")
    weights = np.array([[1.0, 1, 1], [1, 0, 0], [0, 2, 0], [0, 1, 1]])
    # The words are clear, lung and the comma; four in the first, two in the others.
    assert found["distinct_1"].over(weights) == pytest.approx([3 / 8, 3 / 4, 2 / 4, 2 / 4])
    # clear-lung, lung-comma, comma-clear.
    assert found["distinct_2"].over(weights) == pytest.approx([3 / 5, 1, 1 / 2, 1 / 2])
    assert found["distinct_3"].over(weights) == pytest.approx([1, 1, np.nan, np.nan], nan_ok=True)
    assert found["same_report"].over(weights) == pytest.approx([2 / 3, 1, 1, 1])
    assert {one.n for one in found.values()} == {3}


def test_empty_texts_one_word_and_other_letters(metric_settings: MetricSettings) -> None:
    found = measured(metric_settings, "", " ", "肺清晰", "nodül")
    weights = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    assert found["distinct_1"].over(weights) == pytest.approx([np.nan, 1, 1], nan_ok=True)
    assert np.isnan(found["distinct_2"].over(weights)).all()
    assert found["same_report"].over(weights) == pytest.approx([1, 1 / 2, 1 / 2])
    none = measured(metric_settings)
    assert all(np.isnan(one.over(np.ones((1, 0)))).all() for one in none.values())


def test_many_sets_agree_with_counting(metric_settings: MetricSettings) -> None:
    dice = np.random.default_rng(2)
    words = np.array(["no", "nodule", "effusion", "in", "the", "left", "right", "lobe"])
    texts = [" ".join(dice.choice(words, size=int(dice.integers(0, 12)))) for _ in range(40)]
    weights = dice.multinomial(40, np.full(40, 1 / 40), size=50).astype(np.float64)
    found = measured(metric_settings, *texts)
    for order in (1, 2, 3):
        grams = [list(zip(*(text.split()[start:] for start in range(order)), strict=False)) for text in texts]
        expected = [
            len({gram for place in np.flatnonzero(row) for gram in grams[place]})
            / sum(times * len(own) for times, own in zip(row, grams, strict=True))
            for row in weights
        ]
        assert found[f"distinct_{order}"].over(weights) == pytest.approx(expected)
