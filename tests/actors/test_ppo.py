"""PPO, GRPO and RLOO on real DeepSpeed ranks: what they make likelier, what they leave alone, and when they stop."""

from array import array
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trainings import PROMPT, candidate, furthest, train, weights_of

from actors.learner_faults import LearningFailed
from actors.learner_group import LearnerGroup
from actors.ppo_training import experience
from actors.rollout_batches import RolloutBatches
from rlaif.features import FeatureStore
from rlaif.models.policy import Policy
from rlaif.records import Candidate, Judgement
from rlaif.rollouts import Rollout
from rlaif.tables import Table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
# What the judge of these tests likes, what it does not, and what it takes for even.
GOOD, BAD, EVEN = (
    "There is a 12 mm nodule in the right upper lobe.",
    "The lungs are clear. There is no pleural effusion.",
    "Moderate cardiomegaly.",
)
PPO = ("learner.ppo.batch=8", "learner.ppo.epochs=3", "learner.ppo.lr=3e-4")


@pytest.fixture(scope="module")
def sampled_run(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose round 0 has three scored reports of each of four cases, and one that its judge left out."""
    run = tmp_path_factory.mktemp("sampled")
    policy, store = Policy.from_pretrained(small.first), FeatureStore(small.features)
    candidates, judgements = [], []
    for number in range(4):
        for index, (text, score) in enumerate(((GOOD, 1.0), (BAD, 0.0), (EVEN, 0.5))):
            tokens = policy.collate([policy.prompt(PROMPT)], [policy.answer(text)])
            with torch.inference_mode():
                known = policy(tokens, [store.get(f"f{number}")])[tokens.answer]
            candidates.append(candidate(policy, number, index, text, tuple(known.tolist())))
            failed = number == 3 and index == 2
            judgements.append(judgement(candidates[-1], None if failed else score))
    Table(run / "round-000" / "candidates", Candidate).append(candidates)
    Table(run / "round-000" / "judgements", Judgement).append(judgements)
    return run


def judgement(of: Candidate, score: float | None) -> Judgement:
    return Judgement(
        judgement_id=f"{of.candidate_id}.rules",
        candidate_id=of.candidate_id,
        case_id=of.case_id,
        round=0,
        judge="rules",
        judge_version="rules-2",
        score=score,
        scale_low=0.0,
        scale_high=1.0,
        failure="no_reference" if score is None else None,
        explanation="",
        counts=None,
        scores=None,
        raw=None,
        cached=False,
        latency_s=0.0,
        prompt_tokens=0,
        completion_tokens=0,
        cost_usd=0.0,
    )


def reinforce(
    group: LearnerGroup,
    small: Any,
    run: Path,
    target: Path,
    *overrides: str,
    folder: Path | None = None,
    kl_weight: float = 0.05,
) -> list[dict[str, float]]:
    arguments = (str(folder or small.first), str(small.first), str(run), 0, str(target), "rules", kl_weight)
    return train(group, small, "train_ppo", arguments, *PPO, *overrides)


def preference(folder: Path, small: Any) -> float:
    """How much likelier a policy finds the good report than the bad one, in nats, over the cases."""
    policy, store = Policy.from_pretrained(folder), FeatureStore(small.features)
    tokens = policy.collate([policy.prompt(PROMPT)] * 2, [policy.answer(GOOD), policy.answer(BAD)])
    with torch.inference_mode():
        sums = [policy(tokens, [store.get(f"f{number}")] * 2).sum(dim=1) for number in range(4)]
    return float(torch.stack([good - bad for good, bad in sums]).mean())


@pytest.mark.parametrize("advantage", ["gae", "grpo", "rloo"])
def test_what_scores_high_becomes_likelier(
    one: LearnerGroup, small: Any, sampled_run: Path, tmp_path: Path, advantage: str
) -> None:
    steps = reinforce(one, small, sampled_run, tmp_path / "new", f"learner.ppo.advantage={advantage}")
    # Eleven scored reports in batches of eight, three times.
    assert [(step["step"], step["of"]) for step in steps] == [(number, 6) for number in range(6)]
    # The policy is the one that wrote the reports, and the base: it has not moved, and no token is clipped.
    first = steps[0]
    assert first["moved"] == pytest.approx(0.0, abs=1e-8) and first["kl"] == pytest.approx(0.0, abs=1e-8)
    assert first["clipped"] == 0.0 and first["sampled_kl"] == pytest.approx(0.0, abs=1e-4)
    assert steps[-1]["moved"] > 1e-3 and 1e-3 < steps[-1]["kl"] < 50
    assert preference(tmp_path / "new", small) > preference(small.first, small) + 1.0
    assert ("value_loss" in first) is (advantage == "gae")
    assert (tmp_path / "new" / "value_head.safetensors").is_file() is (advantage == "gae")


@pytest.mark.parametrize("advantage", ["gae", "grpo"])
def test_ranks_and_zero_stages_end_in_the_same_weights(
    two: LearnerGroup, one: LearnerGroup, small: Any, sampled_run: Path, tmp_path: Path, advantage: str
) -> None:
    chosen = f"learner.ppo.advantage={advantage}"
    alone = reinforce(one, small, sampled_run, tmp_path / "one", chosen, "learner.zero_stage=0")
    for stage in (1, 3):
        target = tmp_path / str(stage)
        steps = reinforce(two, small, sampled_run, target, chosen, f"learner.zero_stage={stage}")
        for ours, theirs in zip(alone, steps, strict=True):
            assert theirs == pytest.approx(ours, rel=1e-3, abs=1e-5), stage
        assert furthest(weights_of(tmp_path / "one"), weights_of(target)) < 1e-5, stage
        if advantage == "gae":
            heads = [load_file(folder / "value_head.safetensors") for folder in (tmp_path / "one", target)]
            assert furthest(*heads) < 1e-5 and float(heads[0]["weight"].abs().max()) > 0


def test_the_value_head_goes_on_from_round_to_round(
    one: LearnerGroup, small: Any, sampled_run: Path, tmp_path: Path
) -> None:
    # A rate at which the policy stays nearly where it is, so that the second round's values fit the same reports.
    still = ("learner.ppo.lr=1e-9", "learner.ppo.value_lr=1e-2", "learner.ppo.epochs=20", "learner.ppo.value_clip=5")
    first = reinforce(one, small, sampled_run, tmp_path / "first", *still)
    second = reinforce(one, small, sampled_run, tmp_path / "second", *still, folder=tmp_path / "first")
    assert first[-1]["value_loss"] < 0.7 * first[0]["value_loss"]
    # Returns depend on the values themselves, and both rounds begin on the same reports.
    assert second[0]["value_loss"] < 0.9 * first[0]["value_loss"]


def test_the_value_loss_reaches_the_policy_only_where_it_is_told_to(
    one: LearnerGroup, small: Any, sampled_run: Path, tmp_path: Path
) -> None:
    # Gradients are not clipped together, and a weight of 1e-12 leaves the values' loss out.
    free = ("learner.max_grad_norm=1e9", "learner.ppo.epochs=2")
    made = {}
    for name, trains, weight in (("without", "true", 1e-12), ("apart", "false", 1.0), ("together", "true", 1.0)):
        told = (f"learner.ppo.value_trains_policy={trains}", f"learner.ppo.value_weight={weight}")
        reinforce(one, small, sampled_run, tmp_path / name, *free, *told)
        made[name] = weights_of(tmp_path / name)
    assert furthest(made["without"], made["apart"]) < 1e-6
    assert furthest(made["without"], made["together"]) > 1e-4


def test_equal_scores_leave_the_policy_as_it_is(
    one: LearnerGroup, small: Any, sampled_run: Path, tmp_path: Path
) -> None:
    rows = Table(sampled_run / "round-000" / "candidates", Candidate).read()
    run = tmp_path / "even" / "round-000"
    Table(run / "candidates", Candidate).append(rows)
    Table(run / "judgements", Judgement).append([judgement(row, 0.3) for row in rows])
    for advantage in ("gae", "rloo", "grpo"):
        target, chosen = tmp_path / advantage, f"learner.ppo.advantage={advantage}"
        # The price of the divergence is a reward too.
        reinforce(one, small, run.parent, target, chosen, "learner.ppo.kl_weight=0", kl_weight=0.0)
        assert furthest(weights_of(small.first), weights_of(target)) == 0.0, advantage


def test_rounding_is_not_made_large_where_scores_are_equal(small: Any) -> None:
    policy, dice = Policy.from_pretrained(small.first), torch.Generator().manual_seed(3)
    rollouts = [Rollout(f"c{n}", PROMPT, None, array("i", [5] * 9), array("f", [-1.0] * 9), 0.3) for n in range(8)]
    batches = RolloutBatches(rollouts, policy, {}, torch.device("cpu"))
    # What vLLM and a learner in bfloat16 differ by.
    reference = batches.sampled_logprobs + 1e-2 * torch.randn(batches.mask.shape, generator=dice)
    for whitened, bound in (("true", 0.005), ("false", 0.15)):
        settings = small.config(f"learner.ppo.whiten_rewards={whitened}").learner.ppo
        taught = experience(batches, reference, torch.zeros(batches.mask.shape), settings, 0.05, steer=False)
        assert 0 < float(taught.advantages.abs().max()) < bound
        assert float(taught.advantages.mean()) == pytest.approx(0.0, abs=1e-6)


def test_the_price_of_a_nat_follows_its_target_once_the_policy_has_left_the_base(
    one: LearnerGroup, small: Any, sampled_run: Path, tmp_path: Path
) -> None:
    steer = ("learner.ppo.kl_target=5", "learner.ppo.kl_horizon=22", "learner.ppo.epochs=1", "learner.ppo.max_kl=5000")
    first = reinforce(one, small, sampled_run, tmp_path / "first", *steer)
    assert first[0]["kl_weight"] == 0.05
    # The reports are not the second policy's: they are as likely under the base as the base made them.
    second = reinforce(one, small, sampled_run, tmp_path / "second", *steer, folder=tmp_path / "first")
    assert second[0]["sampled_kl"] == pytest.approx(0.0, abs=1e-4)
    # A fifth too little, over 11 of 22 reports.
    assert second[0]["kl_weight"] == pytest.approx(0.05 * (1 - 0.2 * 11 / 22))


def test_adapters_that_drop_out_still_begin_as_the_policy_that_wrote_the_reports(
    one: LearnerGroup, small: Any, sampled_run: Path, tmp_path: Path
) -> None:
    dropping = "learner.lora={rank: 2, alpha: 4, dropout: 0.5, targets: all-linear}"
    first = reinforce(one, small, sampled_run, tmp_path / "first", dropping)
    assert first[0]["moved"] == pytest.approx(0.0, abs=1e-8)
    again = [
        reinforce(one, small, sampled_run, tmp_path / str(number), lora, folder=tmp_path / "first")[0]
        for number, lora in enumerate((dropping, dropping.replace("0.5", "0.0")))
    ]
    assert again[0] == pytest.approx(again[1], abs=1e-5) and again[0]["moved"] > 1e-3


def test_shuffled_scores_are_the_same_scores_on_other_reports(
    one: LearnerGroup, small: Any, sampled_run: Path, tmp_path: Path
) -> None:
    rloo = "learner.ppo.advantage=rloo"
    reinforce(one, small, sampled_run, tmp_path / "true", rloo)
    reinforce(one, small, sampled_run, tmp_path / "shuffled", rloo, "learner.ppo.shuffle_rewards=true")
    before = preference(small.first, small)
    assert preference(tmp_path / "shuffled", small) - before < 0.5 * (preference(tmp_path / "true", small) - before)


def test_a_divergence_that_runs_away_ends_the_training_and_writes_nothing(
    one: LearnerGroup, small: Any, sampled_run: Path, tmp_path: Path
) -> None:
    message = r"step \d of 6 has left the reference by .* nats a report, more than learner.ppo.max_kl=0.01: nothing was"
    with pytest.raises(LearningFailed, match=message):
        reinforce(one, small, sampled_run, tmp_path / "far", "learner.ppo.max_kl=0.01")
    assert not (tmp_path / "far").exists()


LORA = "learner.lora={rank: 2, alpha: 4, dropout: 0.0, targets: all-linear}"


def test_adapters_alone_learn_by_ppo_and_go_on(
    one: LearnerGroup, small: Any, sampled_run: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    reinforce(one, small, sampled_run, first, LORA)
    reinforce(one, small, sampled_run, second, LORA, folder=first)
    name = "language_model.model.layers.0.self_attn.q_proj.weight"
    base, later = weights_of(small.first)[name], weights_of(second)[name]
    assert not torch.equal(weights_of(first)[name], later)
    assert torch.linalg.matrix_rank(later - base, atol=1e-6) <= 2
