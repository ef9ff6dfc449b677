"""Scoring sets of reports: where they come from, the judges and metrics that score them, and their comparison."""

import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from actors.cluster import cluster_at, joined
from actors.fleet import Fleet
from actors.judging import Judging, judge_stage
from actors.preparation import key_of
from actors.rated_reports import TABLE_SET, judge_table, rated_summary, read_reports
from actors.written_reports import FILE_SET, set_names, take_reports, write_reports
from rlaif.config import Config, ConfigurationError
from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.judges.settings import AnyJudge, LlmParserJudgeSettings, RulesJudgeSettings, leaves_of
from rlaif.ledger import RunFolder, checksum_of
from rlaif.metrics.generated_reports import read_generated_reports
from rlaif.metrics.measures.choice import chosen
from rlaif.metrics.report_sets import (
    JUDGING,
    REPORTS,
    ReportSet,
    ScoredReport,
    ScoredSetsError,
    differences_of,
    measured_set,
    pool_of,
    read_sets,
    scores_of,
    summary_of,
)
from rlaif.progress import Progress
from rlaif.tables import Table

# More would wait for each other on the references that all of them read.
_MOST_PROCESSES = 8


def check_score(config: Config) -> None:
    """Raises ConfigurationError where nothing is named that could be scored or a judge could not judge it, NotAvailable
    for a metric that is named and cannot be computed, and what reading the files raises.
    """
    score = config.score
    chosen(score.metrics)
    for other in (*score.against, *score.pool):
        read_sets(other)
    if score.table is not None:
        read_reports(score)
    elif score.reports is not None:
        read_generated_reports(score.reports)
    if score.table is None and score.reports is None and config.policy.path is None:
        raise ConfigurationError(
            "nothing to score: name a file of reports with references of its own (score.table=FILE.csv) or of reports "
            "on a data set's studies (score.reports=FILE.csv data=NAME), or a policy (policy=folder policy.path=FOLDER)"
        )
    pairwise = [leaf.name for judge in score.judges for leaf in leaves_of(judge) if _compares(leaf)]
    if score.table is None and score.reports is None and pairwise and score.samples == 1:
        raise ConfigurationError(
            f"the judge {pairwise[0]} compares the reports of a case, and score.samples=1 gives each one: set "
            "score.samples=2 with temperatures above 0, or leave it out"
        )


def _compares(judge: AnyJudge) -> bool:
    return isinstance(judge, LlmParserJudgeSettings)


def scoring(config: Config) -> Config:
    """The configuration as it is scored by: nothing is trained, and the judges are those of `score`."""
    score = config.score
    return config.model_copy(
        update={
            "run": config.run.model_copy(update={"rounds": 0}),
            "judge": score.judges[0] if score.judges else config.judge,
            "heldout": config.heldout.model_copy(update={"judges": score.judges}),
            "cluster": config.cluster.model_copy(update={"placement": "anywhere"}),
        }
    )


def recorded(config: Config) -> dict[str, Any]:
    """What of the configuration makes a score run, with the checksum of its file."""
    score = config.score
    sections = ["run", "cache", "score", "cluster"]
    if score.table is None:
        sections += ["data", "policy", "recipe", "sampler", "ingest"] if score.reports is None else ["data"]
    plain = config.plain(*sections)
    for name in ("table", "reports"):
        if (file := getattr(score, name)) is not None:
            plain["score"][f"{name}_sha256"] = checksum_of(file)
    # What is compared and how it is measured may change: the reports stay.
    for later in ("against", "pool", "same_patients", "metrics"):
        plain["score"].pop(later)
    return plain


def scored(run: RunFolder, config: Config) -> bool:
    """Whether `score.json` is there, measured as the configuration says."""
    return run.done("score") and run.facts("score")["measured_by"] == _measured_by(config)


def _measured_by(config: Config) -> str:
    score = config.score
    return key_of(score.metrics, config.table, *map(str, (*score.against, "pool", *score.pool, score.same_patients)))


