"""ROUGE against numbers computed by hand."""

import pytest

from rlaif.metrics.rouge import rouge


def test_rouge_by_hand() -> None:
    # Words in common 4 of 5 and 6; pairs of words in common 2 of 4 and 5; the longest common subsequence has 4 words.
    scores = rouge("no focal consolidation or effusion", "no focal opacity or large effusion")
    assert scores == {
        "rouge1": pytest.approx(2 * (4 / 6) * (4 / 5) / (4 / 6 + 4 / 5)),
        "rouge2": pytest.approx(2 * (1 / 5) * (1 / 4) / (1 / 5 + 1 / 4)),
        "rougeL": pytest.approx(2 * (4 / 6) * (4 / 5) / (4 / 6 + 4 / 5)),
    }


def test_the_same_words_in_another_order_and_nothing_at_all() -> None:
    assert rouge("clear lungs", "lungs clear") == {"rouge1": 1.0, "rouge2": 0.0, "rougeL": pytest.approx(0.5)}
    assert rouge("clear lungs", "") == {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}
    # Endings count for nothing.
    assert rouge("small effusions", "Small effusion.")["rouge2"] == 1.0
