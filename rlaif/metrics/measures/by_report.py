"""A metric whose reports are each measured on their own, so that processes can share them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.measures.measured import Measured, ReportPair

Rows = Callable[[Sequence[ReportPair]], NDArray[np.float64]]


@dataclass(frozen=True)
class ByReport:
    """A `Measure` in two steps: numbers for each report, and the metrics that they give.

    `rows` gives float64 `[reports, numbers]`, each row from its own report alone; it can be pickled. `measured` takes
    the rows of all reports.
    """

    rows: Rows
    measured: Callable[[NDArray[np.float64]], list[Measured]]

    def __call__(self, pairs: Sequence[ReportPair]) -> list[Measured]:
        return self.measured(self.rows(pairs))


def as_rows(rows: Sequence[Sequence[float]], width: int) -> NDArray[np.float64]:
    """Rows of numbers as float64 `[reports, width]`, also where there are none."""
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)
