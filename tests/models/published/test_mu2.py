"""mu2LLM's published weights: all names find their place, and give what the published computation gives."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rlaif.models.connectors.mu2 import Mu2Tokenizer
from rlaif.models.connectors.settings import Mu2Settings
from rlaif.models.encoders.settings import ViTSettings
from rlaif.models.encoders.vit3d import ViT3D
from rlaif.models.published import m3d, mu2
from rlaif.models.published.weight_table import PublishedWeightsError, load_published

ENCODER = ViTSettings(volume=(12, 8, 8), patch=(4, 4, 4), frames=3, hidden=6, layers=2, heads=2, intermediate=10)
SETTINGS = Mu2Settings(queries=5, selected=6, layers=2, heads=2, positions=7)
HIDDEN = 8
TOKENIZER = "model.u2tokenizer"


def connector_shapes(features: int, hidden: int, settings: Mu2Settings) -> dict[str, tuple[int, ...]]:
    """The published names and shapes of projector and tokenizer."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def attention(name: str, *, relative: bool = False) -> None:
        for part in ("wq", "wk", "wv", "dense"):
            linear(f"{name}.{part}", hidden, hidden)
        if relative:
            shapes[f"{name}.relative_bias"] = (2 * settings.positions - 1, settings.heads)

    linear("model.mm_projector.projector.0", hidden, features)
    linear("model.mm_projector.projector.2", hidden, hidden)
    shapes[f"{TOKENIZER}.query_tokens"] = (1, settings.queries, hidden)
    for layer in range(settings.layers):
        for kind in ("spatial", "temporal"):
            name = f"{TOKENIZER}.svt_module.attention_network.layers.{layer}.{kind}_attention"
            attention(name, relative=True)
        name = f"{TOKENIZER}.tta_module.layers_vt.{layer}"
        attention(f"{name}.self_attention", relative=True)
        attention(f"{name}.visual_cross_attention")
        attention(f"{name}.text_cross_attention")
        for norm in ("norm_self", "norm_cross_v", "norm_cross_t"):
            shapes[f"{name}.{norm}.weight"] = shapes[f"{name}.{norm}.bias"] = (hidden,)
    linear(f"{TOKENIZER}.svt_module.token_selection.score_net", settings.selected, hidden)
    linear(f"{TOKENIZER}.svt_module.dynamic_pool.gate_fc", 1, hidden)
    attention(f"{TOKENIZER}.tta_module.layer_linagg.linear_aggregator")
    return shapes


def encoder_shapes(settings: ViTSettings) -> dict[str, tuple[int, ...]]:
    """The names and shapes of M3D's ViT, without a prefix."""
    hidden, inner = settings.hidden, settings.intermediate
    voxels = settings.patch[0] * settings.patch[1] * settings.patch[2]
    patches = settings.grid[0] * settings.grid[1] * settings.grid[2]
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, hidden),
        "patch_embedding.position_embeddings": (1, patches, hidden),
        "patch_embedding.patch_embeddings.1.weight": (hidden, voxels),
        "patch_embedding.patch_embeddings.1.bias": (hidden,),
        "norm.weight": (hidden,),
        "norm.bias": (hidden,),
    }
    for block in (f"blocks.{layer}" for layer in range(settings.layers)):
        for norm in ("norm1", "norm2"):
            shapes[f"{block}.{norm}.weight"] = shapes[f"{block}.{norm}.bias"] = (hidden,)
        shapes[f"{block}.mlp.linear1.weight"], shapes[f"{block}.mlp.linear1.bias"] = (inner, hidden), (inner,)
        shapes[f"{block}.mlp.linear2.weight"], shapes[f"{block}.mlp.linear2.bias"] = (hidden, inner), (hidden,)
        shapes[f"{block}.attn.qkv.weight"] = (3 * hidden, hidden)
        shapes[f"{block}.attn.out_proj.weight"], shapes[f"{block}.attn.out_proj.bias"] = (hidden, hidden), (hidden,)
    return shapes


LANGUAGE_MODEL = {
    "model.embed_tokens.weight": (11, HIDDEN),
    "model.layers.0.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
    "model.norm.weight": (HIDDEN,),
    "lm_head.weight": (11, HIDDEN),
}


