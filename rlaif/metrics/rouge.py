"""ROUGE of a report against its reference, as the `rouge-score` package computes it."""

from collections import Counter
from collections.abc import Sequence

from rlaif.metrics.stems import RememberedStems

KINDS = ("rouge1", "rouge2", "rougeL")


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
    shared = [_shared_ngrams(reference, words, order) for order in (1, 2)]
    longest = longest_common_subsequence(reference, words)
    return {
        KINDS[0]: _f_measure(shared[0], len(reference), len(words)),
        KINDS[1]: _f_measure(shared[1], len(reference) - 1, len(words) - 1),
        KINDS[2]: _f_measure(longest, len(reference), len(words)),
    }


def _shared_ngrams(first: list[str], second: list[str], order: int) -> int:
    ngrams = [Counter(zip(*(words[start:] for start in range(order)), strict=False)) for words in (first, second)]
    return (ngrams[0] & ngrams[1]).total()


def _f_measure(shared: int, in_reference: int, in_text: int) -> float:
    from rouge_score.scoring import fmeasure

    return float(fmeasure(shared / max(in_text, 1), shared / max(in_reference, 1)))


def rouge(reference: str, text: str) -> dict[str, float]:
    """The F-measures of ROUGE-1, ROUGE-2 and ROUGE-L (longest common subsequence of the whole text), 0 to 1."""
    return rouge_of_words(rouge_words(reference), rouge_words(text))