def score_reports(run: RunFolder, config: Config) -> None:
    """Brings the reports together, has them judged and measured, and writes `score.json`."""
    score, started = config.score, time.monotonic()
    if score.table is not None:
        ratings = read_reports(score)
        if not run.done(f"{JUDGING}/{TABLE_SET}"):
            with cluster_at(config.cluster.address):
                judge_table(run, config, ratings)
        told = rated_summary(run, config, ratings)
        # Each pair of choices has reports of its own: a report in several pairs would count several times.
        sets = [] if ratings.kind == "choices" else [TABLE_SET]
    else:
        sets, told = set_names(score), {}
        if not all(run.done(f"{JUDGING}/{name}") for name in sets):
            _judge_sets(run, config, sets)
    named = {key: str(value) for key in ("table", "reports") if (value := getattr(score, key)) is not None}
    run.write_json("score.json", {"name": config.run.name, **named, **told, **_measured(run, config, sets)})
    run.finish("score", seconds=time.monotonic() - started, measured_by=_measured_by(config))


def _judge_sets(run: RunFolder, config: Config, sets: list[str]) -> None:
    """The reports of each set, from the policy or the file, and what the judges say of them."""
    if config.score.reports is not None:
        take_reports(run, config)
        if not _asked(config):
            run.finish(f"{JUDGING}/{FILE_SET}", judging={"judges": {}, "agreement": []})
            return
    with joined(config, learners=False):
        fleet = Fleet(config, None) if config.score.reports is not None else write_reports(run, config)
        with closing(fleet):
            for name in sets:
                _judge(run, config, fleet, name)


def _asked(config: Config) -> list[AnyJudge]:
    """The judges beside the rules, which score every report anyway: rules_score is one of the metrics."""
    return [one for one in config.score.judges if not (isinstance(one, RulesJudgeSettings) and one.name == "rules")]


def _judge(run: RunFolder, config: Config, fleet: Fleet, name: str) -> None:
    stage, started = f"{JUDGING}/{name}", time.monotonic()
    if run.done(stage):
        return
    judges = _asked(config)
    if not judges:
        run.finish(stage, judging={"judges": {}, "agreement": []})
        return
    by_case: dict[str, list[ScoredReport]] = {}
    for one in run.iterate(f"{REPORTS}/{name}", ScoredReport):
        by_case.setdefault(one.case_id, []).append(one)
    cases = [
        JudgedCase(case, own[0].reference, tuple(JudgedReport(one.report_id, one.text or None) for one in own))
        for case, own in by_case.items()
    ]
    judging = Judging(run, config, stage, judges)
    facts = judge_stage(judging, fleet, cases, 0, Progress(stage, judging.number(cases)))
    run.finish(stage, seconds=time.monotonic() - started, **facts)


def _measured(run: RunFolder, config: Config, sets: list[str]) -> dict[str, Any]:
    """By set its metrics; the paired differences from the first set, and from those of other runs; the pooled seeds."""
    resamples = config.heldout.resamples
    own = {name: _set_of(run.path, name, config) for name in sets}
    summary: dict[str, Any] = {
        "sets": {name: _judged(run, name) | summary_of(one, resamples=resamples) for name, one in own.items()}
    }
    first = next(iter(own), None)
    compared = {
        f"{name} - {first}": differences_of(own[first], one, resamples=resamples)
        for name, one in own.items()
        if first is not None and name != first
    }
    for other in config.score.against:
        for theirs, reports in read_sets(other).items():
            measured = _measure(reports, scores_of(other, theirs), config)
            label = f"{other.name}, {theirs}"
            summary["sets"][label] = summary_of(measured, resamples=resamples)
            for name, one in own.items():
                compared[f"{name} - {label}"] = differences_of(measured, one, resamples=resamples)
    summary["differences"] = compared
    summary["pooled"] = {name: _pooled(one, name, config) for name, one in own.items() if config.score.pool}
    return summary


def _judged(run: RunFolder, name: str) -> dict[str, Any]:
    return {"judging": run.facts(f"{JUDGING}/{name}")["judging"]["judges"]}


def _pooled(own: ReportSet, name: str, config: Config) -> dict[str, Any]:
    seeds = [own]
    for other in config.score.pool:
        theirs = read_sets(other)
        if name not in theirs:
            raise ScoredSetsError(f"{other} has no set {name}, only {', '.join(theirs)}: pool runs of the same command")
        seeds.append(_measure(theirs[name], scores_of(other, name), config))
    return pool_of(seeds, same_patients=config.score.same_patients, resamples=config.heldout.resamples)


def _set_of(run: Path, name: str, config: Config) -> ReportSet:
    return _measure(Table(run / REPORTS / name, ScoredReport).read(), scores_of(run, name), config)


def _measure(reports: list[ScoredReport], scores: list[dict[str, Any]], config: Config) -> ReportSet:
    processes = min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))
    return measured_set(reports, scores, config.score.metrics, config.table, processes=processes)
