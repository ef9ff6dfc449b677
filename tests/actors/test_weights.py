"""Weights from learner to sampler: what goes, how it is proved, and that both then compute alike."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import RayTaskError
from torch import Tensor

from actors.fleet import Fleet
from actors.learner_group import LearnerGroup
from actors.learner_weights import weights_to_send
from actors.outages import Outages
from actors.placement import Placement
from actors.policy_loading import recorded_checksum
from actors.requests import Request
from actors.stale_weights import StaleWeights
from actors.weight_road import send_weights
from actors.weights import AdaptedLayers, Weights, checksum_of, digests_of
from rlaif.features import FeatureStore
from rlaif.models.adapters import Adapter
from rlaif.models.policy import Policy
from rlaif.models.settings import LoraSettings
from rlaif.models.stored_weights import StoredWeights, stored_dtype
from rlaif.records import Candidate, Case, Pair
from rlaif.tables import Table
from rlaif.vision import StoredFeatures

PROMPT = "<image>\nDescribe the findings of this chest CT."
REPORTS = (
    "The lungs are clear. There is no pleural effusion.",
    "There is a 12 mm nodule in the right upper lobe.",
    "Moderate cardiomegaly. Small left pleural effusion.",
    "Consolidation in the right lower lobe.",
)
CASES = [
    Case(f"case-{number}", f"study-{number}", f"patient-{number}", PROMPT, text, text, f"f{number}")
    for number, text in enumerate(REPORTS)
]


def test_weights_arrive_as_they_were_sent_without_a_copy() -> None:
    sent = {
        "a": torch.randn(3, 5),
        "b": torch.randn(4, 2).bfloat16().T,
        "scalar": torch.tensor(2.5),
        "none": torch.empty(0, 3, dtype=torch.float16),
        "whole": torch.tensor([1, -2]),
    }
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(Weights(3, checksum_of(sent), sent), protocol=5, buffer_callback=buffers.append)
    came: Weights = pickle.loads(data, buffers=[one.raw() for one in buffers])
    assert (came.version, came.checksum) == (3, checksum_of(came.tensors)) and came.adapters is None
    for name, tensor in sent.items():
        assert came.tensors[name].dtype == tensor.dtype and torch.equal(came.tensors[name], tensor)
    assert came.tensors["a"].data_ptr() == sent["a"].data_ptr() and len(data) < 2000


def test_a_checksum_tells_names_dtypes_shapes_and_every_bit() -> None:
    one = {"a": torch.zeros(4), "b": torch.ones(2)}
    flipped = one["a"].clone()
    flipped.view(torch.int32)[3] ^= 1
    others: list[dict[str, Tensor]] = [
        {"a": one["b"], "b": one["a"]},
        {"a": one["a"].view(2, 2), "b": one["b"]},
        {"a": one["a"].view(torch.int32), "b": one["b"]},
        {"a": flipped, "b": one["b"]},
        {"a": one["a"]},
    ]
    assert checksum_of({"b": one["b"], "a": one["a"]}) == checksum_of(one)
    assert len({checksum_of(other) for other in [one, *others]}) == 6
    assert set(digests_of(one)) == {"a", "b"}


def test_adapters_that_are_views_of_one_buffer_take_no_more_than_themselves() -> None:
    """As ZeRO leaves them after a training: 400 adapters of 20 MB in all once took 7,825 MiB on their way."""
    flat = torch.arange(1000, dtype=torch.float32)
    layers = {}
    for start in range(0, 1000, 10):
        down, up = flat[start : start + 4].view(2, 2), flat[start + 4 : start + 10].view(3, 2)
        layers[f"layer-{start}"] = Adapter(down, up, 0.5, False, torch.float32)
    sent = Weights(1, "sum", {}, AdaptedLayers("base", layers))
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(sent, protocol=5, buffer_callback=buffers.append)
    assert sum(one.raw().nbytes for one in buffers) == flat.nbytes and len(data) < 100 * 300
    came: Weights = pickle.loads(data, buffers=[one.raw() for one in buffers])
    assert came.adapters is not None and came.adapters.base == "base"
    for name, one in layers.items():
        other = came.adapters.layers[name]
        assert torch.equal(other.down, one.down) and torch.equal(other.up, one.up)
        assert (other.scaling, other.transposed, other.dtype) == (0.5, False, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_merge_to_the_same_bits_wherever_they_are_merged(
    small: Any, tmp_path: Path, dtype: torch.dtype
) -> None:
    Policy.from_pretrained(small.first, dtype=dtype).save_pretrained(tmp_path, None)
    policy = Policy.from_pretrained(tmp_path, dtype=dtype)
    policy.add_adapters(LoraSettings(rank=3, alpha=7, dropout=0.0, targets="all-linear", parts=("language_model",)))
    policy.train_only(["language_model"])
    with torch.no_grad():
        for name, one in policy.named_parameters():
            if ".lora_" in name:
                one.normal_(std=0.05)
    merged = policy.weights()
    sent = weights_to_send(policy, 1, checksum_of(merged), tmp_path)
    assert sent.adapters is not None and not sent.tensors
    size = sum(one.down.numel() + one.up.numel() for one in sent.adapters.layers.values())
    assert size * 2 < sum(one.numel() for one in merged.values())
    stored = StoredWeights(tmp_path)
    assert stored_dtype(tmp_path) == dtype
    again = {name: one.merged_into(stored[name]) for name, one in sent.adapters.layers.items()}
    assert {name for name, one in merged.items() if not torch.equal(one, stored[name])} == set(again)
    assert all(torch.equal(again[name], merged[name]) for name in again)
    # In 64 bits, rounded once.
    name, one = next(iter(sent.adapters.layers.items()))
    exact = stored[name].double() + one.up.double() @ one.down.double() * (7 / 3)
    assert (again[name].double() - exact).abs().max() <= exact.abs().max() * torch.finfo(dtype).eps


def test_adapters_on_a_base_of_another_dtype_are_sent_merged(small: Any, tmp_path: Path) -> None:
    Policy.from_pretrained(small.first, dtype=torch.bfloat16).save_pretrained(tmp_path, None)
    policy = Policy.from_pretrained(tmp_path, dtype=torch.float32)
    policy.add_adapters(LoraSettings(rank=2, alpha=4, dropout=0.0, targets="all-linear", parts=("language_model",)))
    merged = policy.weights()
    sent = weights_to_send(policy, 1, checksum_of(merged), tmp_path)
    assert sent.adapters is None and sent.tensors.keys() == merged.keys()


ADAPTERS = "learner.lora={rank: 2, alpha: 4, dropout: 0.0, targets: [q_proj, v_proj], parts: [language_model]}"
TRAINING = ("learner.sft.batch=4", "learner.sft.epochs=1", "learner.sft.lr=5e-3", "learner.sft.train=[language_model]")
DPO = ("learner.dpo.batch=4", "learner.dpo.epochs=1", "learner.dpo.lr=5e-3")


def group(small: Any, *overrides: str) -> LearnerGroup:
    config = small.config(*TRAINING, *DPO, *overrides)
    return LearnerGroup(config, StoredFeatures(small.features), Placement(config), Outages())


@pytest.fixture
def paired_run(small: Any, tmp_path: Path) -> Path:
    """A run folder whose round 0 prefers each report to the next one."""
    policy = Policy.from_pretrained(small.first)
    for number, texts in enumerate(pairwise(REPORTS)):
        made = [
            Candidate(
                candidate_id=f"case-{number}.0.{index}",
                case_id=f"case-{number}",
                study_id=f"study-{number}",
                round=0,
                index=index,
                attempt=0,
                prompt=PROMPT,
                text=text,
                token_ids=tuple(policy.answer(text)),
                logprobs=(-1.0,) * len(policy.answer(text)),
                finish_reason="stop",
                usable=True,
                policy_version=0,
                weights_checksum="",
                feature_key=f"f{number}",
                seed=index,
                sampled_at=datetime.now(UTC),
            )
            for index, text in enumerate(texts)
        ]
        pair = Pair(
            pair_id=f"case-{number}.0",
            case_id=f"case-{number}",
            round=0,
            strategy="strategy2",
            prompt=PROMPT,
            chosen=texts[0],
            rejected=texts[1],
            chosen_candidate_id=made[0].candidate_id,
            rejected_candidate_id=made[1].candidate_id,
            chosen_score=0.8,
            rejected_score=0.2,
            margin=0.6,
            judge="rules",
        )
        Table(tmp_path / "run" / "round-000" / "candidates", Candidate).append(made)
        Table(tmp_path / "run" / "round-000" / "pairs", Pair).append([pair])
    return tmp_path / "run"


@pytest.fixture
def sampler(fleet: Fleet, small: Any) -> Iterator[Any]:
    """The session's sampler, which stands on the first policy; it is given that back afterwards."""
    actor = fleet.samplers(small.first, 0).actors[0]
    first = Policy.from_pretrained(small.first).weights()
    own = Weights(0, checksum_of(first), first)
    assert ray.get(actor.load.remote(own), timeout=60) == (0, own.checksum)
    yield actor
    ray.get(actor.load.remote(own), timeout=60)


