"""The disk, the memory and the actors that a run needs, each with what its number is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.config import Config
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.judges.settings import GreenJudgeSettings, LeafJudge, RulesJudgeSettings
from rlaif.models.encoders.settings import EncoderSettings
from rlaif.models.settings import PolicySettings
from rlaif.plan_counts import Counts

if TYPE_CHECKING:
    from rlaif.models.size import PolicySize

MIB = 2**20
# What an actor takes before it holds anything of ours, measured on a CPU: interpreter, torch and the engine's code.
RUNTIME_BYTES = {"sampler": 950 * MIB, "learner": 560 * MIB, "judge": 130 * MIB, "ingest": 450 * MIB}
# A candidate's row: what is not tokens, and for each token its log-prob, id and text.
ROW_BYTES, TOKEN_BYTES = 500, 16
# A reply of a judge that asks a model, in the judgement and in the cache.
REPLY_BYTES = 2000
# Checkpoints that stand at once: the two that are kept, and the one being written.
CHECKPOINTS = 3
# Values that a layer keeps for the backward pass, in widths of the model for each position: rough.
ACTIVATIONS = 16


@dataclass(frozen=True)
class Need:
    """Bytes of something, with what they are made of."""

    what: str
    bytes: float
    made_of: str


@dataclass(frozen=True)
class Role:
    """Actors of one kind: how many, the CPUs and GPUs of each, and the memory of each with what it is made of."""

    name: str
    count: int
    cpus: float
    gpus: float
    bytes: float
    made_of: str
    lasting: bool = True
    """Whether it stands all the time; ingest ends before the others start."""


def disk_needs(config: Config, counts: Counts, policy: PolicySettings, size: "PolicySize") -> tuple[Need, ...]:
    """What a run writes, at most."""
    needs = []
    if isinstance(config.data, PhantomDataSettings):
        studies, shape = sum(counts.studies.values()), config.data.shape
        made_of = f"{studies:,} volumes x {' x '.join(map(str, shape))} voxels x 2 bytes, before compression"
        needs.append(Need("phantom volumes (cache)", studies * prod(shape) * 2, made_of))
    encoder = policy.encoder
    if encoder is not None and not config.trains_encoder:
        views = f"{policy.views} views x " if policy.views > 1 else ""
        made_of = f"{counts.imaged:,} studies x {views}{encoder.tokens} tokens x {encoder.hidden} values x 2 bytes"
        size_of_all = counts.imaged * policy.views * encoder.tokens * encoder.hidden * 2
        needs.append(Need("encoder features (cache)", size_of_all, made_of))
    # Adapters, and an encoder that has never trained, are kept in float32.
    held = size.on_board(encoder=config.trains_encoder)
    every = size.on_board(encoder=True) + size.adapters
    one = held * _width(config.learner.dtype) + (every - held) * 4
    checkpoints = min(config.run.rounds, CHECKPOINTS)
    # Start and base in the cache, base in the run.
    kept = checkpoints + (0 if config.policy.path is not None else 3)
    made_of = f"{kept} x {_millions(every)} parameters: start, base and checkpoints"
    needs.append(Need("policies", kept * one, made_of))
    tokens = config.sampler.max_tokens
    rows = counts.candidates * counts.rounds
    asking = sum(not isinstance(judge, RulesJudgeSettings) for judge in config.leaf_judges.values())
    row = ROW_BYTES + asking * REPLY_BYTES
    made_of = f"{rows:,} candidates x ({tokens} tokens x {TOKEN_BYTES} + {row}) bytes, judgements included"
    needs.append(Need("candidates and judgements", rows * (tokens * TOKEN_BYTES + row), made_of))
    return tuple(needs)


def roles_of(config: Config, policy: PolicySettings, size: "PolicySize", trained: int) -> tuple[Role, ...]:
    """The actors of a run, with the memory that each takes, roughly; `trained` parameters train at once."""
    roles = [] if policy.encoder is None else [_ingest(config, policy.encoder, policy.views, size)]
    roles += [
        _sampler(config, policy, size),
        *(_judge(judge) for judge in config.leaf_judges.values()),
        _learner(config, policy, size, trained),
    ]
    return tuple(roles)


def _judge(judge: LeafJudge) -> Role:
    name = "judge" if judge.name == judge.kind == "rules" else f"judge {judge.name}"
    if not isinstance(judge, GreenJudgeSettings):
        return Role(name, judge.actors, judge.cpus, judge.gpus, RUNTIME_BYTES["judge"], "runtime")
    weights = sum(path.stat().st_size for path in Path(judge.model).glob("*.safetensors"))
    parts: dict[str, float] = {"runtime": RUNTIME_BYTES["sampler"], "weights": weights}
    if not judge.gpus:
        parts[f"key-value cache ({judge.name}.kv_cache_gib)"] = judge.kv_cache_gib * 2**30
    return Role(name, judge.actors, judge.cpus, judge.gpus, *_sum(parts))


def _ingest(config: Config, encoder: EncoderSettings, views: int, size: "PolicySize") -> Role:
    settings, voxels = config.ingest, views * prod(encoder.volume)
    parts: dict[str, float] = {"runtime": RUNTIME_BYTES["ingest"]}
    if config.trains_encoder:
        # Studies are read, and nobody encodes them.
        parts["a study's volumes in float32"] = voxels * 4
        return Role("ingest", 1, settings.cpus, 0.0, *_sum(parts), lasting=False)
    parts |= {
        f"encoder of {_millions(size.encoder)}": size.encoder * 4,
        f"{settings.batch} volumes in float16 and float32": settings.batch * voxels * 6,
        "activations": settings.batch * prod(encoder.grid) * encoder.hidden * 4 * ACTIVATIONS,
    }
    # One reader beside the encoders.
    return Role("ingest", 1 + settings.encoders, settings.cpus, settings.gpus, *_sum(parts), lasting=False)


def _sampler(config: Config, policy: PolicySettings, size: "PolicySize") -> Role:
    settings, encoder = config.sampler, policy.encoder if config.trains_encoder else None
    parts = {
        "runtime": RUNTIME_BYTES["sampler"],
        f"engine's {_millions(size.language_model)} in {settings.dtype}": size.language_model * _width(settings.dtype),
        f"{'encoder, ' if encoder is not None else ''}connector and language model in float32": size.on_board(
            encoder=encoder is not None
        )
        * 4,
    }
    if encoder is not None:
        parts["a study's volumes"] = policy.views * prod(encoder.volume) * 4
        # One frame at a time, and no layer's stay.
        parts["the encoder's activations"] = prod(encoder.grid) * encoder.hidden * 4 * ACTIVATIONS
    if settings.gpus:
        total, made_of = _sum(parts)
        made_of += f"; and {settings.gpu_memory:.0%} of a GPU's memory for the engine"
    else:
        total, made_of = _sum(parts | {"key-value cache (sampler.kv_cache_gib)": settings.kv_cache_gib * 2**30})
    return Role("sampler", settings.actors, settings.cpus, settings.gpus, total, made_of)


def _learner(config: Config, policy: PolicySettings, size: "PolicySize", trained: int) -> Role:
    settings, encoder = config.learner, policy.encoder if config.trains_encoder else None
    width, held = _width(settings.dtype), size.on_board(encoder=encoder is not None)
    # Two moments, and a master copy where the weights are not in float32 themselves.
    optimizer = trained * (8 if width == 4 else 12) / (settings.ranks if settings.zero_stage else 1)
    sequences, positions = 2 * settings.micro_batch, config.sampler.max_length
    logits = sequences * config.sampler.max_tokens * size.vocabulary * 4 * 2
    text = sequences * positions * size.hidden * size.layers * ACTIVATIONS * width
    parts = {
        "runtime": RUNTIME_BYTES["learner"],
        f"policy of {_millions(held)} in {settings.dtype}": (held + size.adapters) * width,
        "frozen reference": held * width,
        f"gradients of {_millions(trained)}": trained * width,
        f"Adam's moments{' over the ranks' if settings.zero_stage else ''}": optimizer,
        f"activations of {sequences} sequences of {positions} positions": text + logits,
    }
    if encoder is not None:
        # The two answers of a pair are to one study, which is encoded once.
        volumes = settings.micro_batch * policy.views
        values = encoder.patches * encoder.hidden * encoder.layers * ACTIVATIONS * width
        parts[f"volumes ({volumes}) and the encoder's activations of them"] = volumes * (
            prod(encoder.volume) * 4 + values
        )
    return Role("learner", settings.ranks, settings.cpus, settings.gpus, *_sum(parts))


def _sum(parts: Mapping[str, float]) -> tuple[float, str]:
    return sum(parts.values()), " + ".join(f"{amount(size)} {what}" for what, size in parts.items())


def _width(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:,.1f} M"


def amount(size: float) -> str:
    """Bytes for people: `3.2 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit in ("bytes", "KiB", "MiB") else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
