"""Value heads between a policy's folder and the rank that trains it."""

from pathlib import Path

import deepspeed
from safetensors.torch import load_file

from rlaif.learner_settings import PpoSettings
from rlaif.models.policy import Policy
from rlaif.models.tensor_files import write_tensors
from rlaif.models.value_head import VALUE_HEAD_FILE, PolicyWithValues


def policy_with_values(policy: Policy, folder: Path, settings: PpoSettings) -> PolicyWithValues:
    """A policy with the value head that stands beside it in its folder; a new one where none does."""
    model = PolicyWithValues(policy, trains_policy=settings.value_trains_policy)
    if (folder / VALUE_HEAD_FILE).is_file():
        model.value_head.load_state_dict(load_file(folder / VALUE_HEAD_FILE))
    return model


def save_value_head(model: PolicyWithValues, folder: Path, *, write: bool) -> None:
    """Writes the value head beside its policy; with ZeRO 3 all ranks must call it together, and one of them writes."""
    weights = list(model.value_head.parameters())
    with deepspeed.zero.GatheredParameters(weights, enabled=any(hasattr(one, "ds_id") for one in weights)):
        if write:
            tensors = {name: one.detach().cpu().clone() for name, one in model.value_head.state_dict().items()}
            write_tensors(tensors, folder / VALUE_HEAD_FILE)
