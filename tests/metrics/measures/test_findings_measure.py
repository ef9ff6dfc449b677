"""The metrics of findings over lists of reports are those of each report."""

import numpy as np
import pytest

from rlaif.metrics.measures.findings import measure
from rlaif.metrics.measures.measured import ReportPair
from rlaif.metrics.measures.settings import MetricSettings

EFFUSION = "There is a left pleural effusion. There is a 12 mm nodule in the right upper lobe."


def test_by_hand_and_at_the_edges(metric_settings: MetricSettings) -> None:
    pairs = [
        ReportPair(EFFUSION, EFFUSION),
        # One of two findings, and one that is not there.
        ReportPair(EFFUSION, "There is a left pleural effusion. There is severe emphysema."),
        ReportPair(EFFUSION, ""),
        ReportPair("", EFFUSION),
        ReportPair("", "There is a left pleural effusion.", labels=("pleural effusion/left",)),
        ReportPair("肺清晰", "肺清晰"),
    ]
    found = {one.name: one for one in measure(metric_settings)(pairs)}
    assert list(found) == ["rules_score", "finding_f1", "hallucinated", "omitted"]
    # An empty candidate is no score; without reference and labels there is nothing to hold against.
    assert found["rules_score"].values == pytest.approx([1, 1 / 3, np.nan, np.nan, np.nan, 1], nan_ok=True)
    assert found["finding_f1"].values == pytest.approx([1, 1 / 2, 0, np.nan, 1, 1], nan_ok=True)
    assert found["hallucinated"].values == pytest.approx([0, 1, 0, np.nan, 0, 0], nan_ok=True)
    assert found["omitted"].values == pytest.approx([0, 1, 2, np.nan, 0, 0], nan_ok=True)
    assert found["finding_f1"].n == 5


def test_regions_that_the_prompt_asked_for(metric_settings: MetricSettings) -> None:
    told = "The region 0 is heart: The heart is enlarged. The region 1 is bone: No fracture."
    pairs = [
        ReportPair("The heart is enlarged. No fracture.", told, regions=("heart", "lung")),
        ReportPair("The heart is enlarged.", "The heart is enlarged."),
    ]
    found = {one.name: one for one in measure(metric_settings)(pairs)}
    assert found["region_recognition"].values == pytest.approx([1 / 2, np.nan], nan_ok=True)
    assert found["region_recognition"].n == 1
    assert found["rules_score"].values == pytest.approx([1, 1])
