"""The reports of jobs/score.py that are held against a data set: written by a policy, or by somebody else."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from actors.fleet import Fleet
from actors.flow import Flow
from actors.ingest_stage import ingest_studies
from actors.outages import Outages
from actors.preparation import prepare_studies
from actors.requests import Request
from actors.rounds import check_room
from rlaif.cases import cases_of
from rlaif.config import Config, ConfigurationError
from rlaif.ledger import RunFolder
from rlaif.metrics.generated_reports import read_generated_reports
from rlaif.metrics.report_sets import REPORTS, ScoredReport
from rlaif.models.settings import PolicySettings, read_settings
from rlaif.progress import Progress
from rlaif.records import Candidate, Case, Study
from rlaif.reports.prompts import Target, region_case, target_text
from rlaif.reports.region_reports import region_slots
from rlaif.reports.regions import REGIONS
from rlaif.score_settings import ScoreSettings

FILE_SET = "file"


def set_names(settings: ScoreSettings) -> list[str]:
    """The names of the sets of reports that a configuration asks for: one for each temperature, or that of the file."""
    if settings.reports is not None:
        return [FILE_SET]
    return [f"temperature-{temperature:g}" for temperature in settings.temperatures]


def write_reports(run: RunFolder, config: Config) -> Fleet:
    """Has the policy write its reports on every study of the split, at each temperature; gives the fleet that did."""
    policy = Path(str(config.policy.path))
    settings = read_settings(policy)
    prepare_studies(run, config, split=config.score.split)
    # Before any CT is read, which takes the longest.
    check_references(run, config, [has_reference(one, config, settings) for one in _studies(run, config)], settings)
    outages = Outages(run)
    outages.watch_nodes()
    fleet = Fleet(config, ingest_studies(run, config, policy), outages)
    cases = cases_of(run.path, config.score.split, config.run.target, settings)
    if not cases:
        raise ConfigurationError(
            f"data={config.data.name} has no study of split {config.score.split} that the policy can read: see the "
            f"table {run.path / 'quarantine'}, or set score.split or data.split under another run.name"
        )
    for temperature, name in zip(config.score.temperatures, set_names(config.score), strict=True):
        _write(run, config, fleet, policy, cases, temperature, f"{REPORTS}/{name}")
    return fleet


def _write(
    run: RunFolder, config: Config, fleet: Fleet, policy: Path, cases: Sequence[Case], temperature: float, stage: str
) -> None:
    if run.done(stage):
        return
    started, by_id = time.monotonic(), {case.case_id: case for case in cases}
    samples = config.score.samples if temperature else 1
    done = {row.report_id for row in run.iterate(stage, ScoredReport)}
    left = [
        Request(case, case.feature_key, samples, temperature)
        for case in cases
        if not all(_report_id(case.case_id, index) in done for index in range(samples))
    ]
    progress = Progress(stage, len(cases))
    progress.skip(len(cases) - len(left))
    samplers = fleet.samplers(policy, 0) if left else None
    with run.writer(stage, ScoredReport) as writer:
        for result in Flow(config, [], samplers, left, 0, fleet.outages).results():
            if isinstance(result, list):
                # A case that was durable in part is written again whole, in the same words.
                reports = (_written(one, by_id[one.case_id]) for one in result)
                writer.add(*(one for one in reports if one.report_id not in done))
                progress.advance()
    rows = run.compact(stage, ScoredReport, "report_id")
    check_room(config, stage, (row.finish_reason for row in run.iterate(stage, ScoredReport)))
    run.finish(stage, seconds=time.monotonic() - started, reports=rows, temperature=temperature)


def check_references(
    run: RunFolder, config: Config, referenced: Iterable[bool], policy: PolicySettings | None = None
) -> None:
    """Raises ConfigurationError where no report has a reference, and would have with another target; `policy` writes
    the reports.
    """
    if any(referenced):
        return
    studies = _studies(run, config)
    others = [target for target in get_args(Target) if any(target_text(one, target) for one in studies)]
    if not others:
        return
    advice = f"set run.target={' or run.target='.join(others)}"
    if policy is not None and policy.reads != "scan":
        advice = f"policy={policy.name} writes nothing else, so take another data set or another policy"
    raise ConfigurationError(
        f"no study of split {config.score.split} of data={config.data.name} has a reference for run.target="
        f"{config.run.target}: {advice}, under another run.name"
    )


def _studies(run: RunFolder, config: Config) -> list[Study]:
    return [one for one in run.iterate("studies", Study) if one.split == config.score.split]


def has_reference(study: Study, config: Config, policy: PolicySettings) -> bool:
    """Whether the study's case will have a target: region by region its regions' sentences stand in for a report."""
    target = config.run.target
    if policy.reads == "regions":
        return region_case(study, target, None, REGIONS).target is not None
    return target_text(study, target) is not None


def _report_id(case_id: str, index: int) -> str:
    return f"{case_id}.{index}"


def _written(candidate: Candidate, case: Case) -> ScoredReport:
    """What a policy wrote, cut off or not, with the names of regions before its sentences."""
    return ScoredReport(
        report_id=_report_id(case.case_id, candidate.index),
        case_id=case.case_id,
        patient_id=case.patient_id,
        reference=case.target,
        text=candidate.text,
        labels=case.labels,
        regions=region_slots(candidate.prompt),
        finish_reason=candidate.finish_reason,
    )


def take_reports(run: RunFolder, config: Config) -> None:
    """Takes the reports of `score.reports`, each with its study's own; ConfigurationError for unknown studies."""
    stage, file = f"{REPORTS}/{FILE_SET}", config.score.reports
    assert file is not None
    if run.done(stage):
        return
    given = read_generated_reports(file)
    prepare_studies(run, config, split=config.score.split)
    studies = {one.study_id: one for one in _studies(run, config)}
    unknown = [name for name in given if name not in studies]
    if unknown:
        raise ConfigurationError(
            f"{file} has reports of {len(unknown)} studies that are not in split {config.score.split} of "
            f"data={config.data.name}, such as {unknown[0]!r}: name the split by score.split, or take them out, under "
            "another run.name"
        )
    rows = [
        _taken(studies[name], index, text, target_text(studies[name], config.run.target))
        for name, texts in given.items()
        for index, text in enumerate(texts)
    ]
    check_references(run, config, [row.reference is not None for row in rows])
    run.replace(stage, ScoredReport, rows)
    unwritten = len(studies) - len(given)
    if unwritten:
        print(f"{file}: no report of {unwritten} of the {len(studies)} studies; they do not count", flush=True)
    run.finish(stage, reports=len(rows), unwritten=unwritten)


def _taken(study: Study, index: int, text: str, reference: str | None) -> ScoredReport:
    return ScoredReport(
        report_id=_report_id(study.study_id, index),
        case_id=study.study_id,
        patient_id=study.patient_id,
        reference=reference,
        text=text,
        labels=study.labels,
        regions=(),
        finish_reason="",
    )
