"""Reg2RG as published: one pytorch_model.bin of encoder, connector and a LLaMA-2 with low-rank adapters (src/Model).

The input rows of its tags (`<image>`, `</image>`, `<region>`, `</region>`) have no place here: visual tokens stand in
our prompts without tags around them.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from rlaif.models.published import radfm
from rlaif.models.published.weight_table import PublishedWeightsError, WeightTable

_Renames = tuple[tuple[str, str], ...]


def _within(renames: _Renames, published: str, ours: str = "") -> _Renames:
    """The renames for names that stand behind a prefix on either side."""
    return tuple((published + pattern, ours + template) for pattern, template in renames)


_TAGS = r"embedding_layer\.(image|region)_token_weight"
_LANGUAGE_MODEL = (r"lang_model\..+", r"embedding_layer\.weight")

ENCODER = WeightTable(
    renames=_within(radfm.ENCODER.renames, r"embedding_layer\.vision_encoder\."),
    dropped=(*_LANGUAGE_MODEL, _TAGS, r"embedding_layer\.(perceiver|fc|mask_encoder|mask_fc)\..+"),
)
"""For `RadFMViT`."""

CONNECTOR = WeightTable(
    renames=(
        *_within(radfm.PERCEIVER.renames, r"embedding_layer\.", "perceiver."),
        (r"embedding_layer\.fc\.(weight|bias)", r"perceiver.fc.\1"),
        *_within(radfm.ENCODER.renames, r"embedding_layer\.mask_encoder\.", "mask_encoder."),
        (r"embedding_layer\.mask_fc\.(weight|bias)", r"mask_fc.\1"),
    ),
    dropped=(*_LANGUAGE_MODEL, _TAGS, r"embedding_layer\.vision_encoder\..+"),
)
"""For `RegionConnector`."""

_PREFIX = "lang_model.base_model.model."
_EMBEDDING = "model.embed_tokens.weight"
_ALPHA = 32
_ADAPTER = re.compile(r"(.+)\.lora_([AB])\.default\.weight")
# Rotary frequencies are no weights; transformers of that time wrote them out.
_COMPUTED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
_LLAMA = re.compile(
    r"model\.embed_tokens\.weight|model\.norm\.weight|lm_head\.weight|model\.layers\.\d+\."
    r"(input_layernorm|post_attention_layernorm|self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.weight"
)


def language_model_weights(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The language model of Reg2RG's file as plain LLaMA weights, under the names of `LlamaForCausalLM`.

    Its adapters (alpha 32; rank 8 as published) are merged into their layers, in float32, and each weight keeps its
    type. Raises PublishedWeightsError for adapters that are not whole or do not fit, for two word embeddings that are
    not one, and for names that LLaMA does not have.
    """
    weights: dict[str, Tensor] = {}
    adapters: dict[str, dict[str, Tensor]] = {}
    for name, value in published.items():
        if not name.startswith(_PREFIX) or _COMPUTED.fullmatch(name.removeprefix(_PREFIX)):
            continue
        plain = name.removeprefix(_PREFIX)
        if match := _ADAPTER.fullmatch(plain):
            adapters.setdefault(f"{match[1]}.weight", {})[match[2]] = value
        else:
            weights[plain.replace(".base_layer.", ".")] = value
    # The system reads words from this one, which is the language model's own: a file may hold it once or twice.
    embedding = published.get("embedding_layer.weight")
    if embedding is not None:
        own = weights.setdefault(_EMBEDDING, embedding)
        if own.dtype != embedding.dtype or not torch.equal(own, embedding):
            raise PublishedWeightsError(
                f"embedding_layer.weight differs from {_PREFIX}{_EMBEDDING}, with which it should be one"
            )
    if unknown := sorted(name for name in weights if not _LLAMA.fullmatch(name)):
        raise PublishedWeightsError(
            f"the language model has {len(unknown)} weights that LLaMA has not, such as {unknown[0]}: only files of "
            "Reg2RG with adapters on linear layers are known"
        )
    for name, halves in adapters.items():
        weights[name] = _merged(name, weights.get(name), halves)
    return weights


def _merged(name: str, weight: Tensor | None, halves: Mapping[str, Tensor]) -> Tensor:
    if weight is None or set(halves) != {"A", "B"}:
        raise PublishedWeightsError(f"the adapter of {name} is not whole: it needs its layer, lora_A and lora_B")
    down, up = halves["A"], halves["B"]
    plane = weight.dim() == down.dim() == up.dim() == 2
    if not plane or not len(down) or down.shape != (up.shape[1], weight.shape[1]) or len(up) != len(weight):
        raise PublishedWeightsError(
            f"the adapter of {name} has shapes {list(down.shape)} and {list(up.shape)}, which do not fit a layer of "
            f"{list(weight.shape)}"
        )
    return (weight.float() + _ALPHA / len(down) * (up.float() @ down.float())).to(weight.dtype)
