"""What the tests of the learners share: trainings with other settings than a group was started with, and candidates."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
from torch import Tensor

from actors.learner_group import LearnerGroup
from rlaif.learner_settings import LearnerSettings
from rlaif.models.policy import Policy
from rlaif.records import Candidate

PROMPT = "<image>\nDescribe the findings of this chest CT."
SETTINGS = ("learner.sft.batch=4", "learner.sft.epochs=2", "learner.dpo.batch=4", "learner.dpo.epochs=2")
GENTLE = ("learner.sft.lr=1e-4", "learner.dpo.lr=1e-4")


def train(group: LearnerGroup, small: Any, method: str, arguments: tuple[Any, ...], *overrides: str) -> list[Any]:
    """The steps of a training with other settings than the group was started with."""
    settings = told(group, small, *overrides)
    if method == "train_sft":
        arguments = (*arguments, settings.sft)
    return list(group.train(method, *arguments))


def told(group: LearnerGroup, small: Any, *overrides: str) -> LearnerSettings:
    """Gives the ranks other settings than they were started with."""
    ranks = len(group.ranks)
    settings: LearnerSettings = small.config(f"learner.ranks={ranks}", *SETTINGS, *GENTLE, *overrides).learner

    def take(learner: Any) -> None:
        learner.settings = settings

    on_all(group, take)
    return settings


def on_all(group: LearnerGroup, function: Any) -> list[Any]:
    """What a function gives of every rank's learner."""
    return ray.get([rank.__ray_call__.remote(function) for rank in group.ranks], timeout=120)


def weights_of(folder: Path) -> dict[str, Tensor]:
    return Policy.from_pretrained(folder).weights()


def furthest(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def candidate(policy: Policy, number: int, index: int, text: str, logprobs: tuple[float, ...] = ()) -> Candidate:
    ids = tuple(policy.answer(text))
    return Candidate(
        candidate_id=f"case-{number}.0.{index}",
        case_id=f"case-{number}",
        study_id=f"study-{number}",
        round=0,
        index=index,
        attempt=0,
        prompt=PROMPT,
        text=text,
        token_ids=ids,
        logprobs=logprobs or (-1.0,) * len(ids),
        finish_reason="stop",
        usable=True,
        policy_version=0,
        weights_checksum="",
        feature_key=f"f{number}",
        seed=number * 6 + index,
        sampled_at=datetime.now(UTC),
    )
