"""How large a policy is, told without making its weights."""

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from rlaif.models.connector import Connector
from rlaif.models.ctvit import CTViT
from rlaif.models.settings import CTViTSettings, LoraSettings, PolicyError


@dataclass(frozen=True)
class PolicySize:
    """Parameters of a policy's parts, and the widths that its activations follow."""

    language_model: int
    connector: int
    encoder: int
    adapters: int
    hidden: int
    layers: int
    vocabulary: int

    @property
    def trained(self) -> int:
        """Parameters of what the learner holds: language model and connector."""
        return self.language_model + self.connector


def policy_size(
    configuration: PretrainedConfig, encoder: CTViTSettings | None, lora: LoraSettings | None
) -> PolicySize:
    """The size of a policy around a language model of the given configuration."""
    with torch.device("meta"):
        language = AutoModelForCausalLM.from_config(configuration)
        connector = Connector(encoder.hidden, configuration.hidden_size) if encoder is not None else None
        vision = CTViT(encoder) if encoder is not None else None
        plain = _count(language)
        adapters = 0
        if lora is not None:
            get_peft_model(language, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets))
            adapters = _count(language) - plain
    return PolicySize(
        language_model=plain,
        connector=_count(connector),
        encoder=_count(vision),
        adapters=adapters,
        hidden=configuration.hidden_size,
        layers=configuration.num_hidden_layers,
        vocabulary=configuration.vocab_size,
    )


def saved_configuration(folder: Path) -> PretrainedConfig:
    """The configuration of a policy folder's language model; raises PolicyError where it has none."""
    try:
        return AutoConfig.from_pretrained(folder / "language_model", local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise PolicyError(f"{folder} has no language_model that can be read: {' '.join(str(error).split())}") from error


def _count(module: nn.Module | None) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) if module is not None else 0
