"""Every table of weights by the name that a configuration gives it: each file fills its part, all else is told."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rlaif.models.connectors.settings import (
    ConnectorSettings,
    MaskEncoderSettings,
    MlpSettings,
    Mu2Settings,
    PerceiverSettings,
    RegionSettings,
)
from rlaif.models.encoders.build import new_encoder
from rlaif.models.encoders.settings import CTViTSettings, EncoderSettings, RadFMSettings, ViTSettings
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.published.tables import load_connector, load_encoder, load_language_model
from rlaif.models.published.weight_table import PublishedWeightsError
from rlaif.models.settings import LanguageModelSettings, PolicyError, PolicySettings, TableName

CTVIT = CTViTSettings(
    volume=(4, 8, 8), patch=(2, 2, 2), hidden=8, spatial_depth=1, slice_depth=1, heads=2, head_size=4, pool=1
).model_copy(update={"released": True})
VIT = ViTSettings(volume=(8, 12, 16), patch=(2, 2, 4), hidden=12, layers=2, heads=3, intermediate=20)
MU2 = ViTSettings(volume=(4, 8, 8), patch=(2, 4, 4), frames=2, hidden=6, layers=1, heads=2, intermediate=8)
RADFM = RadFMSettings(
    volume=(4, 8, 8),
    patch=(2, 4, 4),
    hidden=6,
    layers=1,
    heads=2,
    head_size=4,
    intermediate=8,
    position_tables=(4, 4, 4),
)
PERCEIVER = PerceiverSettings(latents=3, layers=1, heads=2, head_size=4)
REGIONS = RegionSettings(
    perceiver=PERCEIVER,
    mask=MaskEncoderSettings(
        volume=(4, 8, 8), patch=(2, 4, 4), hidden=6, layers=1, heads=2, head_size=4, intermediate=8
    ),
)
MU2_TOKENIZER = Mu2Settings(queries=3, selected=4, layers=1, heads=2, positions=8)
HIDDEN = 16

# From our names to the published ones: pattern and replacement, one after the other.
_Names = tuple[tuple[str, str], ...]
VISION_TRANSFORMER: _Names = (
    (r"^patch_embedding\.", "patch_embedding.patch_embeddings.1."),
    ("^positions", "patch_embedding.position_embeddings"),
    ("^class_token", "cls_token"),
    ("attention_norm", "norm1"),
    ("feed_forward_norm", "norm2"),
    (r"\.qkv\.", ".attn.qkv."),
    (r"\.out\.", ".attn.out_proj."),
    (r"\.rise\.", ".mlp.linear1."),
    (r"\.fall\.", ".mlp.linear2."),
)
RADFMS: _Names = (
    (r"^patch_embedding\.0", "to_patch_embedding.1"),
    (r"^patch_embedding\.1", "to_patch_embedding.2"),
    (r"^patch_embedding\.2", "to_patch_embedding.3"),
    (r"positions\.(row|col|dep)\w+", r"pos_embedding.\1_embed"),
    (r"^blocks\.(\d+)", r"transformer.layers.\1"),
    (r"attention\.norm", "0.norm"),
    (r"attention\.to_qkv", "0.fn.to_qkv"),
    (r"attention\.to_out", "0.fn.to_out.0"),
    (r"feed_forward\.norm", "1.norm"),
    (r"feed_forward\.rise", "1.fn.net.0"),
    (r"feed_forward\.fall", "1.fn.net.3"),
)
PERCEIVERS: _Names = (
    ("^(?!fc)", "perceiver."),
    (r"(layers\.\d+)\.(norm_|to_)", r"\1.0.\2"),
    (r"feed_forward\.norm", "1.0"),
    (r"feed_forward\.rise", "1.1"),
    (r"feed_forward\.fall", "1.3"),
)
CT_CLIPS: _Names = (
    (r"^patch_embedding\.2", "to_patch_emb.3"),
    (r"^patch_embedding\.1", "to_patch_emb.2"),
    (r"^patch_embedding\.0", "to_patch_emb.1"),
    (r"^spatial_bias\.net\.0", "spatial_rel_pos_bias.net.0.0"),
    (r"^spatial_bias\.net\.2", "spatial_rel_pos_bias.net.1.0"),
    (r"^spatial_bias\.out", "spatial_rel_pos_bias.net.2"),
    (r"^spatial\.(\d)", r"enc_spatial_transformer.layers.\1"),
    (r"^slices\.(\d)", r"enc_temporal_transformer.layers.\1"),
    ("^spatial_norm", "enc_spatial_transformer.norm_out"),
    ("^slice_norm", "enc_temporal_transformer.norm_out"),
    ("position", "0.dsconv"),
    (r"attention\.norm", "1.norm"),
    (r"attention\.to_queries", "1.to_q"),
    (r"attention\.to_keys_values", "1.to_kv"),
    (r"attention\.to_out", "1.to_out"),
    (r"attention\.query_scale", "1.q_scale"),
    (r"attention\.key_scale", "1.k_scale"),
    (r"feed_forward\.norm", "3.0"),
    (r"feed_forward\.rise", "3.1"),
    (r"feed_forward\.fall", "3.4"),
    (r"(1\.norm|norm_out)\.weight", r"\1.gamma"),
    (r"(1\.norm|norm_out)\.bias", r"\1.beta"),
)
MU2S: _Names = (
    (r"^projector\.", "model.mm_projector.projector."),
    ("^(?!model)", "model.u2tokenizer."),
    (r"refiner\.", "svt_module.attention_network.layers."),
    (r"selection\.score_net", "svt_module.token_selection.score_net"),
    (r"pooling\.gate", "svt_module.dynamic_pool.gate_fc"),
    (r"aggregation\.layers", "tta_module.layers_vt"),
    (r"aggregation\.linear", "tta_module.layer_linagg.linear_aggregator"),
    (r"layers_vt\.(\d+)\.(visual|text)_attention", r"layers_vt.\1.\2_cross_attention"),
    ("norm_visual", "norm_cross_v"),
    ("norm_text", "norm_cross_t"),
)
TOWER = "model.vision_tower.vision_tower."


def named(weights: dict[str, Tensor], names: _Names, prefix: str = "") -> dict[str, Tensor]:
    renamed = {}
    for ours, value in weights.items():
        theirs = ours
        for pattern, replacement in names:
            theirs = re.sub(pattern, replacement, theirs)
        renamed[prefix + theirs] = value
    return renamed


def file(folder: Path, weights: dict[str, Tensor]) -> Path:
    save_file({name: value.contiguous().clone() for name, value in weights.items()}, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def drawn(module: nn.Module) -> dict[str, Tensor]:
    """Other weights for a module, by our names."""
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(one.shape, generator=generator) for name, one in module.state_dict().items()}


def same(module: nn.Module, weights: dict[str, Tensor], but: Iterable[str] = ()) -> bool:
    ours = module.state_dict()
    return ours.keys() == weights.keys() and all(torch.equal(ours[n], weights[n]) for n in ours.keys() - set(but))


def policy(encoder: EncoderSettings | None, connector: ConnectorSettings | None, *, tied: bool = False) -> Policy:
    recipe = None if encoder is None else "phantom"
    settings = PolicySettings(name="test", size="tiny", recipe=recipe, encoder=encoder, connector=connector)
    language = LanguageModelSettings(
        hidden=HIDDEN, layers=1, heads=2, intermediate=24, vocabulary=300, positions=128, tied=tied
    )
    return new_policy(settings, language, ["Clear lungs."], seed=0)


ENCODERS: dict[str, tuple[EncoderSettings, _Names, str]] = {
    "ct_clip": (CTVIT, CT_CLIPS, "visual_transformer."),
    "ct_clip_encoder": (CTVIT, CT_CLIPS, ""),
    "m3d_vit": (VIT, VISION_TRANSFORMER, ""),
    "m3d_clip": (VIT, VISION_TRANSFORMER, "vision_encoder."),
    "m3d_lamed": (VIT, VISION_TRANSFORMER, TOWER),
    "mu2": (MU2, VISION_TRANSFORMER, TOWER),
    "radfm": (RADFM, RADFMS, ""),
    "reg2rg": (RADFM, RADFMS, "embedding_layer.vision_encoder."),
}
CONNECTORS: dict[str, tuple[EncoderSettings, ConnectorSettings, _Names, str]] = {
    "m3d_lamed": (VIT, MlpSettings(), (), "model.mm_projector.projector."),
    "radfm_perceiver": (RADFM, PERCEIVER, PERCEIVERS, ""),
    "mu2": (MU2, MU2_TOKENIZER, MU2S, ""),
}


def test_every_table_has_its_tests() -> None:
    # Policy folders have theirs beside this one.
    assert set(get_args(TableName)) == ENCODERS.keys() | CONNECTORS.keys() | {"rlaif"}


@pytest.mark.parametrize("table", ENCODERS)
def test_an_encoders_file_comes_in_by_its_tables_name(table: TableName, tmp_path: Path) -> None:
    settings, names, prefix = ENCODERS[table]
    weights = drawn(new_encoder(settings))
    loaded = load_encoder(settings, file(tmp_path, named(weights, names, prefix)), table)
    assert same(loaded, weights)


@pytest.mark.parametrize("table", CONNECTORS)
def test_a_connectors_file_comes_in_by_its_tables_name(table: TableName, tmp_path: Path) -> None:
    encoder, connector, names, prefix = CONNECTORS[table]
    one = policy(encoder, connector)
    assert one.connector is not None
    weights = drawn(one.connector)
    load_connector(one, file(tmp_path, named(weights, names, prefix)), table)
    assert same(one.connector, weights)


def test_radfms_layer_to_another_language_model_is_not_ours(tmp_path: Path) -> None:
    one = policy(RADFM, PERCEIVER)
    assert one.connector is not None
    start = {name: value.clone() for name, value in one.connector.state_dict().items() if name.startswith("fc.")}
    weights = drawn(one.connector)
    wider = weights | {"fc.weight": torch.cat([weights["fc.weight"]] * 2), "fc.bias": weights["fc.bias"].repeat(2)}
    load_connector(one, file(tmp_path, named(wider, PERCEIVERS)), "radfm_perceiver")
    assert same(one.connector, weights, but=start)
    assert all(torch.equal(one.connector.state_dict()[name], value) for name, value in start.items())


def test_radfms_perceiver_begins_reg2rgs(tmp_path: Path) -> None:
    one = policy(RADFM, REGIONS)
    assert one.connector is not None
    perceiver, mask = one.connector.get_submodule("perceiver"), one.connector.get_submodule("mask_encoder")
    weights, before = drawn(perceiver), {name: value.clone() for name, value in mask.state_dict().items()}
    load_connector(one, file(tmp_path, named(weights, PERCEIVERS)), "radfm_perceiver")
    assert same(perceiver, weights, but=("fc.weight", "fc.bias")) and same(mask, before)


def reg2rg_file(one: Policy, folder: Path) -> tuple[Path, dict[str, dict[str, Tensor]]]:
    """Reg2RG's one file for a policy, and what each of its parts should hold of it."""
    assert one.connector is not None
    parts = {"encoder": drawn(new_encoder(RADFM)), "connector": drawn(one.connector)}
    parts["language_model"] = drawn(one.language_model)
    within = "embedding_layer."
    connector: dict[str, Tensor] = {}
    for ours, value in parts["connector"].items():
        part, _, rest = ours.partition(".")
        names, prefix = {
            "perceiver": (PERCEIVERS, within),
            "mask_encoder": (RADFMS, f"{within}mask_encoder."),
            "mask_fc": ((), f"{within}mask_fc."),
        }[part]
        connector |= named({rest: value}, names, prefix)
    language = {f"lang_model.base_model.model.{name}": value for name, value in parts["language_model"].items()}
    for layer in ("q_proj", "v_proj"):
        name = f"model.layers.0.self_attn.{layer}"
        published = f"lang_model.base_model.model.{name}"
        down, up = torch.randn(8, HIDDEN), torch.randn(HIDDEN, 8)
        language[f"{published}.base_layer.weight"] = language.pop(f"{published}.weight")
        language |= {f"{published}.lora_A.default.weight": down, f"{published}.lora_B.default.weight": up}
        parts["language_model"][f"{name}.weight"] = parts["language_model"][f"{name}.weight"] + 32 / 8 * up @ down
    others = {
        f"{within}weight": parts["language_model"]["model.embed_tokens.weight"],
        f"{within}image_token_weight": torch.ones(2, HIDDEN),
        f"{within}region_token_weight": torch.ones(2, HIDDEN),
    }
    encoder = named(parts["encoder"], RADFMS, f"{within}vision_encoder.")
    return file(folder, encoder | connector | language | others), parts


