"""Columns of published tables that are a mean of several metrics, as metrics with intervals of their own."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.measures.measured import Measured, Signature
from rlaif.metrics.published import PublishedTable


def means_for(table: PublishedTable, measured: Mapping[str, Measured]) -> dict[str, Measured]:
    """The metrics that a table's columns have as a mean of others, by name, where all of these are measured.

    Such as Argus' average of nine metrics (Table 2). All must be of the same reports; those count that count in each.
    """
    means = {}
    for column in table.columns:
        parts = [measured[name] for name in column.mean_of if name in measured]
        if column.metric is not None and parts and len(parts) == len(column.mean_of):
            means[column.metric] = _mean_of(column.metric, parts)
    return means


def _mean_of(name: str, parts: Sequence[Measured]) -> Measured:
    import xxhash

    counts = [one.counts for one in parts if one.counts is not None]
    counted = np.logical_and.reduce(counts) if counts else None

    def over(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        common = weights if counted is None else weights * counted
        mean: NDArray[np.float64] = np.mean([one.over(common) for one in parts], axis=0)
        return mean

    # Parts that were computed in another way, or CIDEr of other references, make another number.
    checksum = xxhash.xxh3_64("\0".join(str(one.signature) for one in parts).encode()).hexdigest()
    settings = f"mean of {', '.join(one.name for one in parts)} (signatures: xxh3 {checksum})"
    libraries = ", ".join(dict.fromkeys(one.signature.library for one in parts))
    signature = Signature(libraries, "each its own", "corpus", settings)
    n = min(one.n for one in parts) if counted is None else int(counted.sum())
    return Measured(name, signature, over, None, n, all(one.repeats for one in parts), counted)
