"""Scoring sets of reports: where they come from, the judges and metrics that score them, and their comparison."""

import time
from collections import Counter
from contextlib import closing
from typing import Any

import ray

from actors.cluster import check_judges_fit, cluster_at, joined
from actors.fleet import Fleet
from actors.heldout import beside_rules
from actors.judging import Judging, judge_stage
from actors.preparation import key_of
from actors.rated_reports import TABLE_SET, judge_table, leaves, rated_summary, read_reports
from actors.written_reports import FILE_SET, set_names, take_reports, write_reports
from rlaif.config import Config, ConfigurationError
from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.judges.settings import LlmParserJudgeSettings
from rlaif.ledger import RunFolder, checksum_of
from rlaif.metrics.generated_reports import read_generated_reports
from rlaif.metrics.measures.choice import chosen, processes_here
from rlaif.metrics.published_rows import measured_data
from rlaif.metrics.report_sets import (
    JUDGING,
    REPORTS,
    SUMMARY,
    ReportSet,
    ScoredReport,
    check_same_cases,
    differences_of,
    measured_set,
    names_of,
    pool_of,
    read_sets,
    read_summary,
    scores_of,
    summary_of,
    written,
)
from rlaif.progress import Progress
from rlaif.records import NOT_WRITTEN
from rlaif.reports.region_reports import without_region_prefixes
from rlaif.storage import file_states


def check_score(config: Config) -> None:
    """Raises ConfigurationError where nothing is named that could be scored or a judge could not judge it, MetricError
    for a metric that is named and cannot be computed, ScoredSetsError, and what reading the files raises.
    """
    score = config.score
    chosen(score.metrics)
    names = [other.name for other in score.against]
    if len(set(names)) < len(names):
        raise ConfigurationError("two runs of score.against have one name: give them others by run.name")
    for other in score.against:
        names_of(other)
    seeds = [path.resolve() for path in (config.run.root / config.run.name, *score.pool)]
    if len(set(seeds)) < len(seeds):
        raise ConfigurationError("score.pool names a run twice, or this one: a seed that counts twice is no evidence")
    for other in score.pool:
        wanted = [TABLE_SET] if score.table is not None else set_names(score)
        if lacking := set(wanted) - set(names_of(other)):
            raise ConfigurationError(
                f"score.pool: {other} has no set {min(lacking)}, only {', '.join(names_of(other))}: pool runs of the "
                "same command"
            )
    if score.table is not None:
        read_reports(score)
        return
    if score.reports is not None:
        read_generated_reports(score.reports)
    elif config.policy.path is None:
        raise ConfigurationError(
            "nothing to score: name a file of reports with references of its own (score.table=FILE.csv) or of reports "
            "on a data set's studies (score.reports=FILE.csv data=NAME), or a policy (policy=folder policy.path=FOLDER)"
        )
    pairwise = [leaf.name for leaf in leaves(score) if isinstance(leaf, LlmParserJudgeSettings)]
    if pairwise:
        raise ConfigurationError(
            f"the judge {pairwise[0]} compares the reports of a case, so that the mean over one policy's own reports "
            "says nothing: give the reports of two by score.table, with the same case_id"
        )


def scoring(config: Config) -> Config:
    """The configuration as it is scored by: nothing is trained, and the judges are those of `score`."""
    score = config.score
    return config.model_copy(
        update={
            "run": config.run.model_copy(update={"rounds": 0}),
            "judge": score.judges[0] if score.judges else config.judge,
            "heldout": config.heldout.model_copy(update={"judges": score.judges}),
            "cluster": config.cluster.model_copy(update={"placement": "anywhere"}),
            # What is empty or cut off counts: greedily it would be so again, and sampling is not to look better.
            "sampler": config.sampler.model_copy(update={"attempts": 1}),
        }
    )


def recorded(config: Config) -> dict[str, Any]:
    """What of the configuration makes a score run, with the checksum of its file or the state of its policy's files."""
    score = config.score
    sections = ["run", "cache", "score", "cluster"]
    if score.table is None:
        sections += ["data", "policy", "recipe", "sampler", "ingest"] if score.reports is None else ["data"]
    plain = config.plain(*sections)
    for name in ("table", "reports"):
        if (file := getattr(score, name)) is not None:
            plain["score"][f"{name}_sha256"] = checksum_of(file)
    if score.table is None and score.reports is None:
        plain["policy"]["files"] = key_of(file_states(str(config.policy.path)))
    # What is compared and how it is measured may change: the reports stay.
    for later in ("against", "pool", "same_patients", "metrics"):
        plain["score"].pop(later)
    return plain


def scored(run: RunFolder, config: Config) -> bool:
    """Whether `score.json` is there, measured as the configuration says by what can be computed now."""
    told: str | None = read_summary(run.path).get("measured_by")
    return run.done("score") and told == _measured_by(config)


