"""Raters' answers taken into a run as those of a judge named `human`: its tables, and what they say in numbers."""

import hashlib
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlaif.files import RunError
from rlaif.ledger import RunFolder
from rlaif.metrics.review.answers import HIGHEST, LOWEST, Answers, read_answers
from rlaif.metrics.review.judge_scores import JudgeScores, candidate_id
from rlaif.metrics.review.key import KeyItem, ReviewError, ReviewKey, read_key, text_checksum
from rlaif.metrics.review.results import choice_of, rater_scores, results_of
from rlaif.metrics.review.sampling import Reports, heldout_reports, shown_text
from rlaif.records import Comparison, Judgement
from rlaif.review_settings import ReviewSettings

HUMAN = "human"
SUMMARY_FILE = "human.json"
_SUMMARY_BYTES = 2**28


def take_answers(run: RunFolder, settings: ReviewSettings, *, resamples: int) -> dict[str, Any]:
    """Reads the filled sheets of a review and writes `human/judgements` or `human/comparisons`, and its part of
    `human.json`, in the place of what was there of its kind; gives `human.json`.

    Raises ReviewError for sheets that cannot be used, and where the run's reports are no longer those that were shown.
    """
    key = read_key(run.inside(settings.folder))
    answers = read_answers(settings.answers, key)
    reports = heldout_reports(run.path, key.systems)
    _check_reports(run.path, key, reports)
    results = results_of(key, answers, reports, JudgeScores(run.path, reports), resamples=resamples)
    if key.kind == "scores":
        run.replace("human/judgements", Judgement, _judgements(key, answers, reports))
    else:
        run.replace("human/comparisons", Comparison, _comparisons(key, answers, reports))
    summary = (human_summary(run.path) or {}) | {key.kind: results}
    run.write_json(SUMMARY_FILE, summary)
    return summary


def human_summary(run: Path) -> dict[str, Any] | None:
    """What radiologists said of a run's held-out reports: `human.json`, with `scores`, `choices` or both; None where
    nobody was asked. Raises RunError where the file is damaged.
    """
    path = run / SUMMARY_FILE
    if not path.is_file():
        return None
    told = f"{path} is damaged: remove it, and take the answers in again with jobs/review.py"
    if path.stat().st_size > _SUMMARY_BYTES:
        raise RunError(told)
    try:
        summary = json.loads(path.read_bytes())
    except ValueError as error:
        raise RunError(told) from error
    if not isinstance(summary, dict):
        raise RunError(told)
    return summary


def _check_reports(run: Path, key: ReviewKey, reports: Reports) -> None:
    for item in key.items:
        rows = [reports[system].get(item.case_id) for system in item.systems]
        now = [text_checksum(shown_text(row)) for row in rows if row is not None]
        if now != [*item.checksums[1:]]:
            raise ReviewError(
                f"{run}: the reports of case {item.case_id} are not those that the review {key.name} showed, so its "
                "answers say nothing of them; restore the run, or hand out a new review"
            )


def _judgements(key: ReviewKey, answers: Sequence[Answers], reports: Reports) -> Iterator[Judgement]:
    """One row for every report that was shown, with the mean of its raters."""
    items = {item.item_id: item for item in key.items}
    given = rater_scores(answers, items)
    version, comments = _version(key), _comments(answers, items)
    for system, case in sorted({(item.systems[0], item.case_id) for item in key.items}):
        own = given.get((system, case), {})
        yield Judgement(
            judgement_id=f"{candidate_id(case, system)}.{HUMAN}",
            candidate_id=candidate_id(case, system),
            case_id=case,
            round=reports[system][case].policy_version,
            judge=HUMAN,
            judge_version=version,
            score=statistics.fmean(own.values()) if own else None,
            scale_low=float(LOWEST),
            scale_high=float(HIGHEST),
            failure=None if own else "abstained",
            explanation="\n".join(comments.get((system, case), [])),
            counts=None,
            scores={rater: float(score) for rater, score in sorted(own.items())} or None,
            raw=None,
            cached=False,
            latency_s=0.0,
            prompt_tokens=0,
            completion_tokens=0,
            cost_usd=0.0,
        )


def _comparisons(key: ReviewKey, answers: Sequence[Answers], reports: Reports) -> Iterator[Comparison]:
    """One row for every pair that a rater was shown, repeats too; `raw` tells the rater and the comment."""
    by_rater = {own.rater: own for own in answers}
    for item in sorted(key.items, key=lambda one: (one.rater, one.case_id, one.item_id)):
        if (own := by_rater.get(item.rater)) is None:
            continue
        first, second = sorted(item.systems, key=key.systems.index)
        choice = own.choices.get(item.item_id)
        told = {"rater": item.rater, "comment": own.comments.get(item.item_id), "repeat": item.repeat_of is not None}
        yield Comparison(
            comparison_id=f"{item.item_id}.{item.rater}",
            case_id=item.case_id,
            round=max(reports[system][item.case_id].policy_version for system in item.systems),
            judge=HUMAN,
            candidate_a=candidate_id(item.case_id, first),
            candidate_b=candidate_id(item.case_id, second),
            order="ab" if item.systems[0] == first else "ba",
            verdict=None if choice is None else choice_of(item, choice, key.systems),
            failure="abstained" if choice is None else None,
            raw=json.dumps(told),
        )


def _comments(answers: Sequence[Answers], items: dict[str, KeyItem]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for own in answers:
        for item_id, comment in own.comments.items():
            item = items[item_id]
            found.setdefault((item.systems[0], item.case_id), []).append(f"{own.rater}: {comment}")
    return found


def _version(key: ReviewKey) -> str:
    digest = hashlib.sha256(key.model_dump_json().encode()).hexdigest()[:12]
    return f"{key.name}-{digest}"
