"""What reinforcement learning trains on: a round's reports as they were sampled, each with its judge's score."""

import random
from array import array
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc

from rlaif.records import NOT_WRITTEN, Candidate, Judgement
from rlaif.tables import Table


@dataclass(frozen=True)
class Rollout:
    """A report that the policy sampled, with the log-probs that its tokens had then, and its score.

    Of 300,000 reports, tuples would take gigabytes: tokens are int32, log-probs float32.
    """

    case_id: str
    prompt: str
    feature_key: str | None
    token_ids: "array[int]"
    logprobs: "array[float]"
    score: float


def rollouts_of(run: Path, round_: int, judge: str, *, score_unusable: bool) -> list[Rollout]:
    """A round's rollouts, those of a case together; reports that the judge has not scored take no part.

    `score_unusable` gives reports that are empty or do not end the lowest score of the judge's scale.
    """
    scores = _scores(run, round_, judge, score_unusable=score_unusable)
    return [
        Rollout(
            one.case_id,
            one.prompt,
            one.feature_key,
            array("i", one.token_ids),
            array("f", one.logprobs),
            scores[one.candidate_id][1],
        )
        for one in _candidates(run, round_).iterate()
        if one.candidate_id in scores and one.finish_reason != NOT_WRITTEN
    ]


def count_rollouts(run: Path, round_: int, judge: str, *, score_unusable: bool, comparing: bool) -> int:
    """How many reports of a round there are to learn from; `comparing` takes those alone that `compared` keeps."""
    scores = _scores(run, round_, judge, score_unusable=score_unusable)
    # Without their tokens, which the controller has no room for.
    rows = _candidates(run, round_).arrow(["candidate_id", "finish_reason"])
    written = rows.filter(pc.not_equal(rows["finish_reason"], NOT_WRITTEN))["candidate_id"].to_pylist()
    counts = Counter(scores[one][0] for one in written if one in scores)
    return sum(count for count in counts.values() if count > 1 or not comparing)


def _candidates(run: Path, round_: int) -> Table[Candidate]:
    return Table(run / f"round-{round_:03d}" / "candidates", Candidate)


def _scores(run: Path, round_: int, judge: str, *, score_unusable: bool) -> dict[str, tuple[str, float]]:
    """Case and score of the reports that have one, by candidate."""
    columns = ["candidate_id", "case_id", "judge", "score", "scale_low", "failure"]
    rows = Table(run / f"round-{round_:03d}" / "judgements", Judgement).arrow(columns)
    rows = rows.filter(pc.equal(rows["judge"], judge))
    scores = rows["score"]
    if score_unusable:
        # A judge also calls invalid what it has no room for, which is not the policy's fault.
        written = _candidates(run, round_).arrow(["candidate_id", "usable"])
        unusable = written.filter(pc.invert(written["usable"]))["candidate_id"].combine_chunks()
        invalid = pc.fill_null(pc.equal(rows["failure"], "invalid_candidate"), False)
        lowest = pc.and_(invalid, pc.is_in(rows["candidate_id"], value_set=unusable))
        scores = pc.if_else(lowest, rows["scale_low"], scores)
    entries = zip(rows["candidate_id"].to_pylist(), rows["case_id"].to_pylist(), scores.to_pylist(), strict=True)
    return {candidate: (case, score) for candidate, case, score in entries if score is not None}


def compared(rollouts: list[Rollout]) -> list[Rollout]:
    """Without the reports that have no other of their case to be compared with."""
    counts = Counter(one.case_id for one in rollouts)
    return [one for one in rollouts if counts[one.case_id] > 1]


def with_shuffled_scores(rollouts: list[Rollout], seed: int) -> list[Rollout]:
    """The same reports, their scores dealt out anew among all of them."""
    scores = [one.score for one in rollouts]
    random.Random(seed).shuffle(scores)
    return [replace(one, score=score) for one, score in zip(rollouts, scores, strict=True)]
