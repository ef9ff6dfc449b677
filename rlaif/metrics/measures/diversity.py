"""How varied the reports of a set are, whatever the references say: a policy that writes one report shows here."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.measures.measured import Measure, Measured, ReportPair, Signature
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.metrics.measures.tokens_13a import tokeniser_13a

ORDERS = (1, 2, 3)
# Numbers of a dense table that is held at once.
_HELD = 1 << 23


def measure(settings: MetricSettings) -> Measure:
    """`distinct_1` to `distinct_3` (Li et al. 2016), and `same_report`, the share of the most frequent text.

    `distinct_n` is the number of distinct n-grams of a set over all its n-grams. It falls with the size of the set:
    compare sets of the same size. A set that holds a report twice, as resampled ones do, has no new n-grams for it.
    """
    return _diversity


def _diversity(pairs: Sequence[ReportPair]) -> list[Measured]:
    import sacrebleu

    words = [_words(pair.candidate) for pair in pairs]
    library, tokens = f"rlaif, sacrebleu {sacrebleu.__version__} (tokens)", "13a, lower case"
    measured = [
        Measured(
            f"distinct_{order}",
            Signature(library, tokens, "corpus", "distinct n-grams / all n-grams"),
            _distinct([list(_ngrams(one, order)) for one in words]),
            None,
            len(pairs),
            repeats=False,
        )
        for order in ORDERS
    ]
    texts = Signature("rlaif", "whole texts, white space as one blank", "corpus", "reports of the most frequent text")
    return [*measured, Measured("same_report", texts, _most_frequent(pairs), None, len(pairs), repeats=False)]


def _words(text: str) -> list[str]:
    return str(tokeniser_13a()(text)).lower().split()


def _ngrams(words: Sequence[str], order: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(order)), strict=False)


def _incidence(reports: Sequence[Sequence[Hashable]]) -> tuple[Any, NDArray[np.float64]]:
    """Which reports things stand in: a sparse matrix float64 `[groups, reports]`, and how many things each group has.

    Things that stand in the same reports are one group: most n-grams are one report's own, or a sentence's.
    """
    from scipy.sparse import csr_array

    where: dict[Hashable, list[int]] = {}
    for place, things in enumerate(reports):
        for thing in set(things):
            where.setdefault(thing, []).append(place)
    groups = Counter(map(tuple, where.values()))
    starts = np.cumsum([0, *map(len, groups)])
    columns = np.array([place for group in groups for place in group], dtype=np.int64)
    matrix = csr_array((np.ones(len(columns)), columns, starts), shape=(len(groups), len(reports)))
    return matrix, np.array(list(groups.values()), dtype=np.float64)


def _distinct(ngrams: Sequence[Sequence[tuple[str, ...]]]) -> Any:
    matrix, sizes = _incidence(ngrams)
    totals = np.array([len(one) for one in ngrams], dtype=np.float64)
    return partial(_distinct_over, matrix, sizes, totals)


def _distinct_over(
    matrix: Any, sizes: NDArray[np.float64], totals: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    found = np.zeros(len(weights))
    step = max(1, _HELD // max(1, len(sizes)))
    for start in range(0, len(weights), step):
        present = (weights[start : start + step] > 0).astype(np.float64)
        found[start : start + step] = sizes @ (matrix @ present.T > 0)
    with np.errstate(invalid="ignore"):
        share: NDArray[np.float64] = found / (weights @ totals)
    return share


def _most_frequent(pairs: Sequence[ReportPair]) -> Any:
    from scipy.sparse import csr_array

    numbers: dict[str, int] = {}
    texts = [numbers.setdefault(" ".join(pair.candidate.split()), len(numbers)) for pair in pairs]
    cells = (np.ones(len(texts)), (texts, range(len(texts))))
    return partial(_most_frequent_over, csr_array(cells, shape=(len(numbers), len(texts))))


def _most_frequent_over(matrix: Any, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    most = np.array([np.max(matrix @ one, initial=0.0) for one in weights])
    with np.errstate(invalid="ignore"):
        share: NDArray[np.float64] = most / weights.sum(axis=1)
    return share