def _measured_by(config: Config) -> str:
    score = config.score
    others = [(str(other), checksum_of(other / SUMMARY)) for other in (*score.against, *score.pool)]
    missing = chosen(score.metrics)[1]
    settings = (score.metrics, config.table, score.same_patients, config.heldout.resamples)
    return key_of(*settings, len(score.against), others, missing)


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
    named = {f"{key}_file": str(value) for key in ("table", "reports") if (value := getattr(score, key)) is not None}
    head = {"name": config.run.name, "measured_by": _measured_by(config), "own": sets}
    run.write_json(SUMMARY, {**head, **named, **told, **_measured(run, config, sets)})
    run.finish("score", seconds=time.monotonic() - started)


def _judge_sets(run: RunFolder, config: Config, sets: list[str]) -> None:
    """The reports of each set, from the policy or the file, and what the judges say of them."""
    if config.score.reports is None:
        with joined(config, learners=False), closing(write_reports(run, config)) as fleet:
            for name in sets:
                _judge(run, config, fleet, name)
        return
    take_reports(run, config)
    if not beside_rules(config.score.judges):
        run.finish(f"{JUDGING}/{FILE_SET}", judging={"judges": {}, "agreement": []})
        return
    with cluster_at(config.cluster.address):
        check_judges_fit(leaves(config.score), ray.cluster_resources())
        with closing(Fleet(config, None)) as fleet:
            _judge(run, config, fleet, FILE_SET)


def _judge(run: RunFolder, config: Config, fleet: Fleet, name: str) -> None:
    stage, started = f"{JUDGING}/{name}", time.monotonic()
    if run.done(stage):
        return
    judges = beside_rules(config.score.judges)
    if not judges:
        run.finish(stage, judging={"judges": {}, "agreement": []})
        return
    by_case: dict[str, list[ScoredReport]] = {}
    for one in written(run.read(f"{REPORTS}/{name}", ScoredReport)):
        by_case.setdefault(one.case_id, []).append(one)
    cases = [
        JudgedCase(case, own[0].reference, tuple(JudgedReport(one.report_id, _judged_text(one)) for one in own))
        for case, own in by_case.items()
    ]
    judging = Judging(run, config, stage, judges)
    facts = judge_stage(judging, fleet, cases, 0, Progress(stage, judging.number(cases)))
    run.finish(stage, seconds=time.monotonic() - started, **facts)


def _judged_text(report: ScoredReport) -> str | None:
    return (without_region_prefixes(report.text) if report.regions else report.text) or None


def _measured(run: RunFolder, config: Config, sets: list[str]) -> dict[str, Any]:
    """By set its metrics; the paired differences from the first set, and from those of other runs; the pooled seeds."""
    resamples, data = config.heldout.resamples, None if config.score.table else measured_data(config.data)
    rows = {name: run.read(f"{REPORTS}/{name}", ScoredReport) for name in sets}
    reports = {name: written(found) for name, found in rows.items()}
    own = {name: _measure(reports[name], scores_of(run.path, name), config) for name in sets}
    summary = {
        name: {"data": data, **_accounts(run, name, rows[name]), **summary_of(one, resamples=resamples)}
        for name, one in own.items()
    }
    compared = {
        f"{name} - {sets[0]}": differences_of(own[sets[0]], own[name], resamples=resamples) for name in sets[1:]
    }
    for other in config.score.against:
        told = read_summary(other)["sets"]
        for theirs, given in read_sets(other).items():
            measured, label = _measure(given, scores_of(other, theirs), config), f"{other.name}, {theirs}"
            summary[label] = {"data": told[theirs]["data"], **summary_of(measured, resamples=resamples)}
            for name, one in own.items():
                check_same_cases(reports[name], given, str(other))
                compared[f"{name} - {label}"] = differences_of(measured, one, resamples=resamples)
    pooled = {name: _pooled(own[name], reports[name], name, config) for name in sets if config.score.pool}
    return {"sets": summary, "differences": compared, "pooled": pooled}


def _accounts(run: RunFolder, name: str, reports: list[ScoredReport]) -> dict[str, Any]:
    """What the judges of a set were asked, and how many reports are missing or not whole, where there are such."""
    taken = run.facts(f"{REPORTS}/{name}") if run.done(f"{REPORTS}/{name}") else {}
    ends = Counter(one.finish_reason for one in reports)
    counts = {"unwritten": taken.get("unwritten", 0), "no_room": ends[NOT_WRITTEN], "cut_off": ends["length"]}
    judging = run.facts(f"{JUDGING}/{name}")["judging"]["judges"]
    return {"judging": judging, **{key: count for key, count in counts.items() if count}}


def _pooled(own: ReportSet, reports: list[ScoredReport], name: str, config: Config) -> dict[str, Any]:
    seeds = [own]
    for other in config.score.pool:
        theirs = read_sets(other)[name]
        if config.score.same_patients:
            check_same_cases(reports, theirs, f"{other}, with score.same_patients=true")
        seeds.append(_measure(theirs, scores_of(other, name), config))
    return pool_of(seeds, same_patients=config.score.same_patients, resamples=config.heldout.resamples)


def _measure(reports: list[ScoredReport], scores: list[dict[str, Any]], config: Config) -> ReportSet:
    return measured_set(reports, scores, config.score.metrics, config.table, processes=processes_here())
