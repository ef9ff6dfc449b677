"""A training as DeepSpeed runs it: the engine and its configuration, and the steps."""

import gc
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeAlias

import deepspeed
import torch
from torch import Tensor, nn
from transformers import get_scheduler

from actors.learner_faults import LearningFailed
from rlaif.learner_settings import LearnerSettings, TrainingSettings
from rlaif.models.policy import Policy
from rlaif.models.settings import PolicyError
from rlaif.models.value_head import PolicyWithValues
from rlaif.objectives.batches import MicroBatch, plan_steps

Step: TypeAlias = dict[str, float]
# The weighted loss of a micro-batch, and what is worth watching, weighted likewise; of the items of the whole step.
LossOf: TypeAlias = Callable[[Any, MicroBatch, tuple[int, ...]], tuple[Tensor, dict[str, Tensor]]]


def join(settings: LearnerSettings, device: torch.device) -> None:
    """Joins the process group that the environment names; a collective waits no longer than a stage may."""
    # DeepSpeed would compile a shared-memory kernel for the CPU at its first use, which takes minutes.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if device.type == "cuda" else "gloo"
    deepspeed.init_distributed(backend, verbose=False, timeout=timedelta(seconds=settings.timeout_s))


def configuration(settings: LearnerSettings, device: torch.device, *, trains: bool = True) -> dict[str, Any]:
    """DeepSpeed's configuration; a model that does not train is only shared out, where the stage is 3."""
    host = {"device": "cpu", "pin_memory": device.type == "cuda"}
    zero: dict[str, Any] = {"stage": settings.zero_stage}
    if settings.offload != "none" and trains:
        zero["offload_optimizer"] = host
    if settings.offload == "all":
        zero["offload_param"] = host
    return {
        "train_micro_batch_size_per_gpu": settings.micro_batch,
        # The plan's steps are of unequal numbers of micro-batches: we say where each ends.
        "gradient_accumulation_steps": 1,
        # Without ZeRO, DeepSpeed does not say the norm that it clips: `_step` does it.
        "gradient_clipping": settings.max_grad_norm if settings.zero_stage else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        # Its own Adam for the host would be compiled at its first use; torch's fused one is ready.
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": settings.dtype == "bfloat16"},
        "steps_per_print": 10**9,
    }


def place(policy: nn.Module, settings: LearnerSettings, device: torch.device, *, trains: bool = True) -> None:
    """Moves a policy to where it computes; with ZeRO 3 weight by weight, so that no GPU ever holds all of it."""
    if settings.zero_stage == 3:
        deepspeed.zero.Init(module=policy, config_dict_or_path=configuration(settings, device, trains=trains))
    policy.to(device)


def frozen(policy: nn.Module, settings: LearnerSettings, device: torch.device) -> Any:
    """A policy that does not train, ready for forward passes: with ZeRO 3, its weights are shared out over ranks.

    All ranks must call it equally often then.
    """
    policy.eval().requires_grad_(False)
    place(policy, settings, device, trains=False)
    if settings.zero_stage < 3:
        return policy
    engine, *_ = deepspeed.initialize(model=policy, config=configuration(settings, device, trains=False))
    engine.eval()
    return engine


