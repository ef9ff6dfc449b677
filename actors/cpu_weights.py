"""New weights for a vLLM engine on a CPU, packed straight from where they arrived.

On a CPU vLLM keeps linear weights packed and lets the ordinary ones go. Its reload builds every layer anew and copies
each weight several times; this packs them once. Each packed matrix is proved by its product with a random vector,
which another matrix gives with probability zero (Freivalds 1977), up to rounding.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from actors.stale_weights import StaleWeights

# Models whose checkpoints hold what the engine holds, by the same names and the same way round.
_ONE_TO_ONE = ("LlamaForCausalLM", "Qwen2ForCausalLM")
# Of the products' norm: what rounding may make of it.
_TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def can_repack(model: nn.Module, parallel: int) -> bool:
    """Whether `repack` knows this model and its engine is not split."""
    return parallel == 1 and type(model).__name__ in _ONE_TO_ONE and next(model.parameters()).device.type == "cpu"


def repack(model: Any, weights: dict[str, Tensor]) -> set[str]:
    """Takes whole layers of a checkpoint into the engine's model; gives the engine's names of what is new.

    Raises StaleWeights where a packed matrix is not the one that came.
    """
    from vllm.model_executor.layers.linear import LinearBase
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    shards = {part: (whole, parts) for whole, parts in model.packed_modules_mapping.items() for part in parts}
    layers: dict[str, dict[str, dict[str, Tensor]]] = defaultdict(lambda: defaultdict(dict))
    for name, tensor in weights.items():
        path, _, leaf = name.rpartition(".")
        above, _, own = path.rpartition(".")
        whole, _ = shards.get(own, (own, []))
        layers[f"{above}.{whole}" if above else whole][leaf][own] = tensor
    for place, leaves in layers.items():
        module = model.get_submodule(place)
        last = place.rpartition(".")[2]
        for leaf, found in leaves.items():
            order = model.packed_modules_mapping.get(last, [last])
            if missing := [part for part in order if part not in found]:
                raise StaleWeights(f"{place}.{leaf} came without {', '.join(missing)}, which the engine holds with it")
            parts = [found[part] for part in order]
            if leaf == "weight" and isinstance(module, LinearBase | ParallelLMHead):
                _repack(module, place, parts, keep=isinstance(module, ParallelLMHead))
            else:
                _copy(module.get_parameter(leaf), parts)
    return {f"{place}.{leaf}" for place, leaves in layers.items() for leaf in leaves}


def _copy(own: Tensor, parts: list[Tensor]) -> None:
    # The rows that vLLM adds to a vocabulary stay as they are.
    rows = 0
    for part in parts:
        own.data[rows : rows + len(part)].copy_(part)
        rows += len(part)


def _repack(module: Any, place: str, parts: list[Tensor], *, keep: bool) -> None:
    """Packs a linear layer's weight; `keep` keeps the ordinary weight beside it, as a vocabulary's head does."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    packed_alone = not module.weight.numel()
    if packed_alone:
        dtype = module.weight.dtype
        whole = parts[0].to(dtype) if len(parts) == 1 else torch.cat([part.to(dtype) for part in parts])
        module.weight = nn.Parameter(whole, requires_grad=False)
    else:
        _copy(module.weight, parts)
    dispatch_cpu_unquantized_gemm(module, remove_weight=not keep and packed_alone)
    _prove(module, place, parts)


def _prove(module: Any, place: str, parts: list[Tensor]) -> None:
    dtype = module.weight.dtype
    probe = torch.randn(1, parts[0].shape[1], generator=torch.Generator().manual_seed(len(place))).to(dtype)
    sent = torch.cat([functional.linear(probe, part.to(dtype)) for part in parts], dim=1).float()
    used = module.cpu_linear(probe, module.weight, None)[:, : sent.shape[1]].float()
    gap = float((used - sent).norm() / sent.norm().clamp_min(1e-30))
    # Also not-a-number must be found.
    if not gap <= _TOLERANCE[dtype]:
        raise StaleWeights(f"the engine's {place} is not what was sent: their products differ by {gap:.1e} of the norm")
