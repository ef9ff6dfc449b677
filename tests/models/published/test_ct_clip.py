"""CT-CLIP's weights: both releases and both files come in, in their places, and CTViT-V keeps what they learnt."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rlaif.models.encoders.ctvit import CTViT
from rlaif.models.encoders.settings import CTViTSettings
from rlaif.models.published.ct_clip import ct_clip, ct_clip_encoder
from rlaif.models.published.weight_table import PublishedWeightsError, load_published

RELEASES = {"v1": (15, 30, 30), "v2": (10, 20, 20)}
SMALL = CTViTSettings(
    volume=(16, 16, 16), patch=(2, 2, 2), hidden=24, spatial_depth=2, slice_depth=2, heads=2, head_size=8, pool=1
)


def paper(release: str, **changes: object) -> CTViTSettings:
    return CTViTSettings.model_validate({"volume": (240, 480, 480), "patch": RELEASES[release]} | changes)


def block_shapes(stack: str, layer: int, hidden: int, inner: int, head_size: int) -> dict[str, tuple[int, ...]]:
    at, wide = f"{stack}.layers.{layer}", int(hidden * 8 / 3)
    return {
        f"{at}.0.dsconv.weight": (hidden, 1, 3, 3, 3),
        f"{at}.0.dsconv.bias": (hidden,),
        f"{at}.1.null_kv": (inner // head_size, 0, head_size),
        f"{at}.1.q_scale": (head_size,),
        f"{at}.1.k_scale": (head_size,),
        f"{at}.1.norm.gamma": (hidden,),
        f"{at}.1.norm.beta": (hidden,),
        f"{at}.1.context_norm.gamma": (hidden,),
        f"{at}.1.context_norm.beta": (hidden,),
        f"{at}.1.to_q.weight": (inner, hidden),
        f"{at}.1.to_kv.weight": (2 * inner, hidden),
        f"{at}.1.to_out.weight": (hidden, inner),
        f"{at}.3.0.weight": (hidden,),
        f"{at}.3.0.bias": (hidden,),
        f"{at}.3.1.weight": (2 * wide, hidden),
        f"{at}.3.4.weight": (hidden, wide),
    }


def encoder_shapes(settings: CTViTSettings, entries: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes of CT-CLIP's vision encoder, as its code makes them."""
    hidden, heads, inner = settings.hidden, settings.heads, settings.heads * settings.head_size
    depth, height, width = settings.patch
    shapes: dict[str, tuple[int, ...]] = {
        "spatial_rel_pos_bias.net.0.0.weight": (hidden, 2),
        "spatial_rel_pos_bias.net.0.0.bias": (hidden,),
        "spatial_rel_pos_bias.net.1.0.weight": (hidden, hidden),
        "spatial_rel_pos_bias.net.1.0.bias": (hidden,),
        "spatial_rel_pos_bias.net.2.weight": (heads, hidden),
        "spatial_rel_pos_bias.net.2.bias": (heads,),
        "vq._codebook.initted": (1,),
        "vq._codebook.cluster_size": (1, entries),
        "vq._codebook.embed": (1, entries, hidden),
    }
    for name, voxels in (
        ("to_patch_emb_first_frame", height * width),
        ("to_patch_emb", depth * height * width),
    ):
        shapes |= {f"{name}.1.weight": (voxels,), f"{name}.1.bias": (voxels,)}
        shapes |= {f"{name}.2.weight": (hidden, voxels), f"{name}.2.bias": (hidden,)}
        shapes |= {f"{name}.3.weight": (hidden,), f"{name}.3.bias": (hidden,)}
    for name, voxels in (("to_pixels_first_frame", height * width), ("to_pixels", depth * height * width)):
        shapes |= {f"{name}.0.weight": (voxels, hidden), f"{name}.0.bias": (voxels,)}
    for stack, layers in (
        ("enc_spatial_transformer", settings.spatial_depth),
        ("enc_temporal_transformer", settings.slice_depth),
    ):
        for layer in range(layers):
            shapes |= block_shapes(stack, layer, hidden, inner, settings.head_size)
        shapes |= {f"{stack}.norm_out.gamma": (hidden,), f"{stack}.norm_out.beta": (hidden,)}
    return shapes


def older_shapes() -> dict[str, tuple[int, ...]]:
    """Some of what older files carry besides: the decoder and the critics."""
    return {
        "dec_spatial_transformer.layers.0.0.dsconv.weight": (512, 1, 3, 3, 3),
        "dec_temporal_transformer.norm_out.gamma": (512,),
        "discr.blocks.0.conv_res.weight": (64, 1, 1, 1),
        "discr.to_logits.0.bias": (512,),
        "vgg.features.0.weight": (64, 3, 3, 3),
        "vq._codebook.embed_avg": (1, 8192, 512),
    }


