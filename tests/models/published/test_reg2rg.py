"""Reg2RG's file: every name finds its place, and its adapters become part of the language model."""

from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from rlaif.models.connectors.regions import RegionConnector
from rlaif.models.connectors.settings import RegionSettings
from rlaif.models.encoders.radfm import RadFMViT
from rlaif.models.encoders.settings import RadFMSettings
from rlaif.models.published.reg2rg import CONNECTOR, ENCODER, language_model_weights
from rlaif.models.published.weight_table import PublishedWeightsError, load_published

QUERY = "lang_model.base_model.model.model.layers.1.self_attn.q_proj"


def vision_transformer(
    prefix: str, patch: int, hidden: int, layers: int, intermediate: int, tables: tuple[int, int, int]
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of src/Model/vit_3d.py; `tables` are its row, column and depth entries."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part, size in (("1", (patch,)), ("2", (hidden, patch)), ("3", (hidden,))):
        shapes |= {f"to_patch_embedding.{part}.weight": size, f"to_patch_embedding.{part}.bias": size[:1]}
    for name, entries in zip(("row", "col", "dep"), tables, strict=True):
        shapes[f"pos_embedding.{name}_embed.weight"] = (entries, hidden // 3)
    for layer in (f"transformer.layers.{number}" for number in range(layers)):
        shapes |= {f"{layer}.{part}.norm.{kind}": (hidden,) for part in (0, 1) for kind in ("weight", "bias")}
        shapes[f"{layer}.0.fn.to_qkv.weight"] = (3 * 512, hidden)
        shapes |= {f"{layer}.0.fn.to_out.0.weight": (hidden, 512), f"{layer}.0.fn.to_out.0.bias": (hidden,)}
        shapes |= {f"{layer}.1.fn.net.0.weight": (intermediate, hidden), f"{layer}.1.fn.net.0.bias": (intermediate,)}
        shapes |= {f"{layer}.1.fn.net.3.weight": (hidden, intermediate), f"{layer}.1.fn.net.3.bias": (hidden,)}
    return {prefix + name: shape for name, shape in shapes.items()}


def perceiver(prefix: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of RadFM's PerceiverResampler."""
    shapes: dict[str, tuple[int, ...]] = {"latents": (32, 768), "norm.weight": (768,), "norm.bias": (768,)}
    for layer in (f"layers.{number}" for number in range(6)):
        for norm in ("0.norm_media", "0.norm_latents", "1.0"):
            shapes |= {f"{layer}.{norm}.weight": (768,), f"{layer}.{norm}.bias": (768,)}
        shapes |= {f"{layer}.0.to_q.weight": (512, 768), f"{layer}.0.to_kv.weight": (1024, 768)}
        shapes |= {f"{layer}.0.to_out.weight": (768, 512)}
        shapes |= {f"{layer}.1.1.weight": (3072, 768), f"{layer}.1.3.weight": (768, 3072)}
    return {prefix + name: shape for name, shape in shapes.items()}


def published() -> dict[str, Tensor]:
    """The file at the paper's size, without values; of the language model one layer stands for all."""
    shapes: dict[str, tuple[int, ...]] = {
        "embedding_layer.weight": (32000, 4096),
        "embedding_layer.image_token_weight": (2, 4096),
        "embedding_layer.region_token_weight": (2, 4096),
        "embedding_layer.fc.weight": (4096, 768),
        "embedding_layer.fc.bias": (4096,),
        "embedding_layer.mask_fc.weight": (4096, 255),
        "embedding_layer.mask_fc.bias": (4096,),
        f"{QUERY}.base_layer.weight": (4096, 4096),
        f"{QUERY}.lora_A.default.weight": (8, 4096),
        f"{QUERY}.lora_B.default.weight": (4096, 8),
    }
    shapes |= vision_transformer("embedding_layer.vision_encoder.", 12288, 768, 12, 2048, (16, 16, 128))
    shapes |= vision_transformer("embedding_layer.mask_encoder.", 32 * 32 * 16, 255, 3, 512, (8, 8, 4))
    shapes |= perceiver("embedding_layer.perceiver.")
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def on_meta(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    with torch.device("meta"):
        return make()


def encoder() -> torch.nn.Module:
    return on_meta(lambda: RadFMViT(RadFMSettings(volume=(64, 256, 256), patch=(4, 32, 32))))


def connector() -> torch.nn.Module:
    return on_meta(lambda: RegionConnector(RegionSettings(), 768, 4096))


def test_encoder_and_connector_take_the_file_at_the_papers_size() -> None:
    load_published(encoder(), published(), ENCODER, "pytorch_model.bin")
    load_published(connector(), published(), CONNECTOR, "pytorch_model.bin")


@pytest.mark.parametrize(
    "name", ["perceiver.latents", "mask_encoder.pos_embedding.dep_embed.weight", "fc.bias", "mask_fc.weight"]
)
def test_a_missing_weight_is_named(name: str) -> None:
    weights = published()
    del weights[f"embedding_layer.{name}"]
    with pytest.raises(PublishedWeightsError, match="1 missing"):
        load_published(connector(), weights, CONNECTOR, "pytorch_model.bin")
    load_published(encoder(), weights, ENCODER, "pytorch_model.bin")


@pytest.mark.parametrize("name", ["embedding_layer.cross_attn.weight", "cls_head.weight"])
def test_an_unknown_weight_is_named(name: str) -> None:
    weights = published() | {name: torch.empty(1, device="meta")}
    for module, table in ((encoder(), ENCODER), (connector(), CONNECTOR)):
        with pytest.raises(PublishedWeightsError, match=f"1 unknown: {name}"):
            load_published(module, weights, table, "pytorch_model.bin")


def test_values_stand_where_the_publication_has_them() -> None:
    small = RegionConnector(RegionSettings(), 768, 12)
    weights = {
        name: torch.randn(tuple(12 if side == 4096 else side for side in value.shape))
        for name, value in published().items()
        if not name.startswith(("lang_model", "embedding_layer.weight", "embedding_layer.vision_encoder"))
    }
    load_published(small, weights, CONNECTOR, "pytorch_model.bin")
    ours = small.state_dict()
    for theirs, name in (
        ("fc.weight", "perceiver.fc.weight"),
        ("perceiver.layers.5.1.1.weight", "perceiver.layers.5.feed_forward.rise.weight"),
        ("perceiver.layers.5.0.norm_media.bias", "perceiver.layers.5.norm_media.bias"),
        ("mask_fc.bias", "mask_fc.bias"),
        ("mask_encoder.pos_embedding.row_embed.weight", "mask_encoder.positions.rows.weight"),
        ("mask_encoder.pos_embedding.col_embed.weight", "mask_encoder.positions.columns.weight"),
        ("mask_encoder.to_patch_embedding.3.weight", "mask_encoder.patch_embedding.2.weight"),
        ("mask_encoder.transformer.layers.2.0.norm.weight", "mask_encoder.blocks.2.attention.norm.weight"),
        ("mask_encoder.transformer.layers.2.1.fn.net.3.bias", "mask_encoder.blocks.2.feed_forward.fall.bias"),
    ):
        assert torch.equal(ours[name], weights[f"embedding_layer.{theirs}"]), name


def language_model(dtype: torch.dtype = torch.float32) -> tuple[dict[str, Tensor], LlamaForCausalLM]:
    """A small language model as Reg2RG's file holds it, and as peft merges it."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    adapted = get_peft_model(
        LlamaForCausalLM(config).to(dtype), LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=32, lora_dropout=0.1)
    )
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    weights = {f"lang_model.{name}": value.clone() for name, value in adapted.state_dict().items()}
    weights["embedding_layer.weight"] = weights["lang_model.base_model.model.model.embed_tokens.weight"].clone()
    weights["lang_model.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    weights["embedding_layer.fc.bias"] = torch.ones(4)
    return weights, adapted.merge_and_unload()


def test_merging_equals_pefts() -> None:
    weights, merged = language_model()
    plain = LlamaForCausalLM(merged.config)
    result = plain.load_state_dict(language_model_weights(weights), strict=True)
    assert not result.missing_keys and not result.unexpected_keys
    for name, value in merged.state_dict().items():
        assert torch.allclose(plain.state_dict()[name], value, atol=1e-6), name
    ids = torch.arange(7)[None]
    with torch.no_grad():
        assert torch.allclose(plain(ids).logits, merged(ids).logits, atol=1e-5)
    changed = "model.layers.0.self_attn.v_proj.weight"
    base = weights["lang_model.base_model.model.model.layers.0.self_attn.v_proj.base_layer.weight"]
    assert not torch.allclose(plain.state_dict()[changed], base, atol=1e-3)


def test_half_precision_is_kept() -> None:
    weights, merged = language_model(torch.float16)
    ours = language_model_weights(weights)
    for name, value in merged.state_dict().items():
        assert ours[name].dtype == torch.float16 and torch.allclose(ours[name], value, atol=1e-3), name


def test_the_word_embedding_may_stand_once() -> None:
    weights, _ = language_model()
    embedding = weights.pop("lang_model.base_model.model.model.embed_tokens.weight")
    assert torch.equal(language_model_weights(weights)["model.embed_tokens.weight"], embedding)


def without_up(weights: dict[str, Tensor]) -> None:
    del weights[f"{QUERY}.lora_B.default.weight"]


def without_layer(weights: dict[str, Tensor]) -> None:
    del weights[f"{QUERY}.base_layer.weight"]


def too_narrow(weights: dict[str, Tensor]) -> None:
    weights[f"{QUERY}.lora_A.default.weight"] = torch.zeros(8, 15)


def other_rank(weights: dict[str, Tensor]) -> None:
    weights[f"{QUERY}.lora_A.default.weight"] = torch.zeros(4, 16)


def empty_rank(weights: dict[str, Tensor]) -> None:
    weights[f"{QUERY}.lora_A.default.weight"] = torch.zeros(0, 16)
    weights[f"{QUERY}.lora_B.default.weight"] = torch.zeros(16, 0)


def other_embedding(weights: dict[str, Tensor]) -> None:
    weights["embedding_layer.weight"] += 1


def other_adapter(weights: dict[str, Tensor]) -> None:
    weights[f"{QUERY}.lora_magnitude_vector.default.weight"] = torch.zeros(16)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_up, r"layers\.1\.self_attn\.q_proj\.weight is not whole"),
        (without_layer, r"layers\.1\.self_attn\.q_proj\.weight is not whole"),
        (too_narrow, r"\[8, 15\] and \[16, 8\], which do not fit a layer of \[16, 16\]"),
        (other_rank, "do not fit"),
        (empty_rank, "do not fit"),
        (other_embedding, "embedding_layer.weight differs"),
        (other_adapter, "1 weights that LLaMA has not, such as .*lora_magnitude_vector"),
    ],
)
def test_a_damaged_language_model_is_refused(damage: Callable[[dict[str, Tensor]], None], reason: str) -> None:
    weights, _ = language_model()
    damage(weights)
    with pytest.raises(PublishedWeightsError, match=reason):
        language_model_weights(weights)
