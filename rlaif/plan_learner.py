"""The memory of a learner's rank, as DeepSpeed shares it out; the numbers for a parameter were measured on a CPU."""

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from rlaif.config import Config
from rlaif.models.settings import PolicySettings
from rlaif.plan_memory import GPU_RUNTIME_BYTES, RUNTIME_BYTES, Role, millions, on_both, summed, width

if TYPE_CHECKING:
    from rlaif.models.size import PolicySize

# Values that an encoder's layer keeps for the backward pass, in widths of the model for each position: rough.
ENCODER_ACTIVATIONS = 16
# DeepSpeed's defaults, in parameters: what is reduced at once, gathered at once (ZeRO 3), stepped at once (ZeRO 3).
BUCKET, LIVE, SUB_GROUP = 5e8, 1e9, 1e9


@dataclass(frozen=True)
class _Rank:
    """What a rank holds: parameters on board, those that train, and how they are shared out."""

    held: int
    adapters: int
    adapted: int
    trained: int
    ranks: int
    stage: int
    width: int
    on_gpu: bool

    def shared(self, parameters: float, *, from_stage: int) -> float:
        """A rank's share of something that ZeRO divides from a stage on."""
        return parameters / (self.ranks if self.stage >= from_stage else 1)


def learner_role(config: Config, policy: PolicySettings, size: "PolicySize", trained: int) -> Role:
    """The learner's ranks; `trained` parameters train at once."""
    settings = config.learner
    rank = _Rank(
        held=size.on_board(encoder=config.trains_encoder and policy.encoder is not None),
        adapters=size.adapters,
        adapted=size.adapted,
        trained=trained,
        ranks=settings.ranks,
        stage=settings.zero_stage,
        width=width(settings.dtype),
        on_gpu=settings.gpus > 0,
    )
    device, host = _trainings_parts(config, policy, size, rank)
    saving = _between_trainings(config, size, rank)
    if sum(saving.values()) > sum(device.values()):
        device = saving
    runtime: dict[str, float] = {"runtime": RUNTIME_BYTES["learner"]}
    bare = Role("learner", settings.ranks, settings.cpus, settings.gpus, 0.0, "", advice=_advice(config, rank))
    if not rank.on_gpu:
        total, made_of = summed(runtime | device | host)
        return replace(bare, bytes=total, made_of=made_of)
    # Every rank reads all of the policy before anything is shared out, and rank 0 has all of it as it is saved.
    # Adapters go on on a base, which is read once their part of the policy is gone: the language model's is nearly all.
    both = settings.lora is not None and "language_model" not in settings.lora.parts and config.run.rounds > 1
    copies = 2 if both else 1
    loading = {f"{'policy and its base' if copies > 1 else 'policy'} while it is read": copies * rank.held * rank.width}
    return on_both(bare, runtime | loading | host, {"CUDA": GPU_RUNTIME_BYTES} | device)


def _trainings_parts(
    config: Config, policy: PolicySettings, size: "PolicySize", rank: _Rank
) -> tuple[dict[str, float], dict[str, float]]:
    """What a rank holds on its device and, offloaded, in the host's memory while it trains."""
    settings, width_ = config.learner, rank.width
    over = " over the ranks"
    device: dict[str, float] = {}
    host: dict[str, float] = {}
    weights = rank.shared((rank.held + rank.adapters) * width_, from_stage=3)
    place = host if settings.offload == "all" and rank.stage == 3 else device
    place[f"policy of {millions(rank.held)} in {settings.dtype}{over if rank.stage == 3 else ''}"] = weights
    if config.run.alignment == "dpo" and settings.dpo.reference == "copy":
        place["frozen reference"] = rank.shared(rank.held * width_, from_stage=3)
    share = rank.shared(rank.trained, from_stage=1)
    if settings.offload == "none" or not rank.stage:
        gradients = rank.shared(rank.trained * width_, from_stage=2)
        device[f"gradients of {millions(rank.trained)}{over if rank.stage > 1 else ''}"] = gradients
        # Two moments, and a master copy: ZeRO makes one of float32 weights, too.
        device[f"optimizer{over if rank.stage else ''}"] = share * (8 if width_ == 4 and not rank.stage else 12)
    else:
        if rank.stage == 1:
            device[f"gradients of {millions(rank.trained)}"] = rank.trained * width_
        # Master copy, moments and gradients in float32; the gradients as they come, and the weights on their way back.
        host[f"optimizer and gradients{over}"] = share * (16 + 2 * width_)
    if rank.stage:
        bucket = BUCKET if rank.on_gpu else min(BUCKET, rank.trained)
        gathered = min(LIVE, rank.held) if rank.stage == 3 else 0
        device["DeepSpeed's buffers"] = (bucket + gathered) * width_
    activations = _activations(config, policy, size, width_)
    if rank.stage and settings.offload == "none":
        # Flat gradients, and those in float32, of as many parameters as are stepped at once.
        stepped = min(share, SUB_GROUP) if rank.stage == 3 else share
        step = stepped * (4 if width_ == 4 else 4 + width_)
        if step > sum(activations.values()):
            return device | {"the optimizer step's copies, after the activations are gone": step}, host
    return device | activations, host


