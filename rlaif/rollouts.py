"""What reinforcement learning trains on: a round's reports as they were sampled, each with its judge's score."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc

from rlaif.records import Candidate, Judgement
from rlaif.tables import Table


@dataclass(frozen=True)
class Rollout:
    """A report that the policy sampled, with the log-probs that its tokens had then, and its score."""

    case_id: str
    prompt: str
    feature_key: str | None
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    score: float


def rollouts_of(run: Path, round_: int, judge: str) -> list[Rollout]:
    """A round's rollouts, those of a case together; reports that the judge has not scored take no part."""
    folder = run / f"round-{round_:03d}"
    rows = Table(folder / "judgements", Judgement).arrow(["candidate_id", "judge", "score"])
    rows = rows.filter(pc.and_(pc.equal(rows["judge"], judge), pc.is_valid(rows["score"])))
    scores = dict(zip(rows["candidate_id"].to_pylist(), rows["score"].to_pylist(), strict=True))
    return [
        Rollout(one.case_id, one.prompt, one.feature_key, one.token_ids, one.logprobs, scores[one.candidate_id])
        for one in Table(folder / "candidates", Candidate).iterate()
        if one.candidate_id in scores and one.token_ids
    ]


def compared(rollouts: list[Rollout]) -> list[Rollout]:
    """Without the reports that have no other of their case to be compared with."""
    counts: dict[str, int] = {}
    for one in rollouts:
        counts[one.case_id] = counts.get(one.case_id, 0) + 1
    return [one for one in rollouts if counts[one.case_id] > 1]


def with_shuffled_scores(rollouts: list[Rollout], seed: int) -> list[Rollout]:
    """The same reports, their scores dealt out anew among all of them."""
    scores = [one.score for one in rollouts]
    random.Random(seed).shuffle(scores)
    return [replace(one, score=score) for one, score in zip(rollouts, scores, strict=True)]
