"""ROUGE of a report against its reference, as the `rouge-score` package computes it."""

from functools import cache
from typing import Any

KINDS = ("rouge1", "rouge2", "rougeL")


@cache
def _scorer() -> Any:
    # Its stemmer takes a second to import.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(KINDS, use_stemmer=True)


def rouge(reference: str, text: str) -> dict[str, float]:
    """The F-measures of ROUGE-1, ROUGE-2 and ROUGE-L (longest common subsequence of the whole text), 0 to 1."""
    return {kind: float(score.fmeasure) for kind, score in _scorer().score(reference, text).items()}
