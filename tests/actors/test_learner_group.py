"""The learners as one: a rank that is lost, a rank that fails alone, and what is said of either."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import OutOfMemoryError
from trainings import candidate

from actors import learner_group
from actors.learner_faults import LearnerOutOfMemory
from actors.learner_group import LearnerGroup
from actors.outages import Outages
from actors.placement import Placement
from actors.remote import ActorLost
from actors.weights import checksum_of
from rlaif.learner_settings import TrainingSettings
from rlaif.models.policy import Policy
from rlaif.records import Candidate, Case
from rlaif.tables import Table
from rlaif.vision import StoredFeatures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
PROMPT = "<image>\nDescribe the findings of this chest CT."
REPORTS = ("The lungs are clear.", "There is a 12 mm nodule.", "Moderate cardiomegaly.", "No nodule.")
CASES = [Case(f"c{n}", f"s{n}", f"p{n}", PROMPT, text, text, f"f{n}") for n, text in enumerate(REPORTS)]
# Long enough for a rank to be killed in the middle of it.
TRAINING = TrainingSettings(train=("language_model",), epochs=12, batch=2, lr=1e-4, warmup=0.0, schedule="linear")


@pytest.fixture(scope="module")
def group(cluster: None, small: Any) -> Iterator[LearnerGroup]:
    """A group of two ranks that may be started again once."""
    config = small.config("learner.ranks=2", "learner.restarts=1")
    made = LearnerGroup(config, StoredFeatures(small.features), Placement(config), Outages())
    yield made
    made.close()


def trained(group: LearnerGroup, small: Any, target: Path, training: TrainingSettings = TRAINING) -> Iterator[Any]:
    return group.train("train_sft", str(small.first), CASES, str(target), training)


def kill(rank: Any) -> None:
    os.kill(ray.get(rank.__ray_call__.remote(lambda _: os.getpid()), timeout=60), signal.SIGKILL)


def test_a_lost_rank_takes_the_group_with_it_and_the_training_begins_anew(
    group: LearnerGroup, small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = ray.get(group.ranks[1].__ray_call__.remote(lambda _: os.getpid()), timeout=60)
    steps: list[Any] = []
    for step in trained(group, small, tmp_path / "killed"):
        steps.append(step)
        if len(steps) == 2:
            os.kill(pid, signal.SIGKILL)
    begun = [number for number, step in enumerate(steps) if step["step"] == 0]
    assert len(begun) == 2 and steps[-1]["step"] == 23
    said = capsys.readouterr().out
    assert "learner 1 died in train_sft" in said and "(restart 1 of learner.restarts=1)" in said

    undisturbed = list(trained(group, small, tmp_path / "undisturbed"))
    assert steps[begun[1] :] == undisturbed
    killed, whole = (Policy.from_pretrained(tmp_path / name).weights() for name in ("killed", "undisturbed"))
    assert all(torch.equal(killed[name], whole[name]) for name in whole)

    # It may be started again once in a run.
    kill(group.ranks[0])
    with pytest.raises(
        ActorLost, match=r"learner 0 died in train_sft.*learner.restarts=1 is used up: the same command"
    ):
        list(trained(group, small, tmp_path / "lost"))
    assert not group.ranks and not (tmp_path / "lost").exists()


def test_a_rank_that_fails_alone_is_heard_and_the_others_do_not_wait_for_it(
    group: LearnerGroup, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_group, "GRACE_S", 3.0)
    short = TRAINING.model_copy(update={"epochs": 1})
    assert len(list(trained(group, small, tmp_path / "first", short))) == 2

    def starve(_: Any) -> None:
        Policy.forward = lambda *_: torch.empty(2**46, dtype=torch.uint8)  # type: ignore[method-assign]

    ray.get(group.ranks[1].__ray_call__.remote(starve), timeout=60)
    with pytest.raises(LearnerOutOfMemory, match=r"learner 1 has not enough memory .*DefaultCPUAllocator"):
        list(trained(group, small, tmp_path / "starved", short))
    # Rank 0 would have waited for it: both were ended, and are started when they are needed next.
    assert not group.ranks and not (tmp_path / "starved").exists()
    assert len(list(trained(group, small, tmp_path / "second", short))) == 2


def test_a_rank_that_ray_ended_for_memory_is_told_with_what_to_change(group: LearnerGroup) -> None:
    fault = OutOfMemoryError("Task was killed due to the node running low on memory.")
    with pytest.raises(
        LearnerOutOfMemory, match=r"learner 1 was ended in train_dpo.*learner.gradient_checkpointing=true"
    ):
        group._fail("train_dpo", {1: fault}, waiting=False)


def test_a_rank_lost_before_its_weights_are_sent_starts_again_and_sends_them(group: LearnerGroup, small: Any) -> None:
    group.restarted = 0
    assert ray.get(group.weights(str(small.first), 2), timeout=60).version == 2
    kill(group.ranks[0])
    sent = ray.get(group.weights(str(small.first), 3), timeout=60)
    assert (sent.version, sent.checksum) == (3, checksum_of(Policy.from_pretrained(small.first).weights()))
    assert group.restarted == 1


def test_a_rank_lost_while_it_compares_log_probs_starts_again_and_compares_them(
    group: LearnerGroup, small: Any, tmp_path: Path
) -> None:
    policy = Policy.from_pretrained(small.first)
    rows = [candidate(policy, number, 0, text) for number, text in enumerate(REPORTS)]
    Table(tmp_path / "round-000" / "candidates", Candidate).append(rows)
    before = group.logprob_gap(str(small.first), str(tmp_path), 0)
    assert before["tokens"] == sum(len(row.token_ids) for row in rows) and before["mean"] > 0

    def die(learner: Any) -> None:
        learner._frozen = lambda _: os._exit(1)

    ray.get(group.ranks[0].__ray_call__.remote(die), timeout=60)
    group.restarted = 0
    assert group.logprob_gap(str(small.first), str(tmp_path), 0) == before
    assert group.restarted == 1
