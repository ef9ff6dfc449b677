"""A policy's weights one after another, gathered layer by layer where ZeRO 3 shares them out over the ranks."""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import deepspeed
from torch import Tensor

from rlaif.models.adapters import adapted_layers, adapter_of, is_adapter
from rlaif.models.policy import Policy

# Up to the first number: a layer of the model, whose weights are gathered together.
_LAYER = re.compile(r"^(.*?\.\d+)\.")


class PolicySource:
    """A policy's weights as vLLM's trainer side asks for them: what they are, and one after another.

    Adapters are merged. With ZeRO 3 the ranks' shares are gathered layer by layer, so that never more than one layer is
    whole: all ranks must go through it together.
    """

    def __init__(self, policy: Policy, part: str, *, adapters: bool = False) -> None:
        """`part` is the part of the policy whose weights are given, by the names that they have within it.

        `adapters` gives the adapters' own weights as well, with their layers.
        """
        module = getattr(policy, part)
        self._layers = adapted_layers(module)
        self._adapters = adapters
        tied = part == "language_model" and policy.language_model.config.tie_word_embeddings
        self._state: dict[str, Tensor] = {
            name: one
            for name, one in module.state_dict(keep_vars=True).items()
            if not (tied and name == "lm_head.weight")
        }

    def metadata(self) -> list[Any]:
        """Name, dtype and whole shape of each weight, in the order in which they are given."""
        from vllm.distributed.weight_transfer.base import ParamMeta

        return [
            ParamMeta(_bare(name), one.dtype, tuple(getattr(one, "ds_shape", one.shape)))
            for name, one in self._state.items()
            if self._adapters or not is_adapter(name)
        ]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for _, group in groupby(self._state.items(), key=lambda item: _layer(item[0])):
            tensors = dict(group)
            shared = [one for one in tensors.values() if hasattr(one, "ds_id")]
            with deepspeed.zero.GatheredParameters(shared, modifier_rank=None, enabled=bool(shared)):
                for name, one in tensors.items():
                    if is_adapter(name) and not self._adapters:
                        continue
                    layer = self._layers.get(_bare(name))
                    whole = one.detach() if layer is None else adapter_of(layer).merged_into(one.detach())
                    # What was gathered is gone when its layer is: the sender may still hold it then.
                    yield _bare(name), whole.clone() if shared else whole.contiguous()


def gathered_weights(policy: Policy, *, keep: bool) -> dict[str, Tensor]:
    """A policy's weights, adapters merged, and its adapters' own, by checkpoint names and in the host's memory.

    All ranks must call it together; those that do not `keep` them get none.
    """
    kept: dict[str, Tensor] = {}
    for part, _ in policy.named_children():
        for name, tensor in PolicySource(policy, part, adapters=True):
            if keep:
                kept[f"{part}.{name}"] = tensor.cpu().contiguous()
    return kept


def _bare(name: str) -> str:
    return name.replace(".base_layer.", ".")


def _layer(name: str) -> str:
    found = _LAYER.match(name)
    return found.group(1) if found else ""
