"""What the tests of metrics share."""

import pytest

from rlaif.metrics.measures.settings import MetricSettings


@pytest.fixture
def metric_settings() -> MetricSettings:
    """All metrics that can be computed, with nothing of one's own."""
    return MetricSettings(
        names=None, wordnet=None, bert_score=None, bert_score_layer=None, ratescore=None, radgraph=None, radbert=None
    )