def published() -> dict[str, Tensor]:
    """A whole small checkpoint."""
    torch.manual_seed(0)
    tower = {f"model.vision_tower.vision_tower.{name}": shape for name, shape in encoder_shapes(ENCODER).items()}
    shapes = LANGUAGE_MODEL | tower | connector_shapes(ENCODER.hidden, HIDDEN, SETTINGS)
    return {name: torch.randn(shape) * 0.4 for name, shape in shapes.items()}


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def attention(queries: Tensor, others: Tensor, weights: dict[str, Tensor], name: str, compress: bool = False) -> Tensor:
    """Attention of `[queries, hidden]` to `[others, hidden]` as published, with all its biases."""
    query, key = linear(queries, weights, f"{name}.wq"), linear(others, weights, f"{name}.wk")
    value = others if compress else linear(others, weights, f"{name}.wv")
    table = weights.get(f"{name}.relative_bias")
    heads = []
    for head, part in enumerate(torch.arange(HIDDEN).chunk(SETTINGS.heads)):
        logits = query[:, part] @ key[:, part].T / len(part) ** 0.5
        if table is not None:
            length = len(queries)
            logits = logits + torch.stack([table[6 - i : 6 - i + length, head] for i in range(length)])
        heads.append(logits.softmax(dim=1) @ value[:, part])
    mixed = torch.cat(heads, dim=1)
    return mixed if compress else linear(mixed, weights, f"{name}.dense")


def norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return functional.layer_norm(x, (HIDDEN,), weights[f"{name}.weight"], weights[f"{name}.bias"])


def published_tokens(weights: dict[str, Tensor], features: Tensor, words: Tensor) -> Tensor:
    """One study's visual tokens from features `[frames, tokens, features]`, by the published names and computation."""
    x = functional.gelu(linear(features, weights, "model.mm_projector.projector.0"))
    x = linear(x, weights, "model.mm_projector.projector.2")
    refining, aggregating = f"{TOKENIZER}.svt_module", f"{TOKENIZER}.tta_module"
    for layer in (f"{refining}.attention_network.layers.{number}" for number in range(SETTINGS.layers)):
        x = torch.stack([attention(one, one, weights, f"{layer}.spatial_attention") for one in x])
        x = torch.stack([attention(one, one, weights, f"{layer}.temporal_attention") for one in x.unbind(1)], dim=1)
    flat = x.flatten(0, 1)
    shares = linear(flat, weights, f"{refining}.token_selection.score_net").softmax(dim=0)
    soft = torch.stack([(share[:, None] * flat).sum(dim=0) for share in shares.T])
    scales = [functional.avg_pool1d(soft.T, scale, scale).T for scale in (1, 2, 4)]
    gates = torch.cat([linear(scale.mean(dim=0), weights, f"{refining}.dynamic_pool.gate_fc") for scale in scales])
    visual = torch.cat([gate * scale for gate, scale in zip(gates.softmax(dim=0), scales, strict=True)])
    queries = weights[f"{TOKENIZER}.query_tokens"][0]
    for layer in (f"{aggregating}.layers_vt.{number}" for number in range(SETTINGS.layers)):
        looked = attention(queries, queries, weights, f"{layer}.self_attention")
        queries = norm(queries + looked, weights, f"{layer}.norm_self")
        looked = attention(queries, visual, weights, f"{layer}.visual_cross_attention")
        queries = norm(queries + looked, weights, f"{layer}.norm_cross_v")
        looked = attention(queries, words, weights, f"{layer}.text_cross_attention")
        queries = norm(queries + looked, weights, f"{layer}.norm_cross_t")
    return attention(queries, visual, weights, f"{aggregating}.layer_linagg.linear_aggregator", compress=True)


def test_published_weights_give_the_published_visual_tokens() -> None:
    weights = published()
    connector = Mu2Tokenizer(SETTINGS, ENCODER, HIDDEN)
    load_published(connector, weights, mu2.CONNECTOR, "mu2")
    features, question = torch.randn(2, 12, 6), torch.randn(2, 4, HIDDEN)
    with torch.no_grad():
        tokens = connector(features, question, torch.ones(2, 4, dtype=torch.bool))
        for study in range(2):
            expected = published_tokens(weights, features[study].view(3, 4, 6), question[study])
            assert torch.allclose(tokens[study], expected, atol=1e-5)


