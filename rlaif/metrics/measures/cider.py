"""CIDEr of reports, by pycocoevalcap."""

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.measures.measured import Measure, Measured, ReportPair, Signature, from_values
from rlaif.metrics.measures.settings import MetricSettings, NotAvailable


def measure(settings: MetricSettings) -> Measure:
    """`cider` (Vedantam et al. 2015): the mean over reports, 0 to 10, without the PTB tokeniser as Reg2RG takes it.

    The document frequencies are those of all references of the list; sets that are drawn from it keep them, and the
    signature has their number and checksum: numbers of other references are on another scale. One reference alone gives
    0: each of its n-grams is in every document. Reports without reference do not count. Raises NotAvailable without
    pycocoevalcap.
    """
    try:
        library = f"pycocoevalcap {version('pycocoevalcap')}"
    except PackageNotFoundError:
        raise NotAvailable("CIDEr needs pycocoevalcap: pip install pycocoevalcap==1.2") from None

    def cider(pairs: Sequence[ReportPair]) -> list[Measured]:
        scorer, values = _scorer(), np.full(len(pairs), np.nan)
        counted = [place for place, pair in enumerate(pairs) if pair.reference.strip()]
        for place in counted:
            scorer += (pairs[place].candidate, [pairs[place].reference])
        if counted:
            values[counted] = scorer.compute_score()[1]
        return [from_values("cider", _signature(library, [pairs[place].reference for place in counted]), values)]

    return cider


def _signature(library: str, references: Sequence[str]) -> Signature:
    """Names the references, whatever their order: document frequencies do not depend on it."""
    import xxhash

    checksum = xxhash.xxh3_64("\0".join(sorted(references)).encode()).hexdigest()
    return Signature(
        library,
        "white space, mixed case",
        "sample_mean",
        "scale 0 to 10; orders 1 to 4; sigma 6; "
        f"document frequencies of all {len(references)} references (xxh3 {checksum})",
    )


def _scorer() -> Any:
    """pycocoevalcap's scorer, which counts and weighs the n-grams of a report all at once, not one by one."""
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    class Scorer(CiderScorer):
        def cook_append(self, test: str | None, refs: list[str] | None) -> None:
            if test is not None and refs is not None:
                self.ctest.append(self.ngrams(test))
                self.crefs.append([self.ngrams(one) for one in refs])

        def ngrams(self, text: str) -> Counter[tuple[str, ...]]:
            words, counts = text.split(), Counter[tuple[str, ...]]()
            for order in range(1, self.n + 1):
                counts.update(zip(*(words[start:] for start in range(order)), strict=False))
            return counts

        def compute_cider(self) -> list[float]:
            documents = float(np.log(len(self.crefs)))
            return [self.one(documents, *counts) for counts in zip(self.ctest, self.crefs, strict=True)]

        def one(self, documents: float, candidate: dict[tuple[str, ...], int], references: list[Any]) -> float:
            (reference,) = references
            orders, weights, norms, bigrams = self.weighed(documents, candidate)
            _, reference_weights, reference_norms, reference_bigrams = self.weighed(documents, reference)
            by_ngram = dict(zip(reference, reference_weights.tolist(), strict=True))
            theirs = np.array([by_ngram.get(ngram, 0.0) for ngram in candidate])
            shared = np.bincount(orders, np.minimum(weights, theirs) * theirs, minlength=self.n)
            norms = norms * reference_norms
            cosines = np.divide(shared, norms, out=np.zeros(self.n), where=norms != 0)
            length = np.exp(-((bigrams - reference_bigrams) ** 2) / (2 * self.sigma**2))
            return float(10 * np.mean(cosines * length))

        def weighed(
            self, documents: float, counts: dict[tuple[str, ...], int]
        ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], float]:
            """The n-grams' orders from 0 and tf-idf weights, each order's norm, and how many bigrams there are."""
            orders = np.array([len(ngram) - 1 for ngram in counts], dtype=np.int64)
            times = np.array(list(counts.values()), dtype=np.float64)
            frequencies = np.array([self.document_frequency.get(ngram, 0.0) for ngram in counts])
            weights = times * (documents - np.log(np.maximum(frequencies, 1.0)))
            norms = np.sqrt(np.bincount(orders, weights**2, minlength=self.n))
            return orders, weights, norms, float(times[orders == 1].sum())

    return Scorer()
