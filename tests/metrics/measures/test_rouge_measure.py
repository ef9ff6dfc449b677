"""ROUGE of lists of reports: rouge-score's numbers, also where its own table would be too large."""

import time

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from rlaif.metrics.measures.measured import ReportPair
from rlaif.metrics.measures.rouge import measure
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.metrics.rouge import longest_common_subsequence


def test_the_same_numbers_as_rouge_score(metric_settings: MetricSettings) -> None:
    dice = np.random.default_rng(5)
    words = np.array(
        ["no", "nodules", "effusions", "seen", "in", "the", "left", "lobes", "are", "enlarged", "4", "mm", "heart-size"]
    )
    pairs = [
        ReportPair(*(" ".join(dice.choice(words, size=int(dice.integers(1, 60)))) for _ in "12")) for _ in range(30)
    ]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for one in measure(metric_settings)(pairs):
        expected = [scorer.score(pair.reference, pair.candidate)[one.name].fmeasure for pair in pairs]
        assert one.values is not None
        assert one.values.tolist() == expected


def test_empty_texts_one_word_and_other_letters(metric_settings: MetricSettings) -> None:
    pairs = [
        ReportPair("clear lungs", ""),
        ReportPair("", "clear lungs"),
        ReportPair("clear", "Clear!"),
        ReportPair("肺清晰", "肺清晰"),
        ReportPair("clear lungs", "clear lungs"),
    ]
    found = {one.name: one for one in measure(metric_settings)(pairs)}
    # ROUGE knows a to z and digits only: a reference without any has no value.
    assert found["rouge1"].values == pytest.approx([0, np.nan, 1, np.nan, 1], nan_ok=True)
    assert found["rouge2"].values == pytest.approx([0, np.nan, 0, np.nan, 1], nan_ok=True)
    assert found["rougeL"].values == pytest.approx([0, np.nan, 1, np.nan, 1], nan_ok=True)
    assert found["rougeL"].n == 3


def test_longest_common_subsequence() -> None:
    assert longest_common_subsequence("abcbdab", "bdcaba") == 4
    assert longest_common_subsequence("", "ab") == longest_common_subsequence("ab", "") == 0
    many = [str(number) for number in range(20_000)]
    started = time.process_time()
    assert longest_common_subsequence(many, many[::2] + many[::-1]) == 10_001
    assert time.process_time() - started < 20