def test_the_encoder_is_m3ds_under_another_name() -> None:
    weights = published()
    tower = "model.vision_tower.vision_tower."
    ours, m3ds = ViT3D(ENCODER), ViT3D(ENCODER)
    load_published(ours, weights, mu2.ENCODER, "mu2")
    plain = {name.removeprefix(tower): value for name, value in weights.items() if name.startswith(tower)}
    load_published(m3ds, plain, m3d.ENCODER, "m3d")
    assert all(torch.equal(value, m3ds.state_dict()[name]) for name, value in ours.state_dict().items())
    assert any(torch.equal(value, plain["norm.weight"]) for value in ours.state_dict().values())


def test_paper_size() -> None:
    """Llama 3.2 1B's 2,048 channels, M3D's 768, eight frames of 256 tokens."""
    encoder = ViTSettings(volume=(256, 256, 256), patch=(4, 16, 16), frames=8, pool=2)
    shapes = connector_shapes(768, 2048, Mu2Settings())
    with torch.device("meta"):
        connector, tower = Mu2Tokenizer(Mu2Settings(), encoder, 2048), ViT3D(encoder)
        weights = {name: torch.empty(shape) for name, shape in shapes.items()}
        weights |= {f"model.vision_tower.vision_tower.{n}": torch.empty(s) for n, s in encoder_shapes(encoder).items()}
    assert weights["model.vision_tower.vision_tower.patch_embedding.position_embeddings"].shape == (1, 2048, 768)
    load_published(connector, weights, mu2.CONNECTOR, "mu2")
    load_published(tower, weights, mu2.ENCODER, "mu2")
    # Published are also the biases of 4 x 5 + 1 keys, of the scores and of the gate, and the last values and output.
    unused = 21 * 2048 + 1024 + 1 + 2 * (2048**2 + 2048)
    published_size = sum(weights[name].numel() for name in shapes)
    assert sum(parameter.numel() for parameter in connector.parameters()) == published_size - unused


@pytest.mark.parametrize(
    ("switch", "said"),
    [
        ({"relative_positions": False}, "6 unknown: "),
        ({"differentiable_selection": False}, "1 missing: selection.score; 1 unknown: "),
        ({"dynamic_pooling": False}, "1 unknown: model.u2tokenizer.svt_module.dynamic_pool.gate_fc.weight"),
        ({"text_condition": False}, "18 unknown: "),
        ({"residual": True}, "8 missing: refiner.0.norm_spatial.weight"),
        ({"queries": 4}, r"1 of another shape: query_tokens \[1, 5, 8\] numbers, here \[1, 4, 8\] numbers"),
    ],
)
def test_a_tokenizer_with_other_parts_is_refused(switch: dict[str, int], said: str) -> None:
    connector = Mu2Tokenizer(SETTINGS.model_copy(update=switch), ENCODER, HIDDEN)
    before = {name: value.clone() for name, value in connector.state_dict().items()}
    with pytest.raises(PublishedWeightsError, match=said):
        load_published(connector, published(), mu2.CONNECTOR, "mu2")
    assert all(torch.equal(value, before[name]) for name, value in connector.state_dict().items())


def test_what_belongs_nowhere_and_what_is_missing_is_told() -> None:
    weights = published() | {
        f"{TOKENIZER}.svt_module.attention_network.layers.0.spatial_attention.in_proj_weight": torch.ones(1)
    }
    del weights["model.mm_projector.projector.2.bias"]
    with pytest.raises(PublishedWeightsError) as caught:
        load_published(Mu2Tokenizer(SETTINGS, ENCODER, HIDDEN), weights, mu2.CONNECTOR, "mu2.bin")
    assert "mu2.bin does not fit Mu2Tokenizer" in str(caught.value)
    assert "1 missing: projector.2.bias" in str(caught.value)
    assert "spatial_attention.in_proj_weight" in str(caught.value)
