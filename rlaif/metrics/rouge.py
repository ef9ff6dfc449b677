"""ROUGE of a report against its reference, as the `rouge-score` package computes it."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from rlaif.metrics.stems import RememberedStems

KINDS = ("rouge1", "rouge2", "rougeL")


class _Given:
    """A tokeniser for texts that are cut into words already."""

    def tokenize(self, words: list[str]) -> list[str]:
        return words


@cache
def _by_ngrams() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(KINDS[:2], tokenizer=_Given())


def rouge_words(text: str) -> list[str]:
    """The stemmed words that ROUGE compares: runs of a to z and digits, in lower case."""
    from rouge_score.tokenize import tokenize

    return list(tokenize(text, RememberedStems()))


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """How many words the longest common subsequence of two texts has.

    A row of the table is the bits of one whole number (Crochemore et al. 2001, A fast and practical bit-vector
    algorithm for the longest common subsequence problem), so that texts of 20,000 words take a second at most;
    rouge-score's own table would hold 400 million numbers.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & every
    return len(first) - row.bit_count()


def rouge_of_words(reference: list[str], words: list[str]) -> dict[str, float]:
    """ROUGE of two texts that `rouge_words` has cut: F-measures, 0 to 1."""
    from rouge_score.scoring import fmeasure

    scores = {kind: float(score.fmeasure) for kind, score in _by_ngrams().score(reference, words).items()}
    common = longest_common_subsequence(reference, words)
    longest = fmeasure(common / len(words), common / len(reference)) if reference and words else 0.0
    return scores | {KINDS[2]: float(longest)}


def rouge(reference: str, text: str) -> dict[str, float]:
    """The F-measures of ROUGE-1, ROUGE-2 and ROUGE-L (longest common subsequence of the whole text), 0 to 1."""
    return rouge_of_words(rouge_words(reference), rouge_words(text))
