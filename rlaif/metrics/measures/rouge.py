"""ROUGE-1, ROUGE-2 and ROUGE-L of reports."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.measures.by_report import ByReport, as_rows
from rlaif.metrics.measures.measured import Measure, Measured, ReportPair, Signature, from_values
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.metrics.rouge import KINDS, rouge_of_words, rouge_words


def measure(settings: MetricSettings) -> Measure:
    """`rouge1`, `rouge2` and `rougeL`: the mean F-measure; a reference without any word that ROUGE knows has none."""
    return ByReport(_rows, _measured)


def _rows(pairs: Sequence[ReportPair]) -> NDArray[np.float64]:
    rows = []
    for pair in pairs:
        reference = rouge_words(pair.reference)
        scores = rouge_of_words(reference, rouge_words(pair.candidate)) if reference else {}
        rows.append([scores.get(kind, np.nan) for kind in KINDS])
    return as_rows(rows, len(KINDS))


def _measured(rows: NDArray[np.float64]) -> list[Measured]:
    library = f"rouge-score {version('rouge-score')}"
    words = "a-z and 0-9 in lower case, Porter stems of words over 3 letters"
    settings = {"rougeL": "F-measure of the whole text, not by sentence"}
    return [
        from_values(kind, Signature(library, words, "sample_mean", settings.get(kind, "F-measure")), rows[:, place])
        for place, kind in enumerate(KINDS)
    ]
