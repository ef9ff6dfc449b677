"""What a metric of generated reports gives: its value over any set of the reports, and how it was computed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Aggregation = Literal["corpus", "sample_mean", "micro", "macro", "distribution"]


@dataclass(frozen=True)
class ReportPair:
    """A generated report beside the radiologist's, and the findings known to be present where somebody labelled them.

    `labels` are written `name` or `name/side`, as in `Study`; None where nobody labelled the study. `regions` are those
    that the prompt asked for.
    """

    reference: str
    candidate: str
    labels: tuple[str, ...] | None = None
    regions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """How a number came to be: two numbers can be compared where all of this is the same."""

    library: str
    """Package and version, such as `sacrebleu 2.6.0`."""
    tokenisation: str
    aggregation: Aggregation
    settings: str = ""

    def __str__(self) -> str:
        parts = (self.library, f"tokens: {self.tokenisation}", self.aggregation.replace("_", " "), self.settings)
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True)
class Measured:
    """A metric on a list of reports.

    `over` takes weights, float64 `[sets, reports]` (how often each report stands in each set), and gives the metric of
    each set, float64 `[sets]`, NaN where it is not defined. `values` are the reports' own, float64 `[reports]`, NaN
    where a report has none; None for figures that only a whole set has. `n` reports count, those of `counted` (bool
    `[reports]`; None: those that have a value, or all). `repeats`: a report that
    stands twice in a set counts as two like it would; where not, as in the number of distinct n-grams, resamples with
    repetitions say nothing, and intervals are jackknifed.
    """

    name: str
    signature: Signature
    over: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    values: NDArray[np.float64] | None
    n: int
    repeats: bool = True
    counted: NDArray[np.bool_] | None = None

    @property
    def counts(self) -> NDArray[np.bool_] | None:
        """Which reports count, bool `[reports]`; None: all."""
        if self.counted is None and self.values is not None:
            return np.isfinite(self.values)
        return self.counted


Measure = Callable[[Sequence[ReportPair]], list[Measured]]


def from_values(name: str, signature: Signature, values: NDArray[np.float64]) -> Measured:
    """The mean of the reports' own values, float64 `[reports]`; those that are NaN do not count."""
    counted = np.isfinite(values)
    filled = np.where(counted, values, 0.0)

    def over(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: NDArray[np.float64] = (weights @ filled) / (weights @ counted.astype(np.float64))
        return mean

    return Measured(name, signature, over, values, int(counted.sum()))


def from_sums(
    name: str,
    signature: Signature,
    rows: NDArray[np.float64],
    combine: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    values: NDArray[np.float64] | None = None,
    counted: NDArray[np.bool_] | None = None,
) -> Measured:
    """A metric of sums over reports: `rows` is float64 `[reports, numbers]`, `combine` takes sums `[sets, numbers]`."""
    n = len(rows) if counted is None else int(counted.sum())
    return Measured(name, signature, lambda weights: combine(weights @ rows), values, n, counted=counted)
