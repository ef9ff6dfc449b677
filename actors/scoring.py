"""Scoring the reports of a file, and what can be wrong with the file and the judges before anybody is asked."""

import time
from collections import defaultdict
from typing import Any

import ray

from actors.cluster import check_judges_fit
from actors.fleet import Fleet
from actors.judging import Judging, judge_stage
from rlaif.config import Config, ConfigurationError, ScoreSettings
from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.judges.settings import LeafJudge, LlmParserJudgeSettings, leaves_of
from rlaif.ledger import RunFolder, checksum_of
from rlaif.metrics.ratings import RatedReport, Ratings, read_ratings
from rlaif.metrics.scoring import score_summary
from rlaif.progress import Progress
from rlaif.records import Judgement


def read_reports(settings: ScoreSettings) -> Ratings:
    """The reports of `score.table` with their ratings.

    Raises RatingsError for a file that cannot be used, ConfigurationError where none is named, where ratings are not on
    `score.rating_scale`, and for a pairwise judge that would have nothing to compare.
    """
    if settings.table is None:
        raise ConfigurationError(
            "score.table is missing: name the CSV file of reports, such as score.table=ratings.csv"
        )
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


def recorded(config: Config) -> dict[str, Any]:
    """What of the configuration makes a score run, with the checksum of its table."""
    plain = config.plain("run", "cache", "score", "cluster")
    assert config.score.table is not None
    plain["score"]["table_sha256"] = checksum_of(config.score.table)
    return plain


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


def score_reports(run: RunFolder, config: Config, ratings: Ratings) -> None:
    """Has all judges score all reports, and writes the tables `reports`, `judging/judgements` and
    `judging/comparisons` and the summary `score.json`. Raises ConfigurationError where the judges need more than the
    cluster has, TooManyBad where one of them failed too often.
    """
    check_judges_fit(leaves(config.score), ray.cluster_resources())
    started = time.monotonic()
    run.replace("reports", RatedReport, ratings.items.values())
    judges = {judge.name: judge for judge in config.score.judges}
    judging, fleet, cases = (
        Judging(run, config, "judging", [*judges.values()]),
        Fleet(config, None),
        judged_cases(ratings),
    )
    progress = Progress("judgements", judging.number(cases))
    facts = judge_stage(judging, fleet, cases, 0, progress)
    fleet.close()
    judgements = run.arrow(judging.tables[0], Judgement, ["judge", "candidate_id", "score", "scale_low", "scale_high"])
    summary = score_summary(ratings, judgements, facts["judging"], rating_scale=config.score.rating_scale)
    run.write_json("score.json", {"name": config.run.name, "table": str(config.score.table), **summary})
    run.finish("score", seconds=time.monotonic() - started, **facts)
