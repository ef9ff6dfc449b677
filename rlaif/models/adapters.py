"""Low-rank adapters: put onto a policy's parts, and merged into its weights."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
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


@dataclass(frozen=True)
class Adapter:
    """The two low-rank matrices on one weight: `down` `[rank, in]` and `up` `[out, rank]`."""

    down: Tensor
    up: Tensor
    scaling: float
    transposed: bool
    """Whether the weight is `[in, out]`, as in GPT-2's layers."""
    dtype: torch.dtype
    """Of the weight that it changes."""

    def merged_into(self, weight: Tensor) -> Tensor:
        """The weight with the adapter's product added in float32 and rounded once, the same wherever it is done."""
        delta = (self.up.float() @ self.down.float()) * self.scaling
        return (weight.to(self.dtype).float() + (delta.T if self.transposed else delta)).to(self.dtype)


def adapted_layers(module: nn.Module) -> dict[str, Any]:
    """A module's layers with adapters by the names that their weights have without them."""
    return {f"{name}.weight": one for name, one in module.named_modules() if isinstance(one, AdaptedLinear)}


def adapter_of(layer: Any) -> Adapter:
    """The adapter of a layer."""
    down, up = layer.lora_A[_NAME].weight.detach(), layer.lora_B[_NAME].weight.detach()
    scaling, transposed = float(layer.scaling[_NAME]), bool(layer.fan_in_fan_out)
    return Adapter(down, up, scaling, transposed, layer.base_layer.weight.dtype)


def adapters_of(module: nn.Module) -> dict[str, Adapter]:
    """A module's adapters by the names of the weights that they change."""
    return {name: adapter_of(layer) for name, layer in adapted_layers(module).items()}


def merged(module: nn.Module) -> dict[str, Tensor]:
    """A module's weights with its adapters merged, by the names that it has without them."""
    adapters = adapters_of(module)
    weights: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        if is_adapter(name):
            continue
        bare = name.replace(".base_layer.", ".")
        weights[bare] = adapters[bare].merged_into(tensor) if bare in adapters else tensor
    return weights


@contextmanager
def without_adapters(module: nn.Module) -> Iterator[None]:
    """A context in which a module computes as if it had no adapters."""
    layers = [one for one in module.modules() if isinstance(one, AdaptedLinear)]
    trained = [one for one in module.parameters() if one.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        # peft lets all adapters train that it switches on.
        module.requires_grad_(False)
        for one in trained:
            one.requires_grad_(True)


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is an adapter's."""
    return ".lora_" in name


def _is_linear(module: nn.Module) -> bool:
    # GPT-2's linear layers are transposed ones of transformers' own class.
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
