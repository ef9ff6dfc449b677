"""The learners on real DeepSpeed ranks over gloo: what they train, what they leave alone, and that ranks agree."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from safetensors.torch import load_file
from torch import Tensor
from trainings import PROMPT, candidate, furthest, on_all, told, train, weights_of

from actors.gathered_weights import gathered_weights
from actors.learner_faults import LearnerOutOfMemory, LearningFailed
from actors.learner_group import LearnerGroup
from actors.learning import learn
from actors.weights import checksum_of as weights_checksum
from rlaif.files import checksum_of
from rlaif.ledger import RunFolder
from rlaif.models.policy import Policy
from rlaif.models.settings import LoraSettings, PolicyError
from rlaif.records import Candidate, Case, Pair
from rlaif.tables import Table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
REPORTS = (
    "The lungs are clear. There is no pleural effusion.",
    "There is a 12 mm nodule in the right upper lobe.",
    "Moderate cardiomegaly. Small left pleural effusion.",
    "Consolidation in the right lower lobe. No pericardial effusion. The heart is of normal size.",
    "Atelectasis of the left lower lobe.",
    "The heart is of normal size.",
    "No nodule.",
)
GOLDEN = Path(__file__).parent / "golden" / "dpo_losses.json"


@dataclass(frozen=True)
class Trained:
    """A training: its folder and its steps."""

    folder: Path
    steps: list[dict[str, float]]

    @property
    def losses(self) -> list[float]:
        return [step["loss"] for step in self.steps]


TEN_STEPS = ("learner.dpo.epochs=5", "learner.zero_stage=0", "learner.micro_batch=4")


@pytest.fixture(scope="module")
def ten_steps(one: LearnerGroup, small: Any, paired_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Ten steps of one process without ZeRO, each of them one batch; the policy does not begin at its reference."""
    folder = tmp_path_factory.mktemp("ten") / "steps"
    return Trained(folder, train(one, small, "train_dpo", ten(small, paired_run, folder), *TEN_STEPS))


def ten(small: Any, run: Path, target: Path) -> tuple[Any, ...]:
    return (str(small.second), str(small.second), str(small.first), str(run), 0, str(target))


def cases() -> list[Case]:
    return [
        Case(f"case-{number}", f"study-{number}", f"patient-{number}", PROMPT, report, report, f"f{number}")
        for number, report in enumerate(REPORTS)
    ]