def gap(sampler: Any, folder: Path, features: Path) -> float:
    """Mean difference between the log-probs of what the sampler writes now and those of a folder's policy."""
    requests = [Request(case, case.feature_key, 6, 1.0) for case in CASES]
    stream = sampler.sample.remote(requests, 0)
    candidates: list[Candidate] = [one for item in stream for one in ray.get(item, timeout=120)]
    policy, store = Policy.from_pretrained(folder), FeatureStore(features)
    tokens = policy.collate([policy.prompt(PROMPT)] * len(candidates), [list(one.token_ids) for one in candidates])
    with torch.inference_mode():
        ours = policy(tokens, [store.get(str(one.feature_key)) for one in candidates])[tokens.answer]
    theirs = torch.tensor([value for one in candidates for value in one.logprobs])
    return float((ours - theirs).abs().mean())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_adapters_go_alone_round_after_round_with_the_connector_that_trains(
    sampler: Any, small: Any, paired_run: Path, tmp_path: Path
) -> None:
    trains = ("learner.dpo.train=[language_model,connector]", "learner.ranks=1")
    learners = group(small, ADAPTERS, *trains)
    folders = [small.first, tmp_path / "one", tmp_path / "two"]
    try:
        for round_, (start, target) in enumerate(pairwise(folders)):
            arguments = (str(start), str(small.first), str(small.first), str(paired_run), 0, str(target))
            assert list(learners.train("train_dpo", *arguments))
            sent = ray.get(learners.ranks[0].weights.remote(str(target), round_ + 1), timeout=60)
            assert sent.adapters is not None and len(sent.adapters.layers) == 4
            assert {name.partition(".")[0] for name in sent.tensors} == {"connector"}
            send_weights(learners, [sampler], target, round_ + 1, 60)
            checksum = checksum_of(Policy.from_pretrained(target).weights())
            assert checksum == recorded_checksum(target)
            assert ray.get(sampler.ready.remote(), timeout=60) == (round_ + 1, checksum)
            assert gap(sampler, target, small.features) < 1e-4 < 1e-3 < gap(sampler, start, small.features)
        name, one = next(iter(sent.adapters.layers.items()))
        wrong = replace(sent.adapters, layers=sent.adapters.layers | {name: replace(one, up=one.up * 1.001)})
        with pytest.raises(RayTaskError, match=r"arrived as .* sent as .* start the run again") as caught:
            ray.get(sampler.load.remote(replace(sent, adapters=wrong)), timeout=60)
        assert isinstance(caught.value.cause, StaleWeights)
    finally:
        learners.close()


