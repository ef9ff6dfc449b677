"""The memory of vLLM's engines: the samplers, and judges that run a language model of their own."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.config import Config
from rlaif.judges.settings import GreenJudgeSettings, LeafJudge
from rlaif.models.settings import PolicySettings
from rlaif.plan_learner import ENCODER_ACTIVATIONS
from rlaif.plan_memory import GIB, GPU_RUNTIME_BYTES, RUNTIME_BYTES, Role, amount, millions, on_both, summed, width

if TYPE_CHECKING:
    from rlaif.models.size import PolicySize

# Positions of one forward pass of an engine, which its working memory follows (actors/sampler.py).
BATCHED = 8192


def sampler_role(config: Config, policy: PolicySettings, size: "PolicySize") -> Role:
    """The sampler's engines, each with a copy of connector and language model in float32 in the host's memory."""
    settings, encoder = config.sampler, policy.encoder if config.trains_encoder else None
    each, split = width(settings.dtype), settings.tensor_parallel
    held = size.on_board(encoder=encoder is not None)
    host: dict[str, float] = {
        "runtime": RUNTIME_BYTES["sampler"],
        f"{'encoder, ' if encoder is not None else ''}connector and language model in float32": held * 4,
    }
    if encoder is not None:
        host["a study's volumes"] = policy.views * prod(encoder.volume) * 4
        # One frame at a time, and no layer's stay.
        host["the encoder's activations"] = prod(encoder.grid) * encoder.hidden * 4 * ENCODER_ACTIVATIONS
    over = f" over {split}" if split > 1 else ""
    engine: dict[str, float] = {
        f"engine's {millions(size.language_model)} in {settings.dtype}{over}": size.language_model * each / split
    }
    bare = Role("sampler", settings.actors, settings.cpus, settings.gpus, 0.0, "")
    if not settings.gpus:
        cache = {"key-value cache (sampler.kv_cache_gib)": settings.kv_cache_gib * 2**30 * split}
        total, made_of = summed(host | {what: bytes_ * split for what, bytes_ in engine.items()} | cache)
        return replace(bare, bytes=total, made_of=made_of)
    host["new weights on their way into the engine"] = held * width(config.learner.dtype)
    token = key_value_bytes(size, each, split)
    positions = max(settings.max_length, BATCHED)
    engine |= {
        "CUDA": GPU_RUNTIME_BYTES,
        f"work on {positions} positions": positions * (2 * size.intermediate / split + 4 * size.hidden) * each
        + settings.max_sequences * size.vocabulary * 4 * 2,
        f"key-value cache of one sequence of {settings.max_length} at {amount(token)} a token": settings.max_length
        * token,
    }
    advice = "raise sampler.gpu_memory, sampler.tensor_parallel, or lower sampler.max_length"
    return replace(on_both(bare, host, engine), gpu_share=settings.gpu_memory, advice=advice)


def key_value_bytes(size: "PolicySize", each: int, split: int = 1) -> float:
    """Bytes of a token's keys and values on each GPU, of `each` bytes a value; a head is not split."""
    return 2 * size.layers * max(size.key_value_width / split, size.head_size) * each


def sequences_that_fit(config: Config, size: "PolicySize", role: Role, card: float) -> int:
    """Sequences of the greatest length that an engine's cache holds at once on GPUs of `card` bytes."""
    settings = config.sampler
    one = settings.max_length * key_value_bytes(size, width(settings.dtype), settings.tensor_parallel)
    return max(0, int((settings.gpu_memory * card - role.gpu_bytes + one) / one))


def judge_role(judge: LeafJudge) -> Role:
    """A judge's actors."""
    name = "judge" if judge.name == judge.kind == "rules" else f"judge {judge.name}"
    bare = Role(name, judge.actors, judge.cpus, judge.gpus, 0.0, "")
    if not isinstance(judge, GreenJudgeSettings):
        return replace(bare, bytes=RUNTIME_BYTES["judge"], made_of="runtime")
    weights = sum(path.stat().st_size for path in Path(judge.model).glob("*.safetensors"))
    parts: dict[str, float] = {"runtime": RUNTIME_BYTES["sampler"]}
    if not judge.gpus:
        parts |= {"weights": weights, f"key-value cache ({judge.name}.kv_cache_gib)": judge.kv_cache_gib * GIB}
        total, made_of = summed(parts)
        return replace(bare, bytes=total, made_of=made_of)
    both = on_both(bare, parts, {"weights": weights, "CUDA": GPU_RUNTIME_BYTES})
    return replace(both, gpu_share=judge.gpu_memory, advice=f"set the gpu_memory of judge {judge.name}")
