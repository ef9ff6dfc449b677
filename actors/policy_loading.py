"""Policies as a rank needs them: read from a folder, or kept from the training that wrote it."""

import gc
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from rlaif.models.policy import ADAPTERS_FILE, Policy
from rlaif.models.settings import LoraSettings, PolicyError, read_settings
from rlaif.models.size import saved_configuration

# Beside a policy's weights: the checksum by which samplers and learners know them.
WEIGHTS_FILE = "weights.json"
_WIDTHS = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "tie_word_embeddings",
)


@dataclass(frozen=True)
class PolicyForm:
    """How a policy is held in memory; `base` is the folder on whose weights its adapters stand, if it bears any."""

    dtype: torch.dtype
    with_encoder: bool
    lora: LoraSettings | None
    base: Path | None


@dataclass(frozen=True)
class KeptPolicy:
    """A trained policy in memory, whose merged weights have the checksum."""

    checksum: str
    form: PolicyForm
    policy: Policy

    def is_of(self, folder: Path) -> bool:
        """Whether a folder holds these weights."""
        return recorded_checksum(folder) == self.checksum


def recorded_checksum(folder: Path) -> str | None:
    """The checksum that a policy folder was written with; None for one that no training wrote."""
    path = folder / WEIGHTS_FILE
    try:
        return str(json.loads(path.read_bytes())["checksum"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise PolicyError(
            f"{path} is damaged ({error}); remove it, and the weights are read from the folder"
        ) from error


def record_checksum(folder: Path, checksum: str) -> None:
    """Writes the checksum of a folder's weights beside them."""
    (folder / WEIGHTS_FILE).write_text(json.dumps({"checksum": checksum}), encoding="utf-8")


def load_policy(folder: Path, form: PolicyForm) -> Policy:
    """The policy of a folder on the CPU; with adapters, it goes on on the base that they were made for."""
    policy = Policy.from_pretrained(folder, dtype=form.dtype, with_encoder=form.with_encoder)
    if form.lora is None:
        return policy
    goes_on = form.base is not None and form.base != folder
    if goes_on and form.base is not None:
        # The folder holds merged weights. What trains without adapters goes on from them; adapted parts do not, and go
        # before the base is read, for the host's memory may not hold both.
        for part in form.lora.parts:
            setattr(policy, part, None)
        gc.collect()
        unmerged = Policy.from_pretrained(form.base, dtype=form.dtype)
        for part in form.lora.parts:
            setattr(policy, part, getattr(unmerged, part))
    policy.add_adapters(form.lora)
    adapters = folder / ADAPTERS_FILE
    if goes_on and adapters.is_file():
        policy.load_state_dict(load_file(adapters), strict=False)
    return policy


def check_same_architecture(policy: Path, *others: Path) -> None:
    """Raises PolicyError where another folder's policy is not of the architecture of the first one's."""
    for other in others:
        if other == policy:
            continue
        first, second = saved_configuration(policy), saved_configuration(other)
        widths = [(key, getattr(second, key, None), getattr(first, key, None)) for key in _WIDTHS]
        differ = [f"{key} {theirs} for {ours}" for key, theirs, ours in widths if theirs != ours]
        said = read_settings(policy), read_settings(other)
        differ += [part for part in ("encoder", "connector") if getattr(said[0], part) != getattr(said[1], part)]
        if differ:
            raise PolicyError(
                f"{other} is of another architecture than {policy} ({', '.join(differ)}): base, policy and reference "
                "of a run must be of one; start a new run for another policy"
            )
