"""Sets of generated reports and what the metrics and judges make of them: values, intervals, differences, pools."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlaif.metrics.measures.choice import measure_all
from rlaif.metrics.measures.measured import Measured, ReportPair, Signature, from_values
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.metrics.measures.statistics import Reported, difference_of, interval_of, pooled_of
from rlaif.metrics.published import PublishedTable
from rlaif.metrics.published_means import means_for
from rlaif.records import NOT_WRITTEN, Judgement
from rlaif.tables import Table

RULES = "rules"
SUMMARY = "score.json"
REPORTS = "reports"
JUDGING = "judging"


class ScoredSetsError(ValueError):
    """Another run whose reports cannot be compared or pooled: the message says which, and what to do."""


@dataclass(frozen=True)
class ScoredReport:
    """A generated report with what it is held against; where `regions` were asked for, they head its sentences."""

    report_id: str
    case_id: str
    patient_id: str
    reference: str | None
    text: str
    labels: tuple[str, ...] | None
    regions: tuple[str, ...]
    finish_reason: str


@dataclass(frozen=True)
class ReportSet:
    """Reports of one origin, with what every metric and judge makes of them."""

    measured: dict[str, Reported]
    missing: dict[str, str]
    """Metrics that could not be computed, with the reason."""
    reports: int
    cases: int


def written(reports: Sequence[ScoredReport]) -> list[ScoredReport]:
    """Without the rows of prompts that left no room for a report: those say nothing of the policy."""
    return [one for one in reports if one.finish_reason != NOT_WRITTEN]


def measured_set(
    reports: Sequence[ScoredReport],
    scores: Sequence[Mapping[str, Any]],
    settings: MetricSettings,
    table: PublishedTable | None = None,
    *,
    processes: int,
) -> ReportSet:
    """A set with its metrics, its judges' scores, and the means that a published table has of several metrics; `scores`
    are rows of judgements.
    """
    pairs = [ReportPair(one.reference or "", one.text, one.labels, one.regions) for one in reports]
    measured, missing = measure_all(pairs, settings, processes=processes)
    patients, cases = [one.patient_id for one in reports], [one.case_id for one in reports]
    measured |= _judged(reports, scores)
    if table is not None:
        measured |= means_for(table, measured)
    return ReportSet(
        {name: Reported(one, patients, cases) for name, one in measured.items()},
        missing,
        len(reports),
        len(set(cases)),
    )


def _judged(reports: Sequence[ScoredReport], scores: Sequence[Mapping[str, Any]]) -> dict[str, Measured]:
    """Judges' scores as metrics; a report on which a judge failed has no value."""
    places = {one.report_id: place for place, one in enumerate(reports)}
    values: dict[str, np.ndarray] = defaultdict(lambda: np.full(len(reports), np.nan))
    versions: dict[str, set[str]] = defaultdict(set)
    scales: dict[str, str] = {}
    for row in scores:
        if row["judge"] == RULES:
            # Their score is a metric already, and two signatures of one number would not be compared.
            continue
        # One that failed on all of them has its name and no value.
        own = values[row["judge"]]
        if row["score"] is not None:
            own[places[row["candidate_id"]]] = row["score"]
        versions[row["judge"]].add(row["judge_version"])
        scales[row["judge"]] = f"{row['scale_low']:g} to {row['scale_high']:g}"
    return {
        f"{judge}_score": from_values(
            f"{judge}_score",
            Signature(", ".join(sorted(versions[judge])), "the judge's own", "sample_mean", scales[judge]),
            own,
        )
        for judge, own in values.items()
    }


def summary_of(one: ReportSet, *, resamples: int) -> dict[str, Any]:
    """A set for JSON: by metric the mean, its 95 % interval over patients, how many reports count, and how computed."""
    metrics, missing = {}, dict(one.missing)
    for name, reported in one.measured.items():
        interval = interval_of(reported, resamples=resamples)
        if interval is None:
            missing[name] = "none of the reports has a value: no reference, no truth, or no score"
        else:
            metrics[name] = {**asdict(interval), "signature": str(reported.measured.signature)}
    return {"reports": one.reports, "cases": one.cases, "metrics": metrics, "missing": missing}


def check_same_cases(first: Sequence[ScoredReport], second: Sequence[ScoredReport], where: str) -> None:
    """Raises ScoredSetsError where a case of both sets has another patient or reference: ids alone say little, as those
    of the phantom are the same for every seed.
    """
    known = {one.case_id: (one.patient_id, one.reference) for one in first}
    for one in second:
        if known.get(one.case_id, (one.patient_id, one.reference)) != (one.patient_id, one.reference):
            raise ScoredSetsError(
                f"{where}: case {one.case_id} has another patient or reference than here: compare runs of the same "
                "data, seed and target"
            )


def differences_of(first: ReportSet, second: ReportSet, *, resamples: int) -> dict[str, Any]:
    """By metric the paired difference second - first over the cases of both, computed in the same way in both."""
    found = {}
    for name, before in first.measured.items():
        after = second.measured.get(name)
        if after is None or after.measured.signature != before.measured.signature:
            continue
        difference = difference_of(before, after, resamples=resamples)
        if difference is not None:
            found[name] = asdict(difference)
    return found


def pool_of(seeds: Sequence[ReportSet], *, same_patients: bool, resamples: int) -> dict[str, Any]:
    """By metric the seeds' mean with its interval and the spread between them."""
    pooled = {}
    for name in seeds[0].measured:
        own = [one.measured[name] for one in seeds if name in one.measured]
        alike = {one.measured.signature for one in own}
        if len(own) == len(seeds) and len(alike) == 1:
            result = pooled_of(own, same_patients=same_patients, resamples=resamples)
            if result is not None:
                pooled[name] = asdict(result)
    return pooled


def read_sets(run: Path) -> dict[str, list[ScoredReport]]:
    """The sets of reports that a run of jobs/score.py measured, by name; ScoredSetsError where there are none."""
    return {name: written(Table(run / REPORTS / name, ScoredReport).read()) for name in names_of(run)}


def read_summary(run: Path) -> dict[str, Any]:
    """The `score.json` of a run, empty where there is none; ScoredSetsError where it is damaged."""
    file = run / SUMMARY
    if not file.is_file():
        return {}
    try:
        summary = json.loads(file.read_bytes())
    except ValueError:
        summary = None
    if not isinstance(summary, dict):
        raise ScoredSetsError(f"{file} is damaged: remove it, and give that run's command again, which makes it anew")
    return summary


def names_of(run: Path) -> list[str]:
    """The names of those sets. Raises ScoredSetsError as `read_sets`."""
    own = read_summary(run).get("own")
    if not own:
        raise ScoredSetsError(
            f"{run} is no finished run of jobs/score.py with sets of reports: name the folder of one, whose score.json "
            "has metrics"
        )
    return list(own)


def scores_of(run: Path, name: str) -> list[dict[str, Any]]:
    """What the judges of a run gave the reports of a set."""
    columns = ["candidate_id", "judge", "judge_version", "score", "scale_low", "scale_high"]
    rows: list[dict[str, Any]] = Table(run / JUDGING / name / "judgements", Judgement).arrow(columns).to_pylist()
    return rows
