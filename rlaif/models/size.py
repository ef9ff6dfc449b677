"""How large a policy is, told without making its weights."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from rlaif.models.adapters import add_adapters, targets_of
from rlaif.models.connectors.build import new_connector
from rlaif.models.encoders.build import new_encoder
from rlaif.models.settings import LoraSettings, PolicyError, PolicySettings


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


def policy_size(configuration: PretrainedConfig, settings: PolicySettings, lora: LoraSettings | None) -> PolicySize:
    """The size of a policy around a language model of the given configuration."""
    with torch.device("meta"):
        language = AutoModelForCausalLM.from_config(configuration)
        connector = vision = None
        if settings.encoder is not None and settings.connector is not None:
            vision = new_encoder(settings.encoder)
            connector = new_connector(settings.connector, settings.encoder, configuration.hidden_size)
        plain, adapters = _count(language) + _count(connector), 0
        sizes = _count(language), _count(connector)
        parts = {"language_model": language, "connector": connector}
        for part in lora.parts if lora is not None else ():
            if lora is not None and (module := parts[part]) is not None:
                add_adapters(module, lora, targets_of(part, lora))
        adapters = _count(language) + _count(connector) - plain
    return PolicySize(
        language_model=sizes[0],
        connector=sizes[1],
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
