"""BLEU against numbers computed by hand, and against sacrebleu's own corpus score."""

from math import exp, isnan, sqrt

import numpy as np
import pytest
import sacrebleu

from rlaif.metrics.measures.bleu import measure
from rlaif.metrics.measures.measured import Measured, ReportPair
from rlaif.metrics.measures.settings import MetricSettings

# Words in common 4 of 6, pairs of words 1 of 5, none of 4 and 3 longer ones; the reference has 5 words.
HAND = ReportPair("no focal consolidation or effusion", "no focal opacity or large effusion")


def measured(settings: MetricSettings, *pairs: ReportPair) -> dict[str, Measured]:
    return {one.name: one for one in measure(settings)(pairs)}


def over_all(one: Measured, reports: int) -> float:
    return float(one.over(np.ones((1, reports)))[0])


def test_corpus_bleu_by_hand(metric_settings: MetricSettings) -> None:
    found = measured(metric_settings, HAND)
    # What is not matched counts a half, then a quarter, of an n-gram.
    products = {1: 4 / 6, 2: 4 / 6 / 5, 3: 4 / 6 / 5 / 8, 4: 4 / 6 / 5 / 8 / 12}
    for order, product in products.items():
        assert over_all(found[f"bleu_{order}"], 1) == pytest.approx(product ** (1 / order))
        assert found[f"bleu_{order}"].values is None


def test_mean_bleu_by_hand(metric_settings: MetricSettings) -> None:
    found = measured(metric_settings, HAND, ReportPair("clear lungs , normal heart", "clear lungs"))
    # One more match and n-gram of each order; the second is as much too short as exp(1 - 5 / 2) says.
    assert found["bleu_1_sample_mean"].values == pytest.approx([5 / 7, exp(-1.5)])
    assert found["bleu_2_sample_mean"].values == pytest.approx([sqrt(5 / 7 * 2 / 6), exp(-1.5)])
    assert found["bleu_4_sample_mean"].values == pytest.approx([(5 / 7 * 2 / 6 / 5 / 4) ** 0.25, exp(-1.5)])
    assert over_all(found["bleu_1_sample_mean"], 2) == pytest.approx((5 / 7 + exp(-1.5)) / 2)


def test_corpus_bleu_is_that_of_sacrebleu_for_every_set(metric_settings: MetricSettings) -> None:
    dice = np.random.default_rng(3)
    words = np.array(
        ["no", "nodule", "effusion", "in", "the", "left", "right", "lobe", ",", "mild", "4.5", "mm", "small"]
    )
    pairs = [
        ReportPair(*(" ".join(dice.choice(words, size=int(dice.integers(3, 40)))) for _ in "12")) for _ in range(9)
    ]
    weights = np.vstack((np.ones(9), dice.multinomial(9, np.full(9, 1 / 9), size=4))).astype(np.float64)
    found = measured(metric_settings, *pairs)
    for order in (1, 2, 3, 4):
        bleu = sacrebleu.BLEU(max_ngram_order=order)
        expected = []
        for row in weights.astype(int):
            drawn = [pair for pair, times in zip(pairs, row, strict=True) for _ in range(times)]
            score = bleu.corpus_score([pair.candidate for pair in drawn], [[pair.reference for pair in drawn]])
            expected.append(score.score / 100)
        assert found[f"bleu_{order}"].over(weights) == pytest.approx(expected, abs=1e-12)
        assert str(bleu.get_signature()) in str(found[f"bleu_{order}"].signature)


def test_empty_texts_one_word_and_other_letters(metric_settings: MetricSettings) -> None:
    pairs = (
        ReportPair("clear lungs", ""),
        ReportPair("  ", "clear lungs"),
        ReportPair("clear", "clear"),
        ReportPair("sol akciğerde nodül görülmedi", "sol akciğerde nodül görülmedi"),
    )
    found = measured(metric_settings, *pairs)
    assert found["bleu_2_sample_mean"].values == pytest.approx([0, np.nan, 1, 1], nan_ok=True)
    assert found["bleu_2"].n == found["bleu_2_sample_mean"].n == 3
    counted = found["bleu_2"].counted
    assert counted is not None and counted.tolist() == [bool(pair.reference.strip()) for pair in pairs]
    alone = np.eye(4)
    assert found["bleu_1"].over(alone) == pytest.approx([0, np.nan, 1, 1], nan_ok=True)
    # sacrebleu gives a text without any pair of words 0.
    assert found["bleu_2"].over(alone) == pytest.approx([0, np.nan, 0, 1], nan_ok=True)
    # A report without reference changes nothing.
    with_it, without = found["bleu_1"].over(np.array([[1.0, 1, 1, 1], [1, 0, 1, 1]]))
    assert with_it == without
    assert isnan(over_all(measured(metric_settings)["bleu_4"], 0))
