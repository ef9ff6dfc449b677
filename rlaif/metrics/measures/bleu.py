"""BLEU of a corpus, and as the mean over reports, from sacrebleu's own counts."""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.measures.by_report import ByReport, as_rows
from rlaif.metrics.measures.measured import Measure, Measured, ReportPair, Signature, from_sums, from_values
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.metrics.measures.tokens_13a import tokeniser_13a

ORDERS = (1, 2, 3, 4)
_LONGEST = ORDERS[-1]
# Words of candidate and reference, matched n-grams of each order, the candidate's n-grams of each order.
_WIDTH = 2 + 2 * _LONGEST


def measure(settings: MetricSettings) -> Measure:
    """`bleu_1` to `bleu_4`, and `bleu_1_sample_mean` to `bleu_4_sample_mean`; reports without reference do not count.

    The first are sacrebleu's, of the corpus (Post 2018, A call for clarity in reporting BLEU scores), over 100. The
    others are the mean of the reports' own BLEU as Reg2RG takes it (Hugging Face evaluate's `bleu` with `smooth=True`:
    one is added to matches and totals of every order); there an empty candidate has 0.
    """
    return ByReport(_rows, _measured)


@cache
def _sentence_bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    # Without effective order sacrebleu warns of sentences; only its counts are taken.
    bleu = BLEU(max_ngram_order=_LONGEST, effective_order=True)
    bleu.tokenizer = tokeniser_13a()
    return bleu


def _rows(pairs: Sequence[ReportPair]) -> NDArray[np.float64]:
    rows = []
    for pair in pairs:
        if pair.reference.strip():
            score = _sentence_bleu().sentence_score(pair.candidate, [pair.reference])
            rows.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
        else:
            rows.append([np.nan] * _WIDTH)
    return as_rows(rows, _WIDTH)


def _measured(rows: NDArray[np.float64]) -> list[Measured]:
    counted = np.isfinite(rows[:, 0])
    sums = np.where(counted[:, None], rows, 0.0)
    corpus = [
        from_sums(f"bleu_{order}", _signature(order), sums, partial(_of_corpus, order), counted=counted)
        for order in ORDERS
    ]
    means = [
        from_values(f"bleu_{order}_sample_mean", _mean_signature(order), _of_reports(order, rows)) for order in ORDERS
    ]
    return [*corpus, *means]


def _of_corpus(order: int, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """sacrebleu's BLEU of sums `[sets, numbers]`, NaN for a set without references."""
    from sacrebleu.metrics.bleu import BLEU

    scores = np.full(len(sums), np.nan)
    for place, (words, reference_words, *counts) in enumerate(sums.tolist()):
        if reference_words:
            matched, total = counts[:order], counts[_LONGEST : _LONGEST + order]
            score = BLEU.compute_bleu(
                matched, total, int(words), int(reference_words), smooth_method="exp", max_ngram_order=order
            )
            scores[place] = score.score / 100
    return scores


def _of_reports(order: int, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smoothed BLEU of each report, float64 `[reports]`."""
    words, reference_words = rows[:, 0], rows[:, 1]
    matched, total = rows[:, 2 : 2 + order], rows[:, 2 + _LONGEST : 2 + _LONGEST + order]
    precision = np.exp(np.mean(np.log((matched + 1) / (total + 1)), axis=1))
    with np.errstate(divide="ignore"):
        brevity = np.exp(np.minimum(0.0, 1 - reference_words / words))
    return precision * brevity


@cache
def _signature(order: int) -> Signature:
    import sacrebleu
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(max_ngram_order=order)
    # Its signature is known once it has seen how many references a report has.
    bleu.corpus_score(["clear"], [["clear"]])
    settings = f"{bleu.get_signature()}; orders 1 to {order}; / 100"
    return Signature(f"sacrebleu {sacrebleu.__version__}", "13a", "corpus", settings)


def _mean_signature(order: int) -> Signature:
    import sacrebleu

    settings = f"mixed case; orders 1 to {order}; one added to matches and totals of every order"
    return Signature(f"sacrebleu {sacrebleu.__version__} (counts)", "13a", "sample_mean", settings)