def released(engine: Any) -> None:
    """Takes DeepSpeed off a model, so that it is an ordinary module again, and frees what the engine held."""
    if isinstance(engine, deepspeed.DeepSpeedEngine):
        engine.module_forward_pre_hook.remove()
        engine.module_forward_post_hook.remove()
        engine.destroy()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def train(
    policy: Policy | PolicyWithValues,
    lengths: list[int],
    loss_of: LossOf,
    training: TrainingSettings,
    settings: LearnerSettings,
    *,
    rank: int,
    device: torch.device,
    lr: float,
    seed: int,
) -> Iterator[Step]:
    """Runs the plan of steps; yields the step's metrics averaged over its items.

    Raises LearningFailed at the first step whose loss or gradient is no number, on every rank.
    """
    plan = plan_steps(
        lengths,
        batch=training.batch,
        epochs=training.epochs,
        ranks=settings.ranks,
        micro_batch=settings.micro_batch,
        seed=seed,
    )
    trainable = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    if not trainable:
        raise PolicyError(f"nothing of the policy trains: train={list(training.train)} names none of its parts")
    _checkpoint_activations(policy, settings)
    place(policy, settings, device)
    optimizer = torch.optim.AdamW(_groups(policy, settings, lr), lr=lr, weight_decay=settings.weight_decay, fused=True)
    warmup = int(training.warmup * len(plan))
    # transformers calls a constant rate after a warm-up by another name.
    kind = "constant_with_warmup" if training.schedule == "constant" else training.schedule
    schedule = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=len(plan))
    engine, *_ = deepspeed.initialize(
        model=policy, optimizer=optimizer, lr_scheduler=schedule, config=configuration(settings, device)
    )
    try:
        engine.train()
        for number, step in enumerate(plan):
            # Afterwards it is that of the next step.
            rate = schedule.get_last_lr()[0]
            measured, norm = _step(engine, step[rank], _items(step), loss_of, trainable, settings)
            told = _mean(measured, settings.ranks)
            told |= {"step": number, "of": len(plan), "lr": rate, "grad_norm": float(norm)}
            if not (math.isfinite(told["loss"]) and math.isfinite(told["grad_norm"])):
                raise LearningFailed(
                    f"step {number + 1} of {len(plan)} has loss {told['loss']:g} and gradient norm "
                    f"{told['grad_norm']:g} at a learning rate of {told['lr']:.1e}: nothing was saved. Lower this "
                    "training's lr, or train in learner.dtype=float32"
                )
            yield told
    finally:
        released(engine)
        policy.eval()


def _step(
    engine: Any,
    share: list[MicroBatch],
    items: tuple[int, ...],
    loss_of: LossOf,
    trainable: list[nn.Parameter],
    settings: LearnerSettings,
) -> tuple[dict[str, Tensor], Any]:
    """One optimizer step on a rank's micro-batches; gives what they measured in sum, and the gradient's norm."""
    measured: dict[str, Tensor] = {}
    norm: Any = None
    for number, micro in enumerate(share, 1):
        engine.set_gradient_accumulation_boundary(number == len(share))
        loss, watched = loss_of(engine, micro, items)
        engine.backward(loss, scale_wrt_gas=False)
        for name, value in watched.items():
            measured[name] = measured[name] + value if name in measured else value
        if number == len(share) and not settings.zero_stage:
            norm = nn.utils.clip_grad_norm_(trainable, settings.max_grad_norm)
        engine.step()
    # The last step was left out where its gradient was no number: the norm is infinite then.
    return measured, engine.get_global_grad_norm() if norm is None else norm


def _items(step: list[list[MicroBatch]]) -> tuple[int, ...]:
    """The items of a step over all ranks, without those that only keep ranks in step."""
    return tuple(
        item
        for share in step
        for micro in share
        for item, weight in zip(micro.items, micro.weights, strict=True)
        if weight
    )


def _mean(measured: dict[str, Tensor], ranks: int) -> Step:
    """The metrics of a step over all ranks: one exchange and one wait for the device."""
    names = sorted(measured)
    values = torch.stack([measured[name].detach().float() for name in names])
    torch.distributed.all_reduce(values)
    return dict(zip(names, (values / ranks).tolist(), strict=True))


def _groups(policy: Policy | PolicyWithValues, settings: LearnerSettings, lr: float) -> list[dict[str, Any]]:
    """What trains, with its learning rate: a value head has its own."""
    if isinstance(policy, Policy):
        return [{"params": [one for one in policy.parameters() if one.requires_grad], "lr": lr}]
    head = {"params": [*policy.value_head.parameters()], "lr": settings.ppo.value_lr}
    return [*_groups(policy.policy, settings, lr), head]


def _checkpoint_activations(policy: Policy | PolicyWithValues, settings: LearnerSettings) -> None:
    model = policy.language_model
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    elif model.is_gradient_checkpointing:
        model.gradient_checkpointing_disable()


def all_finite(policy: Policy, device: torch.device) -> bool:
    """Whether all weights that train are numbers, on every rank."""
    # With ZeRO 3 a rank has its share of them alone.
    shares = (getattr(one, "ds_tensor", one) for one in policy.parameters() if one.requires_grad)
    wrong = torch.tensor(float(any(not bool(torch.isfinite(one).all()) for one in shares)), device=device)
    torch.distributed.all_reduce(wrong)
    return not bool(wrong)
