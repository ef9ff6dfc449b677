"""What runs measured on their held-out patients, as rows that stand beside a published table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rlaif.config import Config
from rlaif.metrics.ablation import AblationRun
from rlaif.metrics.heldout_scores import scored_reports
from rlaif.metrics.intervals import bootstrap
from rlaif.metrics.measures.choice import chosen, measure_all, processes_here
from rlaif.metrics.measures.measured import ReportPair
from rlaif.metrics.measures.statistics import Reported, interval_of
from rlaif.metrics.published_means import means_for
from rlaif.metrics.published_rows import MeasuredRow, measured_data
from rlaif.metrics.regimes import MeasuredPolicy
from rlaif.records import NOT_WRITTEN, HeldoutReport, Study
from rlaif.reports.region_reports import without_region_prefixes
from rlaif.tables import Table


def check_metrics(config: Config) -> None:
    """Raises NotAvailable where a table is to be filled by a metric that `score.metrics` names and that cannot run."""
    if config.table is not None:
        chosen(config.score.metrics)


def ablation_rows(runs: Sequence[AblationRun], config: Config) -> list[MeasuredRow]:
    """The base that all runs of an ablation have in common, and each run's last policy."""
    data = measured_data(config.data)
    policies = [("base", runs[0].folder / "heldout" / "base")]
    for run in runs:
        last = max((path for path in (run.folder / "heldout").glob("round-*") if path.is_dir()), default=None)
        policies += [(f"{run.judge}, {run.pairs}, seed {run.seed}", last)] if last is not None else []
    return [_row(label, folder, data, config) for label, folder in policies]


def regime_rows(tables: Mapping[str, Sequence[MeasuredPolicy]], config: Config) -> list[MeasuredRow]:
    """Every policy of the comparison's tables by title; a title begins with the name of its data set."""
    return [
        _row(one.name, one.folder, named.group() if (named := re.match(r"\w+", title)) else None, config)
        for title, policies in tables.items()
        for one in policies
    ]


def _row(label: str, folder: Path, data: str | None, config: Config) -> MeasuredRow:
    """The metrics of a policy's held-out reports (`<run>/heldout/<policy>`) with intervals by patient.

    Those that can be computed, and what the run itself has of each report, such as its judges' scores. A prompt that
    left no room for a report does not count.
    """
    rows = [
        one
        for one in scored_reports(folder.parents[1], folder.name)
        if not one.control and one.finish_reason != NOT_WRITTEN
    ]
    patients, cases = [one.patient_id for one in rows], [one.case_id for one in rows]
    labels = _labels(folder.parents[1], {one.study_id for one in rows})
    pairs = [
        ReportPair(one.reference or "", without_region_prefixes(one.text), labels.get(one.study_id)) for one in rows
    ]
    measured, _ = measure_all(pairs, config.score.metrics, processes=processes_here())
    means = {} if config.table is None else means_for(config.table, measured)
    resamples = config.heldout.resamples
    metrics = _own(rows, resamples)
    for name, one in (measured | means).items():
        interval = interval_of(Reported(one, patients, cases), resamples=resamples)
        if interval is not None:
            # The run's own value stands first: which regions were asked for is not beside the text.
            metrics.setdefault(name, asdict(interval))
    return MeasuredRow(label, metrics, data)


def _labels(run: Path, studies: set[str]) -> dict[str, tuple[str, ...]]:
    """The findings that the run's data set says of these studies, as jobs/score.py has them; those without any lack."""
    table = Table(run / "studies", Study).arrow(["study_id", "labels"])
    return {
        row["study_id"]: tuple(row["labels"])
        for row in table.filter(pc.is_in(table["study_id"], pa.array(sorted(studies), pa.string()))).to_pylist()
        if row["labels"] is not None
    }


def _own(rows: Sequence[HeldoutReport], resamples: int) -> dict[str, dict[str, Any]]:
    metrics: dict[str, dict[str, Any]] = {}
    for name in sorted({name for one in rows for name in one.metrics}):
        have = [one for one in rows if name in one.metrics]
        values, patients = [one.metrics[name] for one in have], [one.patient_id for one in have]
        metrics[name] = asdict(bootstrap(values, patients, resamples=resamples))
    return metrics
