"""Value heads between a policy's folder and the rank that trains it."""

from pathlib import Path

import deepspeed
import torch
from safetensors.torch import load_file

from actors.learner_faults import LearningFailed
from rlaif.learner_settings import PpoSettings
from rlaif.models.policy import Policy
from rlaif.models.tensor_files import write_tensors
from rlaif.models.value_head import VALUE_HEAD_FILE, PolicyWithValues


def policy_with_values(policy: Policy, folder: Path | None, settings: PpoSettings) -> PolicyWithValues:
    """A policy with the value head of a folder; with a new one where `folder` is None."""
    model = PolicyWithValues(policy, trains_policy=settings.value_trains_policy)
    if folder is not None:
        model.value_head.load_state_dict(load_file(folder / VALUE_HEAD_FILE))
    return model


def save_value_head(model: PolicyWithValues, folder: Path, *, write: bool) -> None:
    """Writes the value head beside its policy; with ZeRO 3 all ranks must call it together, and one of them writes.

    Raises LearningFailed where it is no numbers.
    """
    weights = list(model.value_head.parameters())
    with deepspeed.zero.GatheredParameters(weights, enabled=any(hasattr(one, "ds_id") for one in weights)):
        if not all(bool(torch.isfinite(one).all()) for one in weights):
            raise LearningFailed("the value head is no numbers after the last step: lower learner.ppo.value_lr")
        if write:
            tensors = {name: one.detach().cpu().clone() for name, one in model.value_head.state_dict().items()}
            write_tensors(tensors, folder / VALUE_HEAD_FILE)
