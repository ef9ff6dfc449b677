"""How large a policy is, told without making its weights."""

from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from rlaif.models.encoders.build import new_encoder
from rlaif.models.new_policy import seeded_connector, train_tokenizer
from rlaif.models.policy import Policy
from rlaif.models.settings import LoraSettings, PolicyError, PolicySettings


@dataclass(frozen=True)
class PolicySize:
    """Parameters of a policy's parts, and the widths that its activations follow."""

    language_model: int
    connector: int
    encoder: int
    adapters: int
    adapted: int
    """Parameters of the layers that bear adapters."""
    hidden: int
    intermediate: int
    key_value_width: int
    """Values of a layer's keys, all heads together."""
    head_size: int
    layers: int
    vocabulary: int

    def on_board(self, *, encoder: bool) -> int:
        """Parameters that an actor holds: language model and connector, and where it trains, the encoder."""
        return self.language_model + self.connector + (self.encoder if encoder else 0)


def meta_policy(configuration: PretrainedConfig, settings: PolicySettings) -> Policy:
    """The policy around a language model of the given configuration, with its encoder on board: all parameters by name
    and shape, on the meta device. Its tokenizer knows bytes alone.

    Raises PolicyError where its parts do not fit.
    """
    with torch.device("meta"):
        try:
            language_model = AutoModelForCausalLM.from_config(configuration)
        except (ValueError, RuntimeError, ZeroDivisionError, TypeError) as error:
            raise PolicyError(
                f"the language model's configuration describes no causal language model: {' '.join(str(error).split())}"
            ) from error
        connector = seeded_connector(settings, configuration.hidden_size, seed=0)
        encoder = new_encoder(settings.encoder) if settings.encoder is not None else None
    return Policy(settings, language_model, train_tokenizer((), 260), connector, encoder)


def policy_size(configuration: PretrainedConfig, settings: PolicySettings, lora: LoraSettings | None) -> PolicySize:
    """The size of a policy around a language model of the given configuration."""
    policy = meta_policy(configuration, settings)
    language_model, connector, encoder = map(_count, (policy.language_model, policy.connector, policy.encoder))
    if lora is not None:
        add_meta_adapters(policy, lora)
    head = getattr(configuration, "head_dim", None) or configuration.hidden_size // configuration.num_attention_heads
    heads = getattr(configuration, "num_key_value_heads", None) or configuration.num_attention_heads
    # GPT-2 calls it n_inner, and says none for four times its width.
    inner = getattr(configuration, "intermediate_size", None) or getattr(configuration, "n_inner", None)
    return PolicySize(
        language_model=language_model,
        connector=connector,
        encoder=encoder,
        adapters=_count(policy) - language_model - connector - encoder,
        adapted=sum(one.numel() for name, one in policy.named_parameters() if ".base_layer." in name),
        hidden=configuration.hidden_size,
        intermediate=inner or 4 * configuration.hidden_size,
        key_value_width=heads * head,
        head_size=head,
        layers=configuration.num_hidden_layers,
        vocabulary=configuration.vocab_size,
    )


def add_meta_adapters(policy: Policy, lora: LoraSettings) -> None:
    """Puts adapters onto a policy on the meta device, without making their weights."""
    with torch.device("meta"):
        policy.add_adapters(lora)


def saved_configuration(folder: Path) -> PretrainedConfig:
    """The configuration of a policy folder's language model; raises PolicyError where it has none."""
    if not (folder / "language_model" / "config.json").is_file():
        raise PolicyError(f"{folder} has no language_model that can be read: there is no language_model/config.json")
    try:
        return AutoConfig.from_pretrained(folder / "language_model", local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, StrictDataclassError) as error:
        raise PolicyError(f"{folder} has no language_model that can be read: {' '.join(str(error).split())}") from error


def _count(module: nn.Module | None) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) if module is not None else 0
