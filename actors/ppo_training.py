"""PPO on a round's reports: the advantages that stand before the first step, and the loss of a micro-batch."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from actors.rollout_batches import RolloutBatches
from rlaif.learner_settings import PpoSettings
from rlaif.objectives.advantages import (
    EVEN,
    generalised_advantages,
    group_advantages,
    leave_one_out_advantages,
    token_rewards,
    whitened,
)
from rlaif.objectives.batches import MicroBatch
from rlaif.objectives.kl_weight import adapted_kl_weight
from rlaif.objectives.ppo import clipped_policy_loss, clipped_value_loss, divergence_estimate


@dataclass(frozen=True)
class Experience:
    """What a round's reports teach: `[reports, tokens]` each; values and returns only where there is a value head.

    `sampled_kl` is the divergence from the reference, in nats a report, of the policy that wrote them, `kl_weight` what
    a nat costs.
    """

    reference_logprobs: Tensor
    advantages: Tensor
    values: Tensor | None
    returns: Tensor | None
    sampled_kl: float
    kl_weight: float


def experience(
    rollouts: RolloutBatches,
    reference_logprobs: Tensor,
    values: Tensor | None,
    settings: PpoSettings,
    kl_weight: float,
    *,
    steer: bool,
) -> Experience:
    """The advantages of a round's reports, from their scores and what leaving the reference costs.

    With `gae` the price stands on every token and the value head is what was expected; with `rloo` it is taken off the
    whole report's score; with `grpo` it is part of the loss. `steer` lets the price follow `kl_target`, which it may
    once the policy has left the reference at all.
    """
    mask, scores = rollouts.mask, rollouts.scores
    divergence = (rollouts.sampled_logprobs - reference_logprobs) * mask
    sampled_kl = float(divergence.sum(dim=1).mean())
    if steer and settings.kl_target is not None:
        kl_weight = adapted_kl_weight(
            kl_weight, sampled_kl, target=settings.kl_target, reports=len(scores), horizon=settings.kl_horizon
        )
    if settings.whiten_rewards:
        scores = whitened(scores, torch.ones_like(scores, dtype=torch.bool))
    returns = None
    match settings.advantage:
        case "gae":
            assert values is not None
            rewards = token_rewards(scores.float(), divergence, mask, kl_weight=kl_weight)
            advantages, returns = generalised_advantages(
                rewards, values, mask, gamma=settings.gamma, lambda_=settings.gae_lambda
            )
            if settings.whiten_advantages:
                # Equal scores leave the price alone, at first no more than rounding, which is not to be made large.
                even = float(rollouts.scores.std(correction=0)) <= EVEN
                advantages = (advantages - advantages[mask].mean()) * mask if even else whitened(advantages, mask)
        case "rloo":
            priced = scores - kl_weight * divergence.sum(dim=1)
            advantages = leave_one_out_advantages(priced, rollouts.groups).float()[:, None] * mask
        case "grpo":
            advantages = group_advantages(scores, rollouts.groups).float()[:, None] * mask
    return Experience(reference_logprobs, advantages, values, returns, sampled_kl, kl_weight)


def ppo_loss(
    rollouts: RolloutBatches,
    learnt_from: Experience,
    settings: PpoSettings,
    model: Any,
    micro: MicroBatch,
    step: tuple[int, ...],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted loss of a micro-batch, a mean over the tokens of all the step's reports, and what is worth watching.

    `kl` estimates the divergence of the policy from the reference, `moved` that of the policy that wrote the reports
    from the policy, both in nats a report; `clipped` is the share of tokens whose probability left the clip's range.
    """
    items = list(micro.items)
    logprobs, values = rollouts.logprobs_and_values(model, micro.items)
    width = logprobs.shape[1]

    def of(table: Tensor) -> Tensor:
        return table[items, :width].to(logprobs.device)

    mask, sampled = of(rollouts.mask), of(rollouts.sampled_logprobs)
    policy = clipped_policy_loss(logprobs, sampled, of(learnt_from.advantages), clip=settings.clip) * mask
    divergence = divergence_estimate(logprobs, of(learnt_from.reference_logprobs)) * mask
    losses = policy + learnt_from.kl_weight * divergence if settings.advantage == "grpo" else policy
    ratio = (logprobs.detach() - sampled).exp()
    clipped = ((ratio - 1).abs() > settings.clip) & mask
    weights = torch.tensor(micro.weights, device=mask.device)
    mean_length = rollouts.mean_length(step)

    def a_report(tokens: Tensor) -> Tensor:
        return (tokens.detach().sum(dim=1) * weights).sum()

    watched = {
        "policy_loss": a_report(policy) / mean_length,
        # The tokens are of the policy that wrote the reports: what has become rare since counts for as little.
        "kl": a_report(ratio * divergence),
        "moved": a_report(divergence_estimate(sampled, logprobs.detach()) * mask),
        "clipped": a_report(clipped.float()) / mean_length,
    }
    if values is not None and learnt_from.values is not None and learnt_from.returns is not None:
        before, returns = of(learnt_from.values), of(learnt_from.returns)
        value = clipped_value_loss(values, before, returns, clip=settings.value_clip) * mask
        losses = losses + settings.value_weight * value
        watched["value_loss"] = a_report(value) / mean_length
    loss = (losses.sum(dim=1) / mean_length * weights).sum()
    return loss, watched | {"loss": loss.detach()}
