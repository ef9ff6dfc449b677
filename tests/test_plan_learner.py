"""The memory of a rank: what DeepSpeed and autograd were seen to hold, and what a setting moves or spares."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rlaif.models.settings import PolicySettings
from rlaif.models.size import PolicySize
from rlaif.plan_learner import learner_role
from rlaif.plan_memory import GIB, RUNTIME_BYTES, Role

if TYPE_CHECKING:
    from rlaif.config import Config

Configured = Callable[..., "Config"]
PARAMETERS = 2_000_000_000
TEXT_ONLY = PolicySettings(name="x", size="x", recipe=None, encoder=None, connector=None)
ON_GPU = ("policy=rgro", "learner.gpus=1", "learner.micro_batch=1")


def size_of(*, adapters: int = 0, adapted: int = 0) -> PolicySize:
    return PolicySize(
        language_model=PARAMETERS,
        connector=0,
        encoder=0,
        adapters=adapters,
        adapted=adapted,
        hidden=256,
        intermediate=512,
        key_value_width=256,
        head_size=32,
        layers=4,
        vocabulary=300,
    )


def rank(config: "Config", size: PolicySize | None = None, trained: int = PARAMETERS) -> Role:
    return learner_role(config, TEXT_ONLY, size or size_of(), trained)


def part(role: Role, words: str) -> float:
    """GiB of a part of the device's memory, by its words; 0 where it is not there."""
    parts = (one.split(" ", 2) for one in role.gpu_made_of.split(" + "))
    units = {"GiB": 1.0, "MiB": 1 / 1024, "KiB": 1 / 1024**2}
    return sum(float(number) * units[unit] for number, unit, what in parts if what.startswith(words))


@pytest.mark.parametrize(
    ("overrides", "bytes_a_parameter"),
    [
        # As DeepSpeed 0.19.8 held them after a backward pass on one rank, for 33 M parameters.
        (("learner.dtype=float32", "learner.zero_stage=0"), 16),
        (("learner.dtype=float32", "learner.zero_stage=2"), 20),
        (("learner.dtype=bfloat16", "learner.zero_stage=1"), 16),
        (("learner.dtype=bfloat16", "learner.zero_stage=2"), 16),
        (("learner.dtype=bfloat16", "learner.zero_stage=3"), 16),
    ],
)
def test_weights_gradients_and_optimizer_of_one_rank(
    configured: Configured, overrides: tuple[str, ...], bytes_a_parameter: int
) -> None:
    role = rank(configured(*ON_GPU, "learner.ranks=1", "learner.dpo.reference=precomputed", *overrides))
    held = sum(part(role, name) for name in ("policy of", "gradients of", "optimizer"))
    assert held * GIB == pytest.approx(bytes_a_parameter * PARAMETERS, rel=0.02)


def test_each_zero_stage_shares_out_more(configured: Configured) -> None:
    given = (*ON_GPU, "learner.ranks=4", "learner.dtype=bfloat16", "learner.dpo.reference=precomputed")
    parts = {}
    for stage in (1, 2, 3):
        role = rank(configured(*given, f"learner.zero_stage={stage}"))
        parts[stage] = [part(role, name) * GIB / PARAMETERS for name in ("policy of", "gradients of", "optimizer")]
    assert parts[1][:2] == pytest.approx([2, 2], rel=0.03)
    assert parts[2][:2] == pytest.approx([2, 0.5], rel=0.03)
    assert parts[3][:2] == pytest.approx([0.5, 0.5], rel=0.03)


def test_offloading_moves_the_optimizer_to_the_host(configured: Configured) -> None:
    given = (*ON_GPU, "learner.ranks=2", "learner.dtype=bfloat16", "learner.zero_stage=2")
    here, away = rank(configured(*given)), rank(configured(*given, "learner.offload=optimizer"))
    # Seen on one rank: 20 bytes a parameter beside the weights, which two ranks share.
    assert away.bytes - here.bytes == 20 * PARAMETERS / 2
    assert part(away, "optimizer") == part(away, "gradients") == 0
    assert away.gpu_bytes < here.gpu_bytes - 12 * PARAMETERS / 2


def test_a_reference_that_is_no_copy_takes_nothing(configured: Configured) -> None:
    given = (*ON_GPU, "learner.ranks=1", "learner.dtype=bfloat16")
    copy = rank(configured(*given))
    for other in ("precomputed", "adapters_off"):
        try:
            role = rank(configured(*given, f"learner.dpo.reference={other}"))
        except ValueError:
            lora = "learner.lora={rank: 4, alpha: 8, dropout: 0.0, targets: all-linear}"
            role = rank(configured(*given, lora, f"learner.dpo.reference={other}"))
        assert copy.gpu_bytes - role.gpu_bytes == 2 * PARAMETERS


