"""How long reports are, and how far their lengths are from the references'."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.measures.measured import Measure, Measured, ReportPair, Signature, from_sums, from_values
from rlaif.metrics.measures.settings import MetricSettings

# Bins of 20 words from 0 to 500; what is longer is in the last.
BIN_WORDS = 20
BINS = 26
_LIBRARY = "rlaif"
_WORDS = "white space"


def measure(settings: MetricSettings) -> Measure:
    """`report_words`, the mean number of words, and `length_kl`, in nats; reports without reference have no part in it.

    `length_kl` is the Kullback-Leibler divergence of the candidates' histogram from the references', one added to
    every bin. Histograms of sets with repetitions are rougher than the list's, and so further from each other.
    """
    return _lengths


def _lengths(pairs: Sequence[ReportPair]) -> list[Measured]:
    words = np.array([len(pair.candidate.split()) for pair in pairs], dtype=np.float64)
    references, candidates = _in_bins(pairs)
    settings = f"bins of {BIN_WORDS} words to {BIN_WORDS * (BINS - 1)}, one open; one added to each; nats, 0 or more"
    divergence = from_sums(
        "length_kl",
        Signature(_LIBRARY, _WORDS, "distribution", settings),
        np.hstack((references, candidates)),
        _divergence,
        counted=references.sum(axis=1) > 0,
    )
    return [
        from_values("report_words", Signature(_LIBRARY, _WORDS, "sample_mean", "words"), words),
        replace(divergence, repeats=False),
    ]


def _in_bins(pairs: Sequence[ReportPair]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ones where reports have their bins: references and candidates, float64 `[reports, bins]` each."""
    references, candidates = np.zeros((len(pairs), BINS)), np.zeros((len(pairs), BINS))
    for place, pair in enumerate(pairs):
        if words := len(pair.reference.split()):
            references[place, min(words // BIN_WORDS, BINS - 1)] = 1
            candidates[place, min(len(pair.candidate.split()) // BIN_WORDS, BINS - 1)] = 1
    return references, candidates


def _divergence(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    references, candidates = sums[:, :BINS], sums[:, BINS:]
    reports = references.sum(axis=1, keepdims=True)
    expected, found = ((counts + 1) / (reports + BINS) for counts in (references, candidates))
    divergence = np.sum(found * np.log(found / expected), axis=1)
    return np.where(reports[:, 0] > 0, divergence, np.nan)
