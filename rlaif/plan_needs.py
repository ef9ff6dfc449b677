"""The disk that a run needs, and the actors of a run, each with what its number is made of."""

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from rlaif.config import Config
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.judges.settings import RulesJudgeSettings
from rlaif.models.encoders.settings import EncoderSettings
from rlaif.models.settings import PolicySettings
from rlaif.plan_counts import Counts
from rlaif.plan_engines import judge_role, sampler_role
from rlaif.plan_learner import ENCODER_ACTIVATIONS, learner_role
from rlaif.plan_memory import GPU_RUNTIME_BYTES, RUNTIME_BYTES, Need, Role, millions, on_both, summed, width

if TYPE_CHECKING:
    from rlaif.models.size import PolicySize

# A candidate's row: what is not tokens, and for each token its log-prob, id and text.
ROW_BYTES, TOKEN_BYTES = 500, 16
# A reply of a judge that asks a model, in the judgement and in the cache.
REPLY_BYTES = 2000
# Checkpoints that stand at once: the two that are kept, and the one being written.
CHECKPOINTS = 3


def disk_needs(config: Config, counts: Counts, policy: PolicySettings, size: "PolicySize") -> tuple[Need, ...]:
    """What a run writes, at most."""
    # It brings torch, whose import takes seconds; a plan imports it anyway, and a run that goes on does not.
    from rlaif.features import feature_bytes

    needs = []
    if isinstance(config.data, PhantomDataSettings):
        studies, shape = sum(counts.studies.values()), config.data.shape
        made_of = f"{studies:,} volumes x {' x '.join(map(str, shape))} voxels x 2 bytes, before compression"
        needs.append(Need("phantom volumes (cache)", studies * prod(shape) * 2, made_of))
    encoder = policy.encoder
    if encoder is not None and not config.trains_encoder:
        views = f"{policy.views} views x " if policy.views > 1 else ""
        made_of = f"{counts.imaged:,} studies x {views}{encoder.tokens} tokens x {encoder.hidden} values x 2 bytes"
        needs.append(Need("encoder features (cache)", feature_bytes(counts.imaged, policy), made_of))
    fine_tunes, pretrains = config.policy.path is None, config.learner.pretrain is not None
    kept = policy_folders(config.run.rounds, fine_tunes=fine_tunes, pretrains=pretrains)
    parameters = millions(size.on_board(encoder=True) + size.adapters)
    made_of = f"{kept} x {parameters} parameters: {'start, base and ' if fine_tunes else ''}checkpoints"
    needs.append(Need("policies", kept * policy_bytes(config, size), made_of))
    tokens = config.sampler.max_tokens
    rows = counts.candidates * counts.rounds
    asking = sum(not isinstance(judge, RulesJudgeSettings) for judge in config.leaf_judges.values())
    row = ROW_BYTES + asking * REPLY_BYTES
    made_of = f"{rows:,} candidates x ({tokens} tokens x {TOKEN_BYTES} + {row}) bytes, judgements included"
    needs.append(Need("candidates and judgements", rows * (tokens * TOKEN_BYTES + row), made_of))
    return tuple(needs)


def policy_folders(rounds: int, *, fine_tunes: bool, pretrains: bool) -> int:
    """How many folders of its policy a run has on disk at once, at most: checkpoints; where it fine-tunes, the start
    policy and each training's in the cache, and the run's own copy of the base.
    """
    return min(rounds, CHECKPOINTS) + (3 + pretrains if fine_tunes else 0)


def policy_bytes(config: Config, size: "PolicySize") -> int:
    """The bytes of such a folder's weights: adapters, and an encoder that has never trained, are kept in float32."""
    held = size.on_board(encoder=config.trains_encoder)
    return held * width(config.learner.dtype) + (size.on_board(encoder=True) - held + size.adapters) * 4


def roles_of(config: Config, policy: PolicySettings, size: "PolicySize", trained: int) -> tuple[Role, ...]:
    """The actors of a run, with the memory that each takes, roughly; `trained` parameters train at once."""
    roles = [] if policy.encoder is None else [_ingest(config, policy.encoder, policy.views, size)]
    roles += [
        sampler_role(config, policy, size),
        *map(judge_role, config.leaf_judges.values()),
        learner_role(config, policy, size, trained),
    ]
    return tuple(roles)


def _ingest(config: Config, encoder: EncoderSettings, views: int, size: "PolicySize") -> Role:
    settings, voxels = config.ingest, views * prod(encoder.volume)
    host: dict[str, float] = {"runtime": RUNTIME_BYTES["ingest"]}
    if config.trains_encoder:
        # Studies are read, and nobody encodes them.
        total, made_of = summed(host | {"a study's volumes in float32": voxels * 4})
        return Role("ingest", 1, settings.cpus, 0.0, total, made_of, lasting=False)
    device: dict[str, float] = {
        f"encoder of {millions(size.encoder)}": size.encoder * 4,
        f"{settings.batch} volumes in float16 and float32": settings.batch * voxels * 6,
        "activations": settings.batch * prod(encoder.grid) * encoder.hidden * 4 * ENCODER_ACTIVATIONS,
    }
    # One reader beside the encoders.
    bare = Role("ingest", 1 + settings.encoders, settings.cpus, settings.gpus, 0.0, "", lasting=False)
    if not settings.gpus:
        total, made_of = summed(host | device)
        return replace(bare, bytes=total, made_of=made_of)
    host |= {f"{settings.batch} volumes in float16": settings.batch * voxels * 2}
    return replace(on_both(bare, host, {"CUDA": GPU_RUNTIME_BYTES} | device), advice="lower ingest.batch")
