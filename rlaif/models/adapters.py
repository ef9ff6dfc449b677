"""Low-rank adapters: put onto a policy's parts, and merged into its weights."""

import re

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as AdaptedLinear
from torch import Tensor, nn

from rlaif.models.settings import LoraSettings, PolicyError

_NAME = "default"


def add_adapters(module: nn.Module, lora: LoraSettings, targets: str | list[str]) -> None:
    """Puts adapters onto the linear layers that `targets` names (`B` begins at zero: the same model).

    Raises PolicyError where a target names nothing, or is no pattern.
    """
    if targets == "all-linear":
        # As peft means it: every linear layer but the vocabulary's.
        targets = [name for name, one in module.named_modules() if _is_linear(one) and not name.endswith("lm_head")]
    settings = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    try:
        inject_adapter_in_model(settings, module, adapter_name=_NAME)
    except re.error as error:
        raise PolicyError(
            f"learner.lora.targets={targets} is no pattern ({error}): name modules in a list, such as [q_proj, v_proj]"
            ", or all-linear"
        ) from error
    except ValueError as error:
        raise PolicyError(f"learner.lora.targets={targets}: {error}") from error


def targets_of(part: str, lora: LoraSettings) -> str | list[str]:
    """The layers of a part that bear adapters: a connector's all do, a language model's as the settings say."""
    return lora.targets if part == "language_model" else "all-linear"


def merged(module: nn.Module) -> dict[str, Tensor]:
    """A module's weights with its adapters merged, by the names that it has without them."""
    deltas = {
        name: one.get_delta_weight(_NAME) for name, one in module.named_modules() if isinstance(one, AdaptedLinear)
    }
    weights: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        layer, _, parameter = name.rpartition(".base_layer.")
        if is_adapter(name):
            continue
        if layer:
            delta = deltas[layer] if parameter == "weight" else 0
            weights[f"{layer}.{parameter}"] = tensor + delta
        else:
            weights[name] = tensor
    return weights


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is an adapter's."""
    return ".lora_" in name


def _is_linear(module: nn.Module) -> bool:
    # GPT-2's linear layers are transposed ones of transformers' own class.
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
