"""What reinforcement learning trains on: a round's reports as they were sampled, each with its judge's score."""

import random
from array import array
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rlaif.records import Candidate, Judgement
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


def rollouts_of(run: Path, round_: int, judge: str) -> list[Rollout]:
    """A round's rollouts, those of a case together; reports that the judge has not scored take no part."""
    folder = run / f"round-{round_:03d}"
    rows = _scored(run, round_, judge)
    scores = dict(zip(rows["candidate_id"].to_pylist(), rows["score"].to_pylist(), strict=True))
    return [
        Rollout(
            one.case_id,
            one.prompt,
            one.feature_key,
            array("i", one.token_ids),
            array("f", one.logprobs),
            scores[one.candidate_id],
        )
        for one in Table(folder / "candidates", Candidate).iterate()
        if one.candidate_id in scores
    ]


def count_rollouts(run: Path, round_: int, judge: str, *, comparing: bool) -> int:
    """How many reports of a round there are to learn from; `comparing` takes those alone that `compared` keeps."""
    counts = Counter(_scored(run, round_, judge)["case_id"].to_pylist())
    return sum(count for count in counts.values() if count > 1 or not comparing)


def _scored(run: Path, round_: int, judge: str) -> pa.Table:
    folder = run / f"round-{round_:03d}"
    rows = Table(folder / "judgements", Judgement).arrow(["candidate_id", "case_id", "judge", "score"])
    return rows.filter(pc.and_(pc.equal(rows["judge"], judge), pc.is_valid(rows["score"])))


def compared(rollouts: list[Rollout]) -> list[Rollout]:
    """Without the reports that have no other of their case to be compared with."""
    counts = Counter(one.case_id for one in rollouts)
    return [one for one in rollouts if counts[one.case_id] > 1]


def with_shuffled_scores(rollouts: list[Rollout], seed: int) -> list[Rollout]:
    """The same reports, their scores dealt out anew among all of them."""
    scores = [one.score for one in rollouts]
    random.Random(seed).shuffle(scores)
    return [replace(one, score=score) for one, score in zip(rollouts, scores, strict=True)]
