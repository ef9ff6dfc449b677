"""RadFM's vision transformer: its file under our names gives the features of the published computation."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rlaif.models.encoders.radfm import RadFMViT
from rlaif.models.encoders.settings import RadFMSettings
from rlaif.models.published.radfm import ENCODER
from rlaif.models.published.weight_table import PublishedWeightsError, load_published

# 2 x 3 x 4 patches on tables of 4, 6 and 9 entries for depth, rows and columns.
SETTINGS = RadFMSettings(
    volume=(8, 6, 4),
    patch=(4, 2, 1),
    hidden=12,
    layers=2,
    heads=2,
    head_size=4,
    intermediate=10,
    position_tables=(4, 6, 9),
)


def published_shapes(settings: RadFMSettings) -> dict[str, tuple[int, ...]]:
    """Names and shapes of RadFM_vit3d.pth (src/Model/RadFM/vit_3d.py)."""
    hidden, inner = settings.hidden, settings.heads * settings.head_size
    patch = 3 * settings.patch[0] * settings.patch[1] * settings.patch[2]
    shapes: dict[str, tuple[int, ...]] = {"to_patch_embedding.2.weight": (hidden, patch)}
    for name, width in (("1.weight", patch), ("1.bias", patch), ("2.bias", hidden)):
        shapes[f"to_patch_embedding.{name}"] = (width,)
    shapes["to_patch_embedding.3.weight"] = shapes["to_patch_embedding.3.bias"] = (hidden,)
    depths, rows, columns = settings.position_tables
    for name, entries in (("row", rows), ("col", columns), ("dep", depths)):
        shapes[f"pos_embedding.{name}_embed.weight"] = (entries, hidden // 3)
    for layer in (f"transformer.layers.{number}" for number in range(settings.layers)):
        shapes |= {f"{layer}.{part}.norm.{kind}": (hidden,) for part in (0, 1) for kind in ("weight", "bias")}
        shapes |= {f"{layer}.0.fn.to_qkv.weight": (3 * inner, hidden), f"{layer}.0.fn.to_out.0.bias": (hidden,)}
        shapes |= {f"{layer}.0.fn.to_out.0.weight": (hidden, inner), f"{layer}.1.fn.net.3.bias": (hidden,)}
        shapes |= {f"{layer}.1.fn.net.0.weight": (settings.intermediate, hidden)}
        shapes |= {f"{layer}.1.fn.net.0.bias": (settings.intermediate,)}
        shapes |= {f"{layer}.1.fn.net.3.weight": (hidden, settings.intermediate)}
    return shapes


def published() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(shape) * 0.4 for name, shape in published_shapes(SETTINGS).items()}


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def published_features(weights: dict[str, Tensor], image: Tensor) -> Tensor:
    """Of one `[3, height, width, depth]`, `[height, width, depth, hidden]` in patches, by the published names."""
    rows, columns, depths = 3, 4, 2
    x = torch.stack(
        [
            image[:, 2 * h : 2 * h + 2, w : w + 1, 4 * f : 4 * f + 4].permute(1, 2, 3, 0).flatten()
            for h in range(rows)
            for w in range(columns)
            for f in range(depths)
        ]
    )
    x = norm(
        linear(norm(x, weights, "to_patch_embedding.1"), weights, "to_patch_embedding.2"),
        weights,
        "to_patch_embedding.3",
    )
    row, column, depth = (weights[f"pos_embedding.{name}_embed.weight"] for name in ("row", "col", "dep"))
    # A grid of 3, 4 and 2 takes every second of 6, 9 and 4 entries.
    places = [(2 * h + 1, 2 * w + 1, 2 * f + 1) for h in range(rows) for w in range(columns) for f in range(depths)]
    x = x + torch.stack([torch.cat((row[i], column[j], depth[k])) for i, j, k in places])
    for layer in (f"transformer.layers.{number}" for number in range(SETTINGS.layers)):
        queries, keys, values = linear(norm(x, weights, f"{layer}.0.norm"), weights, f"{layer}.0.fn.to_qkv").chunk(3, 1)
        heads = [
            (queries[:, part] @ keys[:, part].T / 2).softmax(dim=1) @ values[:, part]
            for part in (slice(0, 4), slice(4, 8))
        ]
        x = x + linear(torch.cat(heads, dim=1), weights, f"{layer}.0.fn.to_out.0")
        risen = functional.gelu(linear(norm(x, weights, f"{layer}.1.norm"), weights, f"{layer}.1.fn.net.0"))
        x = x + linear(risen, weights, f"{layer}.1.fn.net.3")
    return x.view(rows, columns, depths, -1)


def test_published_weights_give_the_published_features() -> None:
    weights, ours = published(), RadFMViT(SETTINGS).eval()
    load_published(ours, weights, ENCODER, "RadFM_vit3d.pth")
    volume = torch.randn(1, 1, *SETTINGS.volume)
    with torch.inference_mode():
        features = ours(volume)[0]
    expected = published_features(weights, volume[0].permute(0, 2, 3, 1).expand(3, -1, -1, -1))
    assert torch.allclose(features, expected.permute(2, 0, 1, 3).flatten(0, 2), atol=1e-5)


def test_the_whole_models_file_holds_the_same_encoder() -> None:
    """Names of src/Model/RadFM/{multimodality_model,my_embedding_layer}.py, one for each of its parts."""
    others = (
        "lang_model.model.layers.0.self_attn.q_proj.weight",
        "embedding_layer.weight",
        "embedding_layer.figure_token_weight",
        "embedding_layer.bert_model.embeddings.word_embeddings.weight",
        "embedding_layer.bert_projection_fc.bias",
        "embedding_layer.perceiver.latents",
        "embedding_layer.fc.weight",
        "embedding_layer.output_upscaling.1.running_mean",
        "embedding_layer.transformer_decoder.layers.3.multihead_attn.in_proj_weight",
        "embedding_layer.transformer_decoder_mlp.2.weight",
        "embedding_layer.cls_head.weight",
    )
    whole = {f"embedding_layer.vision_encoder.{name}": value for name, value in published().items()}
    whole |= {name: torch.ones(1) for name in others}
    alone, within = RadFMViT(SETTINGS), RadFMViT(SETTINGS)
    load_published(alone, published(), ENCODER, "RadFM_vit3d.pth")
    load_published(within, whole, ENCODER, "pytorch_model.bin")
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in within.state_dict().items())
    # Both in one file would be two encoders.
    with pytest.raises(PublishedWeightsError, match="twice: "):
        load_published(RadFMViT(SETTINGS), whole | published(), ENCODER, "pytorch_model.bin")
    with pytest.raises(PublishedWeightsError, match=r"1 unknown: embedding_layer\.mask_fc\.weight"):
        load_published(
            RadFMViT(SETTINGS), whole | {"embedding_layer.mask_fc.weight": torch.ones(1)}, ENCODER, "pytorch_model.bin"
        )


def test_paper_size() -> None:
    settings = RadFMSettings(volume=(64, 256, 256), patch=(4, 32, 32))
    shapes = published_shapes(settings)
    assert shapes["to_patch_embedding.2.weight"] == (768, 12288)
    assert shapes["pos_embedding.dep_embed.weight"] == (128, 256)
    with torch.device("meta"):
        weights, ours = {name: torch.empty(shape) for name, shape in shapes.items()}, RadFMViT(settings)
    load_published(ours, weights, ENCODER, "RadFM_vit3d.pth")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 3}, r"11 missing: blocks\.2\."),
        (
            {"position_tables": (6, 4, 9)},
            r"2 of another shape: positions\.rows\.weight \[6, 4\] numbers, here \[4, 4\]",
        ),
        ({"heads": 3}, r"4 of another shape: blocks\.0\.attention\.to_qkv\.weight \[24, 12\] numbers, here \[36, 12\]"),
    ],
)
def test_an_encoder_of_another_size_is_refused(change: dict[str, object], said: str) -> None:
    settings = RadFMSettings.model_validate(SETTINGS.model_dump() | change)
    with pytest.raises(PublishedWeightsError, match=said):
        load_published(RadFMViT(settings), published(), ENCODER, "RadFM_vit3d.pth")


def test_reg2rgs_mask_encoder_is_not_taken_for_it() -> None:
    weights = {f"embedding_layer.mask_encoder.{name}": value for name, value in published().items()}
    with pytest.raises(PublishedWeightsError, match=r"missing: .*unknown: embedding_layer\.mask_encoder\."):
        load_published(RadFMViT(SETTINGS), weights, ENCODER, "pytorch_model.bin")