@pytest.mark.slow
def test_an_engine_that_does_not_get_all_of_it_says_so(sampler: Any, small: Any) -> None:
    def told(actor: Any, weights: dict[str, Tensor], whole: bool) -> str:
        try:
            actor.engine.collective_rpc("load_policy_weights", args=(weights, whole))
        except RuntimeError as error:
            return f"{type(error).__name__}: {error}"
        return ""

    tensors = Policy.from_pretrained(small.first).weights().items()
    language = {name.removeprefix("language_model."): one for name, one in tensors if name[0] == "l"}
    without = {name: one for name, one in language.items() if not name.endswith("0.input_layernorm.weight")}
    half = {name: one for name, one in language.items() if "0.self_attn.q_proj" in name}
    said = [ray.get(sampler.__ray_call__.remote(told, one, one is not half), timeout=60) for one in (without, half)]
    assert said == [
        "StaleWeights: the engine got no new model.layers.0.input_layernorm.weight: it would write with old weights",
        "StaleWeights: model.layers.0.self_attn.qkv_proj.weight came without k_proj, v_proj, which the engine holds "
        "with it",
    ]


class OtherVersion:
    """Stands for a sampler that answers with another version than it was sent."""

    def __init__(self, actor: Any) -> None:
        self.actor, self.load = actor, self

    def remote(self, weights: Any) -> Any:
        checksum = ray.get(self.actor.ready.remote(), timeout=60)[1]
        return ray.put((6, checksum))


