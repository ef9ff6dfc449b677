"""A mean of metrics over reports that do not all count in each of them."""

import numpy as np
import pytest

from rlaif.metrics.measures.measured import Measured, Signature, from_values
from rlaif.metrics.measures.statistics import Reported, interval_of
from rlaif.metrics.published import PublishedColumn, PublishedTable
from rlaif.metrics.published_means import means_for


def metric(name: str, *values: float) -> Measured:
    return from_values(name, Signature("made up 1", "words", "sample_mean"), np.array(values))


def test_every_part_is_of_the_reports_that_count_in_each() -> None:
    columns = (PublishedColumn(label="Mean", metric="nlp_mean", mean_of=("rouge1", "meteor")),)
    table = PublishedTable.model_construct(columns=columns)
    parts = {"rouge1": metric("rouge1", 0.2, 0.4, 0.9), "meteor": metric("meteor", 0.6, np.nan, 1.0)}
    (mean,) = means_for(table, parts).values()
    # Of rouge1 the mean is 0.55, not 0.5 as of all three.
    assert mean.over(np.array([[1.0, 1.0, 1.0], [1.0, 5.0, 0.0]])) == pytest.approx([(0.55 + 0.8) / 2, 0.4])
    interval = interval_of(Reported(mean, ["p", "q", "r"], ["a", "b", "c"]), resamples=50)
    assert interval is not None and interval.mean == pytest.approx(0.675) and interval.n == 2
