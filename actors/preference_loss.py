"""DPO on a round's pairs: the loss of a micro-batch."""

from typing import Any

import torch
from torch import Tensor

from actors.preference_batches import PreferenceBatches
from actors.reference import ReferenceLogprobs
from rlaif.learner_settings import DpoSettings
from rlaif.objectives.batches import MicroBatch
from rlaif.objectives.dpo import dpo_loss


def preference_loss(
    pairs: PreferenceBatches,
    reference: ReferenceLogprobs,
    dpo: DpoSettings,
    model: Any,
    micro: MicroBatch,
    step: tuple[int, ...],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted loss of a micro-batch of the pairs of a step, and what is worth watching, weighted likewise."""
    frozen_sums = reference.of(micro.items)
    weights = torch.tensor(micro.weights, device=frozen_sums.device)
    ours = pairs.logprobs(model, micro.items)
    result = dpo_loss(
        ours.chosen,
        ours.rejected,
        frozen_sums[:, 0],
        frozen_sums[:, 1],
        beta=dpo.beta,
        loss=dpo.loss,
        label_smoothing=dpo.label_smoothing,
        length_normalised=dpo.length_normalised,
        sft_weight=dpo.sft_weight,
        chosen_lengths=ours.chosen_length,
        rejected_lengths=ours.rejected_length,
        mean_chosen_length=pairs.mean_chosen_length(step),
    )
    watched = {
        "loss": result.loss.detach(),
        "margin": result.margin,
        "accuracy": (result.margin > 0).float(),
        "chosen_reward": result.chosen_reward,
        "rejected_reward": result.rejected_reward,
    }
    return (result.loss * weights).sum(), {name: (one * weights).sum() for name, one in watched.items()}