@pytest.mark.slow
def test_a_sampler_of_another_version_stops_the_sync(fleet: Fleet, sampler: Any, small: Any) -> None:
    learners: Any = fleet.learners
    with pytest.raises(StaleWeights, match=r"sampler 1 uses weights version 6 .* where version 7 of checksum .* was"):
        send_weights(learners, [sampler, OtherVersion(sampler)], small.second, 7, 60)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_shares_of_zero_3_are_gathered_layer_by_layer(cluster: None, small: Any, tmp_path: Path) -> None:
    learners = group(small, "learner.zero_stage=3", "learner.ranks=2")

    def gathered(learner: Any) -> tuple[dict[str, str], list[tuple[str, tuple[int, ...]]], int]:
        from actors.gathered_weights import PolicySource

        assert all(one.numel() == 0 for one in learner._shares.policy.language_model.parameters())
        found, most = {}, 0
        source = PolicySource(learner._shares.policy, "language_model")
        for name, tensor in source:
            found |= digests_of({name: tensor})
            most = max(most, sum(one.numel() > 0 for one in learner._shares.policy.parameters()))
        return found, [(one.name, one.shape) for one in source.metadata()], most

    try:
        target = tmp_path / "trained"
        assert list(learners.train("train_sft", str(small.first), CASES, str(target), learners.config.learner.sft))
        answers = ray.get([rank.__ray_call__.remote(gathered) for rank in learners.ranks], timeout=120)
    finally:
        learners.close()
    weights = Policy.from_pretrained(target).language_model.state_dict()
    assert [found == digests_of(weights) for found, *_ in answers] == [True, True]
    assert [list(found) == [name for name, _ in told] for found, told, _ in answers] == [True, True]
    assert all(dict(told) == {name: tuple(one.shape) for name, one in weights.items()} for _, told, _ in answers)
    assert all(most <= 9 for *_, most in answers), "more than a layer's weights were whole at a time"


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("road", ["nccl", "ipc"])
def test_weights_go_from_gpu_to_gpu(cluster: None, small: Any, tmp_path: Path, road: str) -> None:
    gpus = 1 if road == "nccl" else 0.4
    devices = (f"sampler.gpus={gpus}", f"learner.gpus={gpus}", "learner.ranks=1", f"sampler.weights={road}")
    config = small.config(*TRAINING, *devices, "sampler.gpu_memory=0.3")
    fleet = Fleet(config, StoredFeatures(small.features))
    try:
        sampler = fleet.samplers(small.first, 0).actors[0]
        target = tmp_path / "trained"
        arguments = (str(small.first), CASES, str(target), config.learner.sft)
        assert list(fleet.learners.train("train_sft", *arguments))
        fleet.samplers(target, 1)
        assert ray.get(sampler.ready.remote(), timeout=60) == (1, recorded_checksum(target))
        assert gap(sampler, target, small.features) < 1e-3
    finally:
        fleet.close()
