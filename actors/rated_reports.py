"""Reports of a file with references of its own, rated by radiologists or not: judged, and held against the ratings."""

import time
from collections import defaultdict
from typing import Any

import ray

from actors.cluster import check_judges_fit
from actors.fleet import Fleet
from actors.judging import Judging, judge_stage
from rlaif.config import Config, ConfigurationError
from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.judges.settings import LeafJudge, LlmParserJudgeSettings, leaves_of
from rlaif.ledger import RunFolder
from rlaif.metrics.judged_choices import over_cases
from rlaif.metrics.judging import COMPARISON_COLUMNS, JUDGING_COLUMNS
from rlaif.metrics.ratings import RatedReport, Ratings, read_ratings
from rlaif.metrics.report_sets import JUDGING, REPORTS, ScoredReport
from rlaif.metrics.scoring import score_summary
from rlaif.progress import Progress
from rlaif.records import Comparison, Judgement
from rlaif.score_settings import ScoreSettings

TABLE_SET = "table"


def read_reports(settings: ScoreSettings) -> Ratings:
    """The reports of `score.table` with their ratings.

    Raises RatingsError for a file that cannot be used, ConfigurationError where ratings are not on
    `score.rating_scale`, and for a pairwise judge that would have nothing to compare.
    """
    assert settings.table is not None
    ratings = read_ratings(settings.table)
    if settings.rating_scale is not None:
        if ratings.kind != "scores":
            raise ConfigurationError(f"score.rating_scale is of scores, and {settings.table} holds none: leave it out")
        low, high = settings.rating_scale
        given = [score for own in ratings.scores.values() for score in own.values()]
        if not low <= min(given) <= max(given) <= high:
            raise ConfigurationError(
                f"score.rating_scale={[low, high]}: the scores of {settings.table} go from {min(given):g} to "
                f"{max(given):g}; set it to the scale that the raters were given, or to null"
            )
    pairwise = [one.name for one in leaves(settings) if isinstance(one, LlmParserJudgeSettings)]
    if pairwise and all(len(case.reports) == 1 for case in judged_cases(ratings)):
        raise ConfigurationError(
            f"the judge {pairwise[0]} compares the reports of a case, and no case of {settings.table} has two: leave "
            "it out, or give reports of the same study the same case_id"
        )
    return ratings


def leaves(settings: ScoreSettings) -> list[LeafJudge]:
    """The judges that are asked: an ensemble's members in its place."""
    return list({leaf.name: leaf for judge in settings.judges for leaf in leaves_of(judge)}.values())


def judged_cases(ratings: Ratings) -> list[JudgedCase]:
    """The reports as judges are given them: all those of a case at once, or of choices each pair by itself."""
    groups: dict[str, list[str]] = defaultdict(list)
    if ratings.kind == "choices":
        for a, b in (pair for own in ratings.choices.values() for pair in own):
            groups[f"{ratings.items[a].case_id}#{a}"] = [a, b]
    else:
        for item, report in ratings.items.items():
            groups[report.case_id].append(item)
    return [
        JudgedCase(name, ratings.items[own[0]].reference, tuple(_judged_report(ratings.items[item]) for item in own))
        for name, own in groups.items()
    ]


def _judged_report(report: RatedReport) -> JudgedReport:
    return JudgedReport(report.item_id, report.candidate)


def judge_table(run: RunFolder, config: Config, ratings: Ratings) -> None:
    """Has all judges score all reports, and writes the tables `reports/table`, `judging/table/judgements` and
    `judging/table/comparisons`. Raises ConfigurationError where the judges need more than the cluster has, TooManyBad
    where one of them failed too often.
    """
    check_judges_fit(leaves(config.score), ray.cluster_resources())
    run.replace(f"{REPORTS}/{TABLE_SET}", ScoredReport, [_scored(one) for one in ratings.items.values()])
    judges = {judge.name: judge for judge in config.score.judges}
    fleet, cases = Fleet(config, None), judged_cases(ratings)
    judging = Judging(run, config, f"{JUDGING}/{TABLE_SET}", [*judges.values()])
    progress = Progress("judgements", judging.number(cases))
    started = time.monotonic()
    facts = judge_stage(judging, fleet, cases, 0, progress)
    fleet.close()
    run.finish(f"{JUDGING}/{TABLE_SET}", seconds=time.monotonic() - started, **facts)


def rated_summary(run: RunFolder, config: Config, ratings: Ratings) -> dict[str, Any]:
    """What the judges made of a file's reports, and how far they agree with its ratings."""
    stage = f"{JUDGING}/{TABLE_SET}"
    judgements = run.arrow(f"{stage}/judgements", Judgement, JUDGING_COLUMNS)
    judging = run.facts(stage)["judging"]
    if ratings.kind == "choices":
        comparisons = run.arrow(f"{stage}/comparisons", Comparison, COMPARISON_COLUMNS)
        judging = over_cases(judging, ratings, judgements, comparisons)
    return score_summary(ratings, judgements, judging, rating_scale=config.score.rating_scale)


def _scored(report: RatedReport) -> ScoredReport:
    """A file says nothing of patients: each of its cases stands for one."""
    return ScoredReport(
        report.item_id, report.case_id, report.case_id, report.reference, report.candidate, None, (), ""
    )


def tell_table(settings: ScoreSettings) -> None:
    """Prints what the judges would be asked (run.dry=true)."""
    ratings = read_reports(settings)
    cases, judges = judged_cases(ratings), leaves(settings)
    raters = len(ratings.scores) + len(ratings.choices)
    print(f"reports: {len(ratings.items)} in {len(cases)} cases or pairs, ratings: {ratings.kind}, raters: {raters}")
    print(f"judges: {', '.join(one.name for one in judges)}, {len(judges) * len(ratings.items)} judgements", flush=True)
