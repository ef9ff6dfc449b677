"""CIDEr of reports, by pycocoevalcap."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from rlaif.metrics.measures.measured import Measure, Measured, ReportPair, Signature, from_values
from rlaif.metrics.measures.settings import MetricSettings, NotAvailable


def measure(settings: MetricSettings) -> Measure:
    """`cider` (Vedantam et al. 2015): the mean over reports, 0 to 10, without the PTB tokeniser as Reg2RG takes it.

    The document frequencies are those of all references of the list; sets that are drawn from it keep them. One
    reference alone gives 0: each of its n-grams is in every document. Reports without reference do not count.
    Raises NotAvailable without pycocoevalcap.
    """
    try:
        library = f"pycocoevalcap {version('pycocoevalcap')}"
    except PackageNotFoundError:
        raise NotAvailable("CIDEr needs pycocoevalcap: pip install pycocoevalcap==1.2") from None
    signature = Signature(
        library,
        "white space, mixed case",
        "sample_mean",
        "scale 0 to 10; orders 1 to 4; sigma 6; document frequencies of all references",
    )

    def cider(pairs: Sequence[ReportPair]) -> list[Measured]:
        from pycocoevalcap.cider.cider import Cider

        values = np.full(len(pairs), np.nan)
        counted = [place for place, pair in enumerate(pairs) if pair.reference.strip()]
        if counted:
            references = {place: [pairs[place].reference] for place in counted}
            candidates = {place: [pairs[place].candidate] for place in counted}
            values[counted] = Cider().compute_score(references, candidates)[1]
        return [from_values("cider", signature, values)]

    return cider
