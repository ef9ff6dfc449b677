"""M3D's weights: in our modules they give what MONAI's transformer and the published projector give."""

import pytest
import torch
from monai.networks.nets.vit import ViT
from torch import Tensor
from torch.nn import functional

from rlaif.models.connectors.mlp import Mlp
from rlaif.models.encoders.settings import ViTSettings
from rlaif.models.encoders.vit3d import ViT3D
from rlaif.models.published import m3d
from rlaif.models.published.weight_table import PublishedWeightsError, WeightTable, load_published

# A grid of 2 x 4 x 6 patches, each of other sides.
SETTINGS = ViTSettings(volume=(8, 12, 12), patch=(4, 3, 2), hidden=12, layers=2, heads=3, intermediate=20)
TOWER = "model.vision_tower.vision_tower."
PROJECTOR = "model.mm_projector.projector."


def monai(settings: ViTSettings = SETTINGS) -> ViT:
    """MONAI's transformer as M3D builds it, every weight of which matters."""
    torch.manual_seed(0)
    model = ViT(
        in_channels=1,
        img_size=settings.volume,
        patch_size=settings.patch,
        hidden_size=settings.hidden,
        mlp_dim=settings.intermediate,
        num_layers=settings.layers,
        num_heads=settings.heads,
        proj_type="perceptron",
        classification=settings.class_token,
        qkv_bias=settings.qkv_bias,
    ).eval()
    if settings.class_token:
        # M3D's copy of the class has none.
        del model.classification_head
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model


def named(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def projector(features: int = 12, hidden: int = 10) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"0.weight": (hidden, features), "0.bias": (hidden,), "2.weight": (hidden, hidden), "2.bias": (hidden,)}
    return {PROJECTOR + name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def clip() -> dict[str, Tensor]:
    others = ("language_encoder.embeddings.word_embeddings.weight", "mm_vision_proj.weight", "mm_language_proj.bias")
    weights = named(monai().state_dict(), "vision_encoder.") | {name: torch.ones(2) for name in others}
    return weights | {"logit_scale": torch.tensor(2.6)}


def lamed() -> dict[str, Tensor]:
    others = (
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.norm.weight",
        "lm_head.weight",
        "model.seg_module.image_encoder.pos_embed",
        "model.seg_projector.0.weight",
    )
    tower = named(monai().state_dict(), TOWER)
    return tower | projector() | {name: torch.ones(2) for name in others}


@pytest.mark.parametrize(
    "settings", [SETTINGS, SETTINGS.model_copy(update={"class_token": False, "qkv_bias": True, "hidden": 9})]
)
def test_features_are_monais(settings: ViTSettings) -> None:
    oracle, ours = monai(settings), ViT3D(settings).eval()
    load_published(ours, oracle.state_dict(), m3d.ENCODER, "pretrained_ViT.bin")
    volume = torch.rand(2, 1, *settings.volume)
    with torch.inference_mode():
        expected = oracle(volume)[0][:, 1 if settings.class_token else 0 :]
        assert torch.allclose(ours(volume), expected, atol=1e-5)


def test_the_publications_three_files_hold_one_encoder() -> None:
    alone = monai().state_dict()
    for table, weights in ((m3d.ENCODER, alone), (m3d.CLIP_ENCODER, clip()), (m3d.LAMED_ENCODER, lamed())):
        ours = ViT3D(SETTINGS)
        load_published(ours, weights, table, "file")
        for theirs, name in (
            ("cls_token", "class_token"),
            ("patch_embedding.position_embeddings", "positions"),
            ("patch_embedding.patch_embeddings.1.weight", "patch_embedding.weight"),
            ("blocks.1.norm2.bias", "blocks.1.feed_forward_norm.bias"),
            ("blocks.0.attn.qkv.weight", "blocks.0.qkv.weight"),
            ("blocks.1.mlp.linear2.weight", "blocks.1.fall.weight"),
            ("norm.weight", "norm.weight"),
        ):
            assert torch.equal(ours.state_dict()[name], alone[theirs]), name


def test_visual_tokens_are_the_published_projectors() -> None:
    """Spatial pooling by two along each axis, then two linear layers: here the encoder pools."""
    weights, oracle = lamed(), monai()
    encoder = ViT3D(SETTINGS.model_copy(update={"pool": 2})).eval()
    connector = Mlp(12, 10)
    load_published(encoder, weights, m3d.LAMED_ENCODER, "lamed")
    load_published(connector, weights, m3d.LAMED_CONNECTOR, "lamed")
    volume = torch.rand(2, 1, *SETTINGS.volume)
    with torch.inference_mode():
        grid = oracle(volume)[0][:, 1:].transpose(1, 2).unflatten(2, (2, 4, 6))
        x = functional.avg_pool3d(grid, 2).flatten(2).transpose(1, 2)
        for layer in ("0", "2"):
            x = functional.linear(x, weights[f"{PROJECTOR}{layer}.weight"], weights[f"{PROJECTOR}{layer}.bias"])
            x = functional.gelu(x) if layer == "0" else x
        tokens = connector(encoder(volume))
    assert tokens.shape == (2, 1 * 2 * 3, 10) and torch.allclose(tokens, x, atol=1e-5)


def test_paper_size() -> None:
    settings = ViTSettings(volume=(32, 256, 256), patch=(4, 16, 16))
    with torch.device("meta"):
        weights, ours = monai(settings).state_dict(), ViT3D(settings)
    assert weights["patch_embedding.position_embeddings"].shape == (1, 2048, 768)
    assert weights["patch_embedding.patch_embeddings.1.weight"].shape == (768, 1024)
    load_published(ours, weights, m3d.ENCODER, "pretrained_ViT.bin")


@pytest.mark.parametrize(
    ("table", "weights"), [(m3d.ENCODER, clip()), (m3d.CLIP_ENCODER, lamed()), (m3d.LAMED_ENCODER, clip())]
)
def test_another_of_the_three_files_is_refused(table: WeightTable, weights: dict[str, Tensor]) -> None:
    with pytest.raises(PublishedWeightsError, match=r"missing: .*class_token.* unknown: "):
        load_published(ViT3D(SETTINGS), weights, table, "file")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 3}, r"\(11 missing: blocks\.2\."),
        ({"layers": 1}, r"\(11 unknown: blocks\.1\."),
        ({"class_token": False}, r"1 unknown: cls_token \(here class_token\)"),
        ({"qkv_bias": True}, r"2 missing: blocks\.0\.qkv\.bias, blocks\.1\.qkv\.bias"),
        ({"volume": (8, 12, 24)}, r"1 of another shape: positions \[1, 48, 12\] numbers, here \[1, 96, 12\]"),
    ],
)
def test_an_encoder_of_another_kind_is_refused(change: dict[str, object], said: str) -> None:
    settings = ViTSettings.model_validate(SETTINGS.model_dump() | change)
    with pytest.raises(PublishedWeightsError, match=said):
        load_published(ViT3D(settings), monai().state_dict(), m3d.ENCODER, "pretrained_ViT.bin")


def test_a_projector_of_another_language_model_is_told() -> None:
    with pytest.raises(
        PublishedWeightsError, match=r"4 of another shape: 0\.weight \[10, 12\] numbers, here \[16, 12\]"
    ):
        load_published(Mlp(12, 16), lamed(), m3d.LAMED_CONNECTOR, "lamed")