def _activations(config: Config, policy: PolicySettings, size: "PolicySize", width_: int) -> dict[str, float]:
    """What a forward pass keeps for its backward pass: pairs of one prompt and two answers."""
    settings, sampler = config.learner, config.sampler
    pairs, positions = settings.micro_batch, sampler.max_length + sampler.max_tokens
    # Measured with saved-tensor hooks on Llama; norms keep float32 in bfloat16 models, too.
    layer = width_ * (4 * size.intermediate + 2 * size.key_value_width + (8 if width_ == 4 else 10) * size.hidden)
    each = size.layers * layer
    if settings.gradient_checkpointing:
        each = size.layers * size.hidden * width_ + layer
    kept = " with checkpoints" if settings.gradient_checkpointing else ""
    parts: dict[str, float] = {
        f"activations of {pairs} x {positions} positions{kept}": pairs * positions * each,
        **_logits(config, size, width_),
    }
    encoder = policy.encoder if config.trains_encoder else None
    if encoder is not None:
        # The two answers of a pair are to one study, which is encoded once.
        volumes = pairs * policy.views
        values = encoder.patches * encoder.hidden * encoder.layers * ENCODER_ACTIVATIONS * width_
        parts[f"volumes ({volumes}) and the encoder's activations of them"] = volumes * (
            prod(encoder.volume) * 4 + values
        )
    return parts


def _logits(config: Config, size: "PolicySize", width_: int) -> dict[str, float]:
    """Logits, their log-softmax and its gradient, the first two in float32."""
    answers, tokens = 2 * config.learner.micro_batch, config.sampler.max_tokens
    each = size.vocabulary * (8 if width_ == 4 else 8 + width_)
    return {f"logits of {answers} x {tokens} tokens": answers * tokens * each}


def _between_trainings(config: Config, size: "PolicySize", rank: _Rank) -> dict[str, float]:
    """What a rank holds while the policy is compared with the sampler or written, when no optimizer stands."""
    whole, dtype = (rank.held + rank.adapters) * rank.width, config.learner.dtype
    if rank.stage == 3 and rank.on_gpu:
        # Layer by layer: what is saved is gathered, and copied or merged in float32, one weight after another.
        words = size.vocabulary * size.hidden
        layer = size.hidden * (2 * size.hidden + 2 * size.key_value_width + 3 * size.intermediate)
        saved = (max(layer, words, size.connector) + words) * rank.width + 8 * words
        # The policy that was trained last stays while another one is compared, or scores as the reference.
        computes = min(max(LIVE, words), rank.held) * rank.width + sum(_logits(config, size, rank.width).values())
        share, another = whole / rank.ranks, rank.held * rank.width / rank.ranks
        if share + saved > share + another + computes:
            return {
                f"its share of {millions(rank.held)} in {dtype}": share,
                "a layer that is gathered and saved": saved,
            }
        return {
            f"shares of two policies of {millions(rank.held)} in {dtype} as one is compared": share + another,
            "layers that are gathered as they compute, and logits": computes,
        }
    return {
        f"whole policy of {millions(rank.held)} in {dtype} while it is compared or saved": whole,
        "its shares": whole / rank.ranks if rank.stage == 3 else 0.0,
        f"{millions(rank.adapted)} with adapters merged": rank.adapted * rank.width,
    }


def _advice(config: Config, rank: _Rank) -> str:
    """What would take memory off a rank's device and is not yet done."""
    settings = config.learner
    steps = [
        ("learner.micro_batch=1", settings.micro_batch > 1),
        ("learner.gradient_checkpointing=true", not settings.gradient_checkpointing),
        (
            f"learner.dpo.reference={'adapters_off' if settings.lora is not None else 'precomputed'}",
            config.run.alignment == "dpo" and settings.dpo.reference == "copy",
        ),
        ("learner.zero_stage=2 or 3 with more learner.ranks", settings.zero_stage < 2),
        ("learner.zero_stage=3", settings.zero_stage == 2),
        ("learner.offload=optimizer", settings.offload == "none"),
        ("adapters (learner.lora)", settings.lora is None),
    ]
    return ", ".join(step for step, open_ in steps if open_ and (rank.on_gpu or "offload" not in step))