def test_reg2rgs_one_file_fills_all_three_parts(tmp_path: Path) -> None:
    one = policy(RADFM, REGIONS)
    path, parts = reg2rg_file(one, tmp_path)
    assert same(load_encoder(RADFM, path, "reg2rg"), parts["encoder"])
    load_connector(one, path, "reg2rg")
    load_language_model(one, path, "reg2rg")
    assert one.connector is not None and same(one.connector, parts["connector"])
    for name, value in one.language_model.state_dict().items():
        assert torch.allclose(value, parts["language_model"][name], atol=1e-5), name


@pytest.mark.parametrize("table", ["m3d_lamed", "mu2"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_tuned_language_model_comes_in_without_placeholders(table: TableName, tied: bool, tmp_path: Path) -> None:
    one = policy(None, None, tied=tied)
    weights = drawn(one.language_model)
    words, head = "model.embed_tokens.weight", "lm_head.weight"
    if tied:
        weights[head] = weights[words]
    longer = {name: torch.cat((weights[name], torch.full((4, HIDDEN), 9.0))) for name in (words, head)}
    others = {
        f"{TOWER}cls_token": torch.ones(1, 1, 4),
        "model.mm_projector.projector.0.bias": torch.ones(4),
        "model.u2tokenizer.query_tokens": torch.ones(1, 3, 4),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
    }
    published = weights | longer | others
    if tied:
        # Where input and output embeddings are one, the file holds it once.
        del published[head]
    load_language_model(one, file(tmp_path, published), table)
    assert same(one.language_model, weights)


def test_two_embeddings_for_a_language_model_of_one_are_refused(tmp_path: Path) -> None:
    one = policy(None, None, tied=True)
    with pytest.raises(PublishedWeightsError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
        load_language_model(one, file(tmp_path, drawn(one.language_model)), "mu2")


@pytest.mark.parametrize("change", ["missing", "wider", "smaller vocabulary"])
def test_another_language_model_is_refused(change: str, tmp_path: Path) -> None:
    one = policy(None, None)
    weights, name = drawn(one.language_model), "model.layers.0.self_attn.k_proj.weight"
    if change == "missing":
        del weights[name]
    elif change == "wider":
        weights[name] = torch.ones(HIDDEN + 1, HIDDEN)
    else:
        name = "model.embed_tokens.weight"
        weights[name] = weights[name][:-1]
    with pytest.raises(PublishedWeightsError, match=rf"weights\.safetensors does not fit .*{re.escape(name)}"):
        load_language_model(one, file(tmp_path, weights), "m3d_lamed")


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (lambda path: load_encoder(VIT, path, "ct_clip"), "ct_clip has no encoder of this kind: known are m3d_vit"),
        (lambda path: load_encoder(CTVIT, path, "m3d_vit"), "does not fit CTViT"),
        (lambda path: load_encoder(RADFM, path, "m3d_clip"), "does not fit RadFMViT"),
        (lambda path: load_encoder(VIT, path, "reg2rg"), "does not fit ViT3D"),
        (lambda path: load_encoder(RADFM, path, "radfm_perceiver"), "radfm_perceiver has no encoder"),
        (lambda path: load_connector(policy(VIT, MlpSettings()), path, "m3d_vit"), "m3d_vit has no connector"),
        (lambda path: load_connector(policy(VIT, MlpSettings()), path, "mu2"), "does not fit Mlp"),
        (lambda path: load_connector(policy(RADFM, PERCEIVER), path, "reg2rg"), "does not fit Perceiver"),
        (lambda path: load_connector(policy(None, None), path, "mu2"), "a text-only policy has no connector"),
        (lambda path: load_language_model(policy(None, None), path, "radfm"), "radfm has no language model"),
        (lambda path: load_language_model(policy(None, None), path, "rlaif"), r"name its language_model with policy\."),
        (lambda path: load_language_model(policy(None, None), path, "m3d_lamed"), "does not fit LlamaForCausalLM"),
        (lambda path: load_encoder(VIT, path / "nowhere.bin", "m3d_vit"), r"nowhere\.bin does not exist"),
    ],
)
def test_a_wrong_combination_is_told(load: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    path = file(tmp_path, {"model.layers.0.mlp.gate.weight": torch.ones(1)})
    with pytest.raises((PublishedWeightsError, PolicyError), match=said):
        load(path)