@pytest.fixture(scope="module")
def paired_run(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose round 0 has five pairs, one of which has the reference report as chosen."""
    run = tmp_path_factory.mktemp("paired")
    policy = Policy.from_pretrained(small.first)
    candidates, pairs = [], []
    for number in range(5):
        texts = (REPORTS[number], REPORTS[number + 1])
        candidates += [candidate(policy, number, index, text) for index, text in enumerate(texts)]
        chosen = f"case-{number}.0.0" if number else None
        score = 0.8 if number else None
        pairs.append(
            Pair(
                pair_id=f"case-{number}.0",
                case_id=f"case-{number}",
                round=0,
                strategy="strategy2",
                prompt=PROMPT,
                chosen=texts[0],
                rejected=texts[1],
                chosen_candidate_id=chosen,
                rejected_candidate_id=f"case-{number}.0.1",
                chosen_score=score,
                rejected_score=0.2,
                margin=0.6 if number else None,
                judge="rules",
            )
        )
    Table(run / "round-000" / "candidates", Candidate).append(candidates)
    Table(run / "round-000" / "pairs", Pair).append(pairs)
    return run


def test_two_ranks_fine_tune_as_one_does(two: LearnerGroup, one: LearnerGroup, small: Any, tmp_path: Path) -> None:
    # Seven cases in batches of four: the last batch leaves a rank with less than the other.
    steps = {
        name: train(group, small, "train_sft", (str(small.first), cases(), str(tmp_path / name)))
        for name, group in (("one", one), ("two", two))
    }
    assert len(steps["one"]) == len(steps["two"]) == 4
    for ours, theirs in zip(steps["one"], steps["two"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    assert steps["two"][-1]["loss"] < steps["two"][0]["loss"]
    trained, together = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert furthest(trained, together) < 1e-5
    assert furthest(trained, weights_of(small.first)) > 1e-4
    assert not torch.equal(trained["connector.0.weight"], weights_of(small.first)["connector.0.weight"])
    kept = (tmp_path / "two" / "encoder.safetensors").read_bytes()
    assert kept == (small.first / "encoder.safetensors").read_bytes()


def test_two_ranks_learn_preferences_as_one_does(
    two: LearnerGroup, one: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path
) -> None:
    steps = {
        name: train(
            group,
            small,
            "train_dpo",
            (str(small.first), str(small.first), str(small.first), str(paired_run), 0, str(tmp_path / name)),
        )
        for name, group in (("one", one), ("two", two))
    }
    assert len(steps["one"]) == len(steps["two"]) == 4
    for ours, theirs in zip(steps["one"], steps["two"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    assert furthest(weights_of(tmp_path / "one"), weights_of(tmp_path / "two")) < 1e-5
    # The policy begins at its reference: no margin, so the loss is ln 2.
    assert steps["two"][0]["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert steps["two"][0]["margin"] == pytest.approx(0.0, abs=1e-4)
    assert steps["two"][-1]["margin"] > 0


def test_both_ranks_tell_the_same_steps(two: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path) -> None:
    arguments = (str(small.second), str(small.first), str(small.first), str(paired_run), 0, str(tmp_path / "trained"))
    streams = [rank.train_dpo.remote(*arguments) for rank in two.ranks]
    told = [[ray.get(step, timeout=120) for step in stream] for stream in streams]
    assert told[0] == told[1]
    assert told[0][0]["loss"] != pytest.approx(0.693147, abs=1e-3)


def test_the_connector_moves_only_where_it_is_told_to(
    one: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path
) -> None:
    before = weights_of(small.first)
    for parts in (["language_model"], ["language_model", "connector"], ["connector"], ["connector.2"]):
        target = tmp_path / "-".join(parts)
        arguments = (str(small.first), str(small.first), str(small.first), str(paired_run), 0, str(target))
        train(one, small, "train_dpo", arguments, f"learner.dpo.train=[{','.join(parts)}]")
        after = weights_of(target)
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == {name for name in before if name.startswith(tuple(parts))} - {"language_model.lm_head.bias"}


LORA = "learner.lora={rank: 2, alpha: 4, dropout: 0.0, targets: all-linear}"


def test_adapters_leave_the_base_as_it_is_and_go_on_in_the_next_round(
    one: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path
) -> None:
    base = weights_of(small.first)
    first, second = tmp_path / "first", tmp_path / "second"
    arguments = (str(small.first), str(small.first), str(small.first), str(paired_run), 0)
    train(one, small, "train_dpo", (*arguments, str(first)), LORA)
    changed = {name for name, tensor in weights_of(first).items() if not torch.equal(tensor, base[name])}
    assert changed and all(name.endswith("_proj.weight") for name in changed)

    # The written weights are the base's and the adapters' product: rank 2 at most.
    name = "language_model.model.layers.0.self_attn.q_proj.weight"
    assert torch.linalg.matrix_rank(weights_of(first)[name] - base[name], atol=1e-6) <= 2
    adapters = load_file(first / "adapters.safetensors")
    again = Policy.from_pretrained(small.first)
    again.add_adapters(LoraSettings(rank=2, alpha=4, dropout=0.0, targets="all-linear"))
    again.load_state_dict(adapters, strict=False)
    assert furthest(again.weights(), weights_of(first)) < 1e-6

    steps = train(
        one, small, "train_dpo", (str(first), str(small.first), str(small.first), str(paired_run), 0, str(second)), LORA
    )
    assert steps[0]["margin"] > 1e-4, "the second round should begin where the first ended"
    assert torch.linalg.matrix_rank(weights_of(second)[name] - base[name], atol=1e-6) <= 2


def test_adapters_keep_a_connector_that_an_earlier_round_trained(
    one: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    both = (LORA, "learner.dpo.train=[language_model,connector]")
    train(
        one,
        small,
        "train_dpo",
        (str(small.first), str(small.first), str(small.first), str(paired_run), 0, str(first)),
        *both,
    )
    train(
        one, small, "train_dpo", (str(first), str(small.first), str(small.first), str(paired_run), 0, str(second)), LORA
    )
    trained, kept = weights_of(first), weights_of(second)
    assert not torch.equal(trained["connector.0.weight"], weights_of(small.first)["connector.0.weight"])
    assert torch.equal(trained["connector.0.weight"], kept["connector.0.weight"])


def test_adapters_on_the_connector_keep_a_language_model_that_an_earlier_round_trained(
    one: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    lora = LORA.replace("all-linear", "all-linear, parts: [connector]")
    both, alone = ("learner.dpo.train=[language_model,connector]", "learner.dpo.train=[connector]")
    train(
        one,
        small,
        "train_dpo",
        (str(small.first), str(small.first), str(small.first), str(paired_run), 0, str(first)),
        lora,
        both,
    )
    steps = train(
        one,
        small,
        "train_dpo",
        (str(first), str(small.first), str(small.first), str(paired_run), 0, str(second)),
        lora,
        alone,
    )
    assert steps[0]["margin"] > 1e-4, "the second round should begin where the first ended"
    start, trained, kept = weights_of(small.first), weights_of(first), weights_of(second)
    words = "language_model.model.embed_tokens.weight"
    assert not torch.equal(trained[words], start[words]) and torch.equal(trained[words], kept[words])
    # Two rounds of adapters of rank 2 are still one product of rank 2 on the base.
    assert torch.linalg.matrix_rank(kept["connector.0.weight"] - start["connector.0.weight"], atol=1e-6) <= 2


def test_the_gap_tells_the_policy_that_sampled_from_another(
    one: LearnerGroup, two: LearnerGroup, small: Any, tmp_path: Path
) -> None:
    from rlaif.features import FeatureStore

    policy, store = Policy.from_pretrained(small.first), FeatureStore(small.features)
    rows = []
    for number, report in enumerate(REPORTS):
        tokens = policy.collate([policy.prompt(PROMPT)], [policy.answer(report)])
        with torch.inference_mode():
            known = policy(tokens, [store.get(f"f{number}")])[tokens.answer]
        rows.append(candidate(policy, number, 0, report, tuple(known.tolist())))
    Table(tmp_path / "round-000" / "candidates", Candidate).append(rows)
    same = one.logprob_gap(str(small.first), str(tmp_path), 0)
    other = one.logprob_gap(str(small.second), str(tmp_path), 0)
    assert same["mean"] < 1e-5 and same["max"] < 1e-4
    assert same["tokens"] == sum(len(row.token_ids) for row in rows)
    assert other["mean"] > 0.1
    for stage in (1, 3):
        told(two, small, f"learner.zero_stage={stage}")
        assert two.logprob_gap(str(small.second), str(tmp_path), 0) == pytest.approx(other, abs=1e-6), stage


@pytest.mark.parametrize("adapted", [(), (LORA,), (LORA.replace("all-linear", "all-linear, parts: [connector]"),)])
def test_zero_3_writes_layer_by_layer_what_zero_2_writes(
    two: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path, adapted: tuple[str, ...]
) -> None:
    def watch(_: Any) -> None:
        written = Policy.save_pretrained

        def save(policy: Policy, *arguments: Any) -> None:
            Policy.whole = sum(one.numel() > 0 for one in policy.parameters())  # type: ignore[attr-defined]
            Policy.save_pretrained = written  # type: ignore[method-assign]
            policy.save_pretrained(*arguments)

        Policy.save_pretrained = save  # type: ignore[method-assign, assignment]

    # Adam makes steps of the learning rate out of rounding errors: a small one tells what is written from those.
    trains = ("learner.dpo.train=[language_model,connector]", "learner.dpo.lr=1e-5")
    for stage in (2, 3):
        on_all(two, watch)
        arguments = (*[str(small.second)] * 2, str(small.first), str(paired_run), 0, str(tmp_path / str(stage)))
        train(two, small, "train_dpo", arguments, *trains, f"learner.zero_stage={stage}", *adapted)
    assert ray.get(two.ranks[0].__ray_call__.remote(lambda _: Policy.whole), timeout=60) == 0  # type: ignore[attr-defined]

    one, other = ({path.relative_to(root): path for path in root.rglob("*.*")} for root in map(tmp_path.joinpath, "23"))
    assert one.keys() == other.keys() and (Path("adapters.safetensors") in one) is bool(adapted)
    for path in one:
        if path.suffix == ".safetensors":
            assert furthest(load_file(one[path]), load_file(other[path])) < 1e-6, path
    written = weights_of(tmp_path / "3")
    assert furthest(written, weights_of(small.second)) > 2e-6
    checksum = json.loads((tmp_path / "3" / "weights.json").read_text(encoding="utf-8"))["checksum"]
    assert checksum == weights_checksum(written)


def test_with_zero_3_a_policy_that_none_trained_here_is_shared_out_before_it_is_sent(
    two: LearnerGroup, small: Any
) -> None:
    told(two, small, "learner.zero_stage=3")
    folder = small.second

    def shared_out(learner: Any) -> tuple[str, int, dict[str, Tensor]]:
        policy, checksum = learner._to_transfer(folder)
        return checksum, sum(one.numel() for one in policy.parameters()), gathered_weights(policy, keep=True)

    weights = weights_of(folder)
    for checksum, whole, gathered in on_all(two, shared_out):
        assert (checksum, whole) == (weights_checksum(weights), 0)
        assert furthest(gathered, weights) == 0.0


ZERO = (
    ("learner.zero_stage=0",),
    ("learner.zero_stage=1", "learner.gradient_checkpointing=true"),
    ("learner.zero_stage=2", "learner.offload=optimizer"),
    ("learner.zero_stage=3",),
    ("learner.zero_stage=3", "learner.offload=all", "learner.gradient_checkpointing=true"),
)


def test_every_zero_stage_ends_in_the_weights_of_a_single_process(
    two: LearnerGroup, small: Any, paired_run: Path, ten_steps: Trained, tmp_path: Path
) -> None:
    # A rank adds up two micro-batches of one pair, of unequal lengths, where the single process has one batch of four.
    assert len(ten_steps.steps) == 10
    alone = weights_of(ten_steps.folder)
    assert furthest(alone, weights_of(small.second)) > 1e-4
    for number, overrides in enumerate(ZERO):
        target = tmp_path / str(number)
        arguments = ten(small, paired_run, target)
        steps = train(two, small, "train_dpo", arguments, *TEN_STEPS, "learner.micro_batch=1", *overrides)
        for ours, theirs in zip(ten_steps.steps, steps, strict=True):
            assert theirs == pytest.approx(ours, rel=1e-3, abs=1e-5), overrides
        assert furthest(alone, weights_of(target)) < 1e-5, overrides


RATES = {
    # Two steps of warm-up, then eight, on the tenth of which a fall ends at nothing.
    "linear": [0, 1 / 2, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8],
    "cosine": [0, 1 / 2, *((1 + cos(pi * step / 8)) / 2 for step in range(8))],
    "constant": [0, 1 / 2, 1, 1, 1, 1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("schedule", RATES)
def test_the_learning_rate_of_each_step_is_the_schedules(
    one: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path, schedule: str
) -> None:
    overrides = (*TEN_STEPS, f"learner.dpo.schedule={schedule}", "learner.dpo.warmup=0.2")
    steps = train(one, small, "train_dpo", ten(small, paired_run, tmp_path / "new"), *overrides)
    assert [step["lr"] for step in steps] == pytest.approx([1e-4 * rate for rate in RATES[schedule]], abs=1e-9)


def test_bfloat16_learns_as_float32_does_within_its_rounding(
    two: LearnerGroup, small: Any, paired_run: Path, ten_steps: Trained, tmp_path: Path
) -> None:
    half = (*TEN_STEPS, "learner.dtype=bfloat16", "learner.zero_stage=1")
    steps = train(two, small, "train_dpo", ten(small, paired_run, tmp_path / "half"), *half)
    assert [step["loss"] for step in steps] == pytest.approx(ten_steps.losses, rel=0.05)
    written = load_file(tmp_path / "half" / "language_model" / "model.safetensors")
    assert {one.dtype for one in written.values()} == {torch.bfloat16}
    start, exact = weights_of(small.second), weights_of(ten_steps.folder)
    name = "language_model.model.layers.0.mlp.up_proj.weight"
    moved, ours = exact[name] - start[name], weights_of(tmp_path / "half")[name].float() - start[name]
    # The same way, as far as eight bits show it.
    assert float(torch.nn.functional.cosine_similarity(moved.flatten(), ours.flatten(), dim=0)) > 0.5


def test_zero_3_with_adapters_knows_its_reference_from_every_source(
    two: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path
) -> None:
    base, first = str(small.first), tmp_path / "first"
    train(two, small, "train_dpo", (base, base, base, str(paired_run), 0, str(first)), LORA, "learner.zero_stage=3")
    told = {}
    for source in ("copy", "precomputed", "adapters_off"):
        arguments = (str(first), base, base, str(paired_run), 0, str(tmp_path / source))
        told[source] = train(
            two, small, "train_dpo", arguments, LORA, "learner.zero_stage=3", f"learner.dpo.reference={source}"
        )
    assert told["copy"][0]["margin"] > 1e-4
    for source, steps in told.items():
        for ours, theirs in zip(told["copy"], steps, strict=True):
            assert theirs == pytest.approx(ours, abs=1e-5), source


def test_the_same_seed_gives_the_losses_of_the_golden_file(
    one: LearnerGroup, small: Any, paired_run: Path, ten_steps: Trained, tmp_path: Path
) -> None:
    """Written anew by RLAIF_WRITE_GOLDEN=1 pytest tests/actors/test_learner.py -k golden."""
    again = train(one, small, "train_dpo", ten(small, paired_run, tmp_path / "again"), *TEN_STEPS)
    assert again == ten_steps.steps
    if os.environ.get("RLAIF_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(ten_steps.losses, indent=2) + "\n", encoding="utf-8")
    assert ten_steps.losses == pytest.approx(json.loads(GOLDEN.read_text(encoding="utf-8")), rel=1e-4)


def test_the_reference_is_the_same_wherever_its_logprobs_come_from(
    two: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path
) -> None:
    base, first = str(small.first), tmp_path / "first"
    train(two, small, "train_dpo", (base, base, base, str(paired_run), 0, str(first)), LORA)
    told = {}
    for source in ("copy", "precomputed", "adapters_off"):
        # The second round, as the policy begins at its reference in the first.
        arguments = (str(first), base, base, str(paired_run), 0, str(tmp_path / source))
        told[source] = train(two, small, "train_dpo", arguments, LORA, f"learner.dpo.reference={source}")
    assert told["copy"][0]["margin"] > 1e-4
    for source, steps in told.items():
        for ours, theirs in zip(told["copy"], steps, strict=True):
            assert theirs == pytest.approx(ours, abs=1e-5), source
        assert furthest(weights_of(tmp_path / "copy"), weights_of(tmp_path / source)) < 1e-5


def test_a_reference_that_moves_is_the_policy_of_the_rounds_start(
    one: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path
) -> None:
    for source in ("copy", "precomputed"):
        arguments = (str(small.second), str(small.first), str(small.second), str(paired_run), 0, str(tmp_path / source))
        steps = train(one, small, "train_dpo", arguments, f"learner.dpo.reference={source}")
        assert steps[0]["margin"] == pytest.approx(0.0, abs=1e-4)


def test_the_trained_policy_is_kept_and_used_for_its_own_folder_alone(
    one: LearnerGroup, small: Any, paired_run: Path, tmp_path: Path
) -> None:
    base, run = str(small.first), str(paired_run)
    first, copy = tmp_path / "first", tmp_path / "copy"
    train(one, small, "train_dpo", (base, base, base, run, 0, str(first)))
    shutil.copytree(first, copy)
    sent = ray.get(one.ranks[0].weights.remote(str(copy), 1), timeout=60)
    assert json.loads((first / "weights.json").read_text(encoding="utf-8")) == {"checksum": sent.checksum}
    assert furthest(sent.tensors, weights_of(first)) == 0.0
    assert ray.get(one.ranks[0].weights.remote(base, 0), timeout=60).checksum != sent.checksum

    kept = train(one, small, "train_dpo", (str(copy), base, base, run, 0, str(tmp_path / "kept")))
    # Another training in between, so that the next one reads the folder.
    train(one, small, "train_dpo", (base, base, base, run, 0, str(tmp_path / "other")))
    read = train(one, small, "train_dpo", (str(copy), base, base, run, 0, str(tmp_path / "read")))
    assert kept == read and furthest(weights_of(tmp_path / "kept"), weights_of(tmp_path / "read")) == 0.0


@dataclass(frozen=True)
class Round:
    """A run whose round 0 has a checkpoint, and whose round 1 has its pairs and is to be learnt."""

    run: RunFolder
    small: Any

    @property
    def checkpoint(self) -> Path:
        return self.run.path / "round-000" / "checkpoint"

    def learn(self, group: LearnerGroup, base: Path, *overrides: str) -> Path:
        def trained(method: str, *arguments: Any) -> Iterator[Any]:
            yield from train(group, self.small, method, arguments, *overrides)

        learners = SimpleNamespace(train=trained, logprob_gap=lambda *_: {"mean": 0.0, "max": 0.0, "tokens": 1.0})
        fleet: Any = SimpleNamespace(learners=learners)
        return learn(self.run, self.small.config(*overrides), fleet, self.checkpoint, base, 1)


@pytest.fixture
def second_round(small: Any, paired_run: Path, tmp_path: Path) -> Iterator[Round]:
    with RunFolder.open(tmp_path, "run", {}) as run:
        shutil.copytree(small.second, run.path / "round-000" / "checkpoint")
        shutil.copytree(paired_run / "round-000" / "pairs", run.path / "round-001" / "pairs")
        shutil.copytree(paired_run / "round-000" / "candidates", run.path / "round-001" / "candidates")
        for name in ("round-000", "round-001"):
            run.finish(f"{name}/sample", judging={}, version=0)
        run.finish("round-001/pairs", pairs=5)
        yield Round(run, small)


def other_architecture(small: Any, folder: Path) -> Path:
    """A policy of another width."""
    from rlaif.models.new_policy import new_policy

    policy = small.config().policy
    size = {"hidden": 32, "layers": 2, "heads": 2, "intermediate": 64, "vocabulary": 300, "positions": 256}
    language = policy.language_model.model_copy(update=size)
    new_policy(policy.settings(), language, REPORTS, seed=1).save_pretrained(folder, small.root / "encoder.safetensors")
    return folder


def test_what_fails_leaves_the_last_checkpoint_and_no_new_one(
    one: LearnerGroup, small: Any, second_round: Round, tmp_path: Path
) -> None:
    before = checksum_of(second_round.checkpoint)

    def untouched() -> bool:
        left = {path.name for path in (second_round.run.path / "round-001").iterdir()}
        return checksum_of(second_round.checkpoint) == before and left == {"pairs", "candidates"}

    with pytest.raises(LearningFailed, match=r"step \d of 4 has loss .* nothing was saved. Lower this training's lr"):
        second_round.learn(one, small.first, "learner.dpo.lr=1e30", "learner.dpo.warmup=0")
    assert untouched()

    def starve(_: Any) -> None:
        Policy.fed = Policy.forward  # type: ignore[attr-defined]
        Policy.forward = lambda *_: torch.empty(2**46, dtype=torch.uint8)  # type: ignore[method-assign]

    def feed(_: Any) -> None:
        Policy.forward = Policy.fed  # type: ignore[attr-defined, method-assign]

    other = other_architecture(small, tmp_path / "other")
    with pytest.raises(PolicyError, match=r"other is of another architecture than .*hidden_size 32 for 64"):
        second_round.learn(one, other)
    assert untouched()

    ray.get([rank.__ray_call__.remote(starve) for rank in one.ranks], timeout=60)
    try:
        with pytest.raises(LearnerOutOfMemory, match=r"not enough memory .*lower learner.micro_batch=2 .*offload=opt"):
            second_round.learn(one, small.first)
    finally:
        ray.get([rank.__ray_call__.remote(feed) for rank in one.ranks], timeout=60)
    assert untouched()

    # The same group goes on.
    assert Policy.from_pretrained(second_round.learn(one, small.first)).positions == 256