def test_adapters_train_little_and_are_merged_beside_the_weights(configured: Configured) -> None:
    lora = "learner.lora={rank: 4, alpha: 8, dropout: 0.0, targets: all-linear}"
    given = (*ON_GPU, "learner.ranks=1", "learner.dtype=bfloat16", "learner.zero_stage=2")
    whole = rank(configured(*given, "learner.dpo.reference=precomputed"))
    few = size_of(adapters=1_000_000, adapted=1_500_000_000)
    role = rank(configured(*given, lora, "learner.dpo.reference=precomputed"), few, trained=1_000_000)
    # At the end: the weights, and three quarters of them with their adapters merged.
    assert role.gpu_bytes == GIB + 2 * (PARAMETERS + 1_000_000) + 2 * 1_500_000_000
    assert role.gpu_bytes < whole.gpu_bytes
    # The base is read when the weights that it stands for are gone.
    assert role.bytes == RUNTIME_BYTES["learner"] + 2 * PARAMETERS
    beside = lora.replace("all-linear", "all-linear, parts: [connector]")
    both = rank(configured(*given, beside, "learner.dpo.reference=precomputed", "learner.dpo.train=[connector]"), few)
    assert both.bytes == RUNTIME_BYTES["learner"] + 2 * 2 * PARAMETERS


def test_with_zero_3_no_gpu_holds_the_whole_policy_and_a_host_does(configured: Configured) -> None:
    lora = "learner.lora={rank: 4, alpha: 8, dropout: 0.0, targets: all-linear}"
    given = (*ON_GPU, "learner.dtype=bfloat16", "learner.zero_stage=3", "learner.dpo.reference=precomputed", lora)
    few = size_of(adapters=1_000_000, adapted=1_500_000_000)
    four, sixteen = (rank(configured(*given, f"learner.ranks={ranks}"), few, trained=1_000_000) for ranks in (4, 16))
    assert sixteen.gpu_bytes < 2 * PARAMETERS + 2 * GIB and sixteen.gpu_bytes < four.gpu_bytes
    assert "whole policy" not in sixteen.gpu_made_of
    assert sixteen.bytes == four.bytes == RUNTIME_BYTES["learner"] + 2 * PARAMETERS


def kept(dtype: torch.dtype, positions: int) -> int:
    """Bytes that a pass through four layers keeps for the backward pass, less those of two: so without their ends."""
    seen: list[int] = []
    for layers in (2, 4):
        shape = LlamaConfig(
            hidden_size=256, intermediate_size=512, num_attention_heads=8, vocab_size=300, num_hidden_layers=layers
        )
        model = LlamaForCausalLM(shape).train()
        model.to(dtype=dtype)
        weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
        storages: dict[int, tuple[int, torch.Tensor]] = {}

        def pack(
            tensor: torch.Tensor,
            storages: dict[int, tuple[int, torch.Tensor]] = storages,
            weights: set[int] = weights,
        ) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = (storage.nbytes(), tensor)
            return tensor

        inputs = torch.randn(1, positions, 256, dtype=dtype, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.model(inputs_embeds=inputs, use_cache=False)
        seen.append(sum(size for size, _ in storages.values()))
    return seen[1] - seen[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activations_are_what_autograd_keeps(configured: Configured, dtype: str) -> None:
    given = (
        *ON_GPU,
        "learner.zero_stage=1",
        f"learner.dtype={dtype}",
        "sampler.max_tokens=128",
        "sampler.max_length=256",
    )
    role = rank(configured(*given), trained=0)
    # A pair: 128 positions of prompt, twice 128 of answers.
    counted = part(role, "activations of 1 x 384 positions") * GIB
    assert counted == pytest.approx(2 * kept(getattr(torch, dtype), 384), rel=0.02)


def test_checkpoints_spare_activations(configured: Configured) -> None:
    given = (*ON_GPU, "learner.zero_stage=0", "sampler.max_length=512", "sampler.max_tokens=128")
    whole = rank(configured(*given), trained=0)
    spared = rank(configured(*given, "learner.gradient_checkpointing=true"), trained=0)
    # One layer's values in float32 instead of four layers', and each layer's input.
    layer = 4 * (4 * 512 + 2 * 256 + 8 * 256)
    assert whole.gpu_bytes - spared.gpu_bytes == 640 * (3 * layer - 4 * 4 * 256)


def test_what_may_help_is_what_is_not_done_yet(configured: Configured) -> None:
    assert "learner.offload=optimizer" in rank(configured(*ON_GPU)).advice
    done = ("learner.zero_stage=3", "learner.offload=all", "learner.gradient_checkpointing=true")
    role = rank(configured(*ON_GPU, *done, "learner.dpo.reference=precomputed"))
    assert role.advice == "adapters (learner.lora)"
