"""What reports say of findings, by the rules that read them: the metrics of one report, as a run's summary has them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlaif.judges.rules import VERSION
from rlaif.metrics.measures.by_report import ByReport, as_rows
from rlaif.metrics.measures.measured import Measure, Measured, ReportPair, Signature, from_values
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.metrics.report_metrics import region_metrics, report_metrics
from rlaif.reports.region_reports import without_region_prefixes

NAMES = ("rules_score", "finding_f1", "hallucinated", "omitted")
REGIONS = "region_recognition"
_SETTINGS = {
    "rules_score": "matched / (matched + significant errors)",
    "finding_f1": "name and side, against labels where there are any, else the reference",
    "hallucinated": "findings a report; against labels where there are any, else the reference",
    "omitted": "findings a report; against labels where there are any, else the reference",
    REGIONS: "share of the asked regions that are named rightly",
}


def measure(settings: MetricSettings) -> Measure:
    """`rules_score`, `finding_f1`, `hallucinated`, `omitted`, and `region_recognition` where regions were asked for.

    `hallucinated` and `omitted` are findings a report, the others 0 to 1; see `report_metrics` for what has no value:
    an empty candidate has no rules score, and a report that nothing can be held against has none but its regions.
    """
    return ByReport(_rows, _measured)


def _rows(pairs: Sequence[ReportPair]) -> NDArray[np.float64]:
    rows = []
    for pair in pairs:
        text = without_region_prefixes(pair.candidate) if pair.regions else pair.candidate
        found = report_metrics(pair.reference, pair.labels, text) | region_metrics(pair.regions, pair.candidate)
        rows.append([found.get(name, np.nan) for name in (*NAMES, REGIONS)])
    return as_rows(rows, len(NAMES) + 1)


def _measured(rows: NDArray[np.float64]) -> list[Measured]:
    measured = [
        from_values(name, Signature(VERSION, "rlaif.reports", "sample_mean", _SETTINGS[name]), rows[:, place])
        for place, name in enumerate((*NAMES, REGIONS))
    ]
    return [one for one in measured if one.n or one.name != REGIONS]