def full_shapes(settings: CTViTSettings, image: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the whole model, of whose text transformer a few stand for all."""
    inner = encoder_shapes(settings, 8192) | older_shapes()
    return {f"visual_transformer.{name}": shape for name, shape in inner.items()} | {
        "temperature": (),
        "to_text_latent.weight": (512, 768),
        "to_visual_latent.weight": (512, image),
        "to_text_latent_extra.weight": (512, 768),
        "to_visual_latent_extra.weight": (512, image),
        "text_transformer.embeddings.word_embeddings.weight": (30522, 768),
        "text_transformer.encoder.layer.0.attention.self.query.weight": (768, 768),
        "text_transformer.pooler.dense.bias": (768,),
    }


def on_meta(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def weights(settings: CTViTSettings = SMALL, entries: int = 30) -> dict[str, Tensor]:
    """A vision encoder's file with values of the size of trained ones."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.randn(shape, generator=generator) * 0.2 + (1 if name.endswith(("gamma", "_scale")) else 0)
        for name, shape in encoder_shapes(settings, entries).items()
    }


def loaded(published: dict[str, Tensor], **changes: object) -> CTViT:
    settings = CTViTSettings.model_validate(SMALL.model_dump() | changes)
    encoder = CTViT(settings).eval()
    load_published(encoder, published, ct_clip_encoder(settings), "clip_visual_encoder.pth")
    return encoder


@pytest.mark.parametrize(("release", "voxels", "image"), [("v1", 13_500, 2_097_152), ("v2", 4_000, 294_912)])
@pytest.mark.parametrize("released", [True, False])
@pytest.mark.parametrize("codebook", [0, 8192])
def test_every_published_name_has_its_place(
    release: str, voxels: int, image: int, released: bool, codebook: int
) -> None:
    settings = paper(release, released=released, codebook=codebook)
    shapes = encoder_shapes(settings, 8192)
    assert shapes["to_patch_emb.2.weight"] == (512, voxels)
    assert shapes["enc_temporal_transformer.layers.3.3.1.weight"] == (2730, 512)
    with torch.device("meta"):
        encoder = CTViT(settings)
    load_published(encoder, on_meta(shapes), ct_clip_encoder(settings), "clip_visual_encoder.pth")
    load_published(encoder, on_meta(shapes | older_shapes()), ct_clip_encoder(settings), "older.pth")
    load_published(encoder, on_meta(full_shapes(settings, image)), ct_clip(settings), "CT_CLIP_zeroshot.pt")


def test_the_other_file_or_release_is_refused() -> None:
    first, second = paper("v1", released=True), paper("v2", released=True)
    with torch.device("meta"):
        encoder = CTViT(first)
    with pytest.raises(PublishedWeightsError, match=r"3 of another shape: .*\[512, 4000\].*\[512, 13500\]") as caught:
        load_published(encoder, on_meta(encoder_shapes(second, 8192)), ct_clip_encoder(first), "v2.pth")
    # All fits but the layer norm and the linear layer of the patches.
    assert "missing" not in str(caught.value) and "unknown" not in str(caught.value)
    with pytest.raises(PublishedWeightsError, match="unknown: visual_transformer"):
        load_published(encoder, on_meta(full_shapes(first, 2_097_152)), ct_clip_encoder(first), "full.pt")
    with pytest.raises(PublishedWeightsError, match="missing: patch_embedding"):
        load_published(encoder, on_meta(encoder_shapes(first, 8192)), ct_clip(first), "encoder.pth")


def test_a_missing_layer_and_an_unknown_name_are_told() -> None:
    published = weights()
    del published["enc_temporal_transformer.layers.1.1.q_scale"]
    published["enc_temporal_transformer.layers.1.1.r_scale"] = torch.ones(8)
    with pytest.raises(PublishedWeightsError) as caught:
        loaded(published, released=True)
    assert "1 missing: slices.1.attention.query_scale" in str(caught.value)
    assert "1 unknown: enc_temporal_transformer.layers.1.1.r_scale" in str(caught.value)


