"""Attention over pairs: the answers of a pair see their prompt and themselves, not each other.

All tokens of a batch stand in one row without padding, pair after pair. Each pair takes three causal attentions: the
prompt over itself, and each answer over the prompt and itself. So no mask of the whole row is ever made: on CUDA,
PyTorch's flash and memory-efficient kernels know a causal mask that is aligned at its lower right corner; the CPU's
takes it as a small tensor.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rlaif.models.pair_tokens import PairTokens
from rlaif.models.settings import PolicyError

_NAME = "pairs"


def pair_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    pairs: tuple[tuple[int, int, int], ...] | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The attention's output `[1, N, heads, size]` from `[1, heads, N, size]`, for pairs of the given lengths.

    `pairs` are the lengths of prompt, chosen and rejected; without it this is transformers' own attention. Keys and
    values may have fewer heads. Raises PolicyError where a language model drops `pairs` on the way.
    """
    if pairs is None:
        if attention_mask is not None and attention_mask.shape[-1] != key.shape[2]:
            raise PolicyError(
                f"{type(module).__name__} does not hand on how its pairs stand, so they cannot be learned"
            )
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    groups = query.shape[1] // key.shape[1]
    # One split has one backward; a slice for each part would have one of the whole row's size each.
    lengths = [length for pair in pairs for length in pair]
    queries = query.split(lengths, dim=2)
    keys = key.repeat_interleave(groups, dim=1).split(lengths, dim=2)
    values = value.repeat_interleave(groups, dim=1).split(lengths, dim=2)
    outputs: list[Tensor] = []
    for prompt in range(0, len(lengths), 3):
        for part in range(prompt, prompt + 3):
            seen = [prompt] if part == prompt else [prompt, part]
            seen_keys = torch.cat([keys[one] for one in seen], dim=2)
            seen_values = torch.cat([values[one] for one in seen], dim=2)
            mask = causal_lower_right(queries[part].shape[2], seen_keys.shape[2])
            outputs.append(
                scaled_dot_product_attention(
                    queries[part], seen_keys, seen_values, attn_mask=mask, dropout_p=dropout, scale=scaling
                )
            )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def allow_pairs(language_model: PreTrainedModel) -> None:
    """Makes a language model take pairs too; for plain batches it stays as it is."""
    AttentionInterface.register(_NAME, pair_attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    language_model.set_attn_implementation(_NAME)


def pair_states(language_model: PreTrainedModel, embeddings: Tensor, tokens: PairTokens) -> Tensor:
    """The hidden states `[A, D]` before each answer token, from the input embeddings `[B, L, D]`.

    Raises PolicyError for a language model whose attention cannot be chosen.
    """
    # Another attention would let the answers see each other.
    if language_model.config._attn_implementation != _NAME:
        raise PolicyError(
            f"{type(language_model).__name__} does not let its attention be chosen, which pairs need: take a Llama, "
            "Qwen or GPT-2"
        )
    packed = embeddings[tokens.mask][None]
    states = language_model.base_model(
        inputs_embeds=packed,
        # A mask that is ready, as its four dimensions say, keeps the model from making one of the whole row.
        attention_mask=packed.new_zeros(1, 1, 1, 1),
        position_ids=tokens.positions()[None],
        use_cache=False,
        pairs=tokens.parts,
    ).last_hidden_state
    return states[0].index_select(0, tokens.before())
