"""METEOR of reports, by NLTK with WordNet's synonyms."""

import re
from collections.abc import Sequence
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.measures.by_report import ByReport, as_rows
from rlaif.metrics.measures.measured import Measure, Measured, ReportPair, Signature, from_values
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.metrics.measures.wordnet import synonyms, wordnet_folder, wordnet_version
from rlaif.metrics.stems import RememberedStems

# Hugging Face evaluate's defaults, which Reg2RG, M3D and their followers use.
ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+")
# Reports share most of their sentences.
_REMEMBERED = 1 << 16


def measure(settings: MetricSettings) -> Measure:
    """`meteor` (Lavie and Agarwal 2007): the mean over reports; a reference without words has none.

    As NLTK has it, synonyms are looked up by stem: those of words that their stem spells otherwise are missed.
    Raises NotAvailable where WordNet is missing.
    """
    folder = wordnet_folder(settings.wordnet)
    return ByReport(partial(_rows, folder), partial(_measured, folder))


def _rows(folder: str, pairs: Sequence[ReportPair]) -> NDArray[np.float64]:
    from nltk.translate.meteor_score import single_meteor_score

    meteor = partial(
        single_meteor_score, stemmer=RememberedStems(), wordnet=synonyms(folder), alpha=ALPHA, beta=BETA, gamma=GAMMA
    )
    rows = []
    for pair in pairs:
        reference = meteor_words(pair.reference)
        rows.append([meteor(reference, meteor_words(pair.candidate)) if reference else np.nan])
    return as_rows(rows, 1)


def _measured(folder: str, rows: NDArray[np.float64]) -> list[Measured]:
    import nltk

    signature = Signature(
        f"nltk {nltk.__version__}, WordNet {wordnet_version(folder)}",
        "NLTKWordTokenizer of sentences, which end at . ! ? before white space; lower case",
        "sample_mean",
        f"alpha {ALPHA:g}, beta {BETA:g}, gamma {GAMMA:g}; Porter stems",
    )
    return [from_values("meteor", signature, rows[:, 0])]


def meteor_words(text: str) -> list[str]:
    """A report's words and signs, by NLTK's Treebank tokeniser.

    It expects single sentences, which end at `.`, `!` or `?` before white space. Hugging Face finds them with Punkt's
    model instead, a download; the two differ at abbreviations.
    """
    return [word for sentence in _BETWEEN_SENTENCES.split(text) for word in _words_of(sentence)]


@lru_cache(_REMEMBERED)
def _words_of(sentence: str) -> tuple[str, ...]:
    return tuple(_tokeniser().tokenize(sentence))


@cache
def _tokeniser() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()