def test_names_lead_to_their_own_places() -> None:
    published = weights()
    encoder = loaded(published, released=True, codebook=30)
    ours = encoder.state_dict()
    pairs = {
        "spatial_rel_pos_bias.net.0.0.weight": "spatial_bias.net.0.weight",
        "spatial_rel_pos_bias.net.1.0.bias": "spatial_bias.net.2.bias",
        "spatial_rel_pos_bias.net.2.weight": "spatial_bias.out.weight",
        "to_patch_emb.1.bias": "patch_embedding.0.bias",
        "to_patch_emb.2.weight": "patch_embedding.1.weight",
        "to_patch_emb.3.weight": "patch_embedding.2.weight",
        "vq._codebook.embed": "codebook.entries",
    }
    for theirs, mine in (("enc_spatial_transformer", "spatial"), ("enc_temporal_transformer", "slices")):
        pairs |= {
            f"{theirs}.layers.1.0.dsconv.weight": f"{mine}.1.position.weight",
            f"{theirs}.layers.1.0.dsconv.bias": f"{mine}.1.position.bias",
            f"{theirs}.layers.1.1.norm.gamma": f"{mine}.1.attention.norm.weight",
            f"{theirs}.layers.1.1.norm.beta": f"{mine}.1.attention.norm.bias",
            f"{theirs}.layers.1.1.to_q.weight": f"{mine}.1.attention.to_queries.weight",
            f"{theirs}.layers.0.1.to_kv.weight": f"{mine}.0.attention.to_keys_values.weight",
            f"{theirs}.layers.0.1.q_scale": f"{mine}.0.attention.query_scale",
            f"{theirs}.layers.0.1.k_scale": f"{mine}.0.attention.key_scale",
            f"{theirs}.layers.0.1.to_out.weight": f"{mine}.0.attention.to_out.weight",
            f"{theirs}.layers.0.3.0.weight": f"{mine}.0.feed_forward.norm.weight",
            f"{theirs}.layers.0.3.0.bias": f"{mine}.0.feed_forward.norm.bias",
            f"{theirs}.layers.0.3.1.weight": f"{mine}.0.feed_forward.rise.weight",
            f"{theirs}.layers.0.3.4.weight": f"{mine}.0.feed_forward.fall.weight",
        }
    pairs |= {
        "enc_spatial_transformer.norm_out.gamma": "spatial_norm.weight",
        "enc_spatial_transformer.norm_out.beta": "spatial_norm.bias",
        "enc_temporal_transformer.norm_out.gamma": "slice_norm.weight",
        "enc_temporal_transformer.norm_out.beta": "slice_norm.bias",
    }
    for theirs, mine in pairs.items():
        assert torch.equal(published[theirs], ours[mine]), (theirs, mine)


def kernels(published: dict[str, Tensor]) -> list[str]:
    return [name for name in published if name.endswith("dsconv.weight")]


def scans() -> Tensor:
    """Scans that change slowly from patch to patch, as bodies do."""
    coarse = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    return functional.interpolate(coarse, size=(16, 16, 16), mode="trilinear", align_corners=True)


def test_ctvit_v_begins_with_the_released_features_where_its_kernels_can() -> None:
    # A kernel that sees one place after itself cannot see two places before it; all else it can.
    published = weights()
    for name in kernels(published):
        published[name][:, :, 0] = 0
    released, ours = loaded(published, released=True), loaded(published)
    assert all(not value.any() for name, value in ours.state_dict().items() if name.startswith("slice_bias.out"))
    scan = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = released(scan)
        assert expected.std() > 0.1 and torch.allclose(ours(scan), expected, atol=1e-5)


def test_the_tap_that_falls_off_joins_its_neighbour() -> None:
    published = weights()
    spatial, slices = (f"enc_{stack}_transformer.layers.0.0.dsconv.weight" for stack in ("spatial", "temporal"))
    ours = loaded(published)
    theirs = published[spatial][:, 0]
    mine = ours.spatial[0].position.weight[:, 0]
    assert torch.equal(mine[:, 0], theirs[:, 0] + theirs[:, 1])
    assert torch.equal(mine[:, 1], theirs[:, 2]) and not mine[:, 2].any()
    # Theirs is read as rows (causal), columns, slices; ours as slices, rows, columns.
    theirs = published[slices][:, 0]
    mine = ours.slices[0].position.weight[:, 0]
    assert torch.equal(mine[:, 2, 0, 1], theirs[:, 0, 1, 2] + theirs[:, 1, 1, 2])
    assert torch.equal(mine[:, 2, 1, 0], theirs[:, 2, 0, 2]) and not mine[:, :, 2].any()


def test_it_is_nearer_to_the_released_features_than_kernels_copied_or_only_turned() -> None:
    published = weights()
    released, ours = loaded(published, released=True), loaded(published)
    copied, turned = loaded(published), loaded(published)
    with torch.no_grad():
        for stack, theirs in (("spatial", "enc_spatial_transformer"), ("slices", "enc_temporal_transformer")):
            for layer in range(2):
                kernel = published[f"{theirs}.layers.{layer}.0.dsconv.weight"]
                getattr(copied, stack)[layer].position.weight.copy_(kernel)
                if stack == "slices":
                    kernel = kernel.permute(0, 1, 4, 2, 3)
                getattr(turned, stack)[layer].position.weight.copy_(kernel)
    with torch.inference_mode():
        expected = released(scans())

        def distance(encoder: CTViT) -> float:
            return float((encoder(scans()) - expected).square().mean().sqrt())

        assert distance(ours) < 0.8 * distance(turned) < 0.8 * distance(copied)
