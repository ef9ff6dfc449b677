"""M3D's weights (BAAI): the vision transformer alone, within M3D-CLIP, and within M3D-LaMed with its projector."""

from rlaif.models.published.weight_table import WeightTable

_RENAMES = (
    (r"patch_embedding\.position_embeddings", "positions"),
    (r"patch_embedding\.patch_embeddings\.1\.(weight|bias)", r"patch_embedding.\1"),
    (r"cls_token", "class_token"),
    (r"blocks\.(\d+)\.norm1\.(weight|bias)", r"blocks.\1.attention_norm.\2"),
    (r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", r"blocks.\1.qkv.\2"),
    (r"blocks\.(\d+)\.attn\.out_proj\.(weight|bias)", r"blocks.\1.out.\2"),
    (r"blocks\.(\d+)\.norm2\.(weight|bias)", r"blocks.\1.feed_forward_norm.\2"),
    (r"blocks\.(\d+)\.mlp\.linear1\.(weight|bias)", r"blocks.\1.rise.\2"),
    (r"blocks\.(\d+)\.mlp\.linear2\.(weight|bias)", r"blocks.\1.fall.\2"),
    (r"norm\.(weight|bias)", r"norm.\1"),
)
# Newer MONAI makes parameters of a cross-attention that nobody calls.
_UNUSED = (r"blocks\.\d+\.(norm_cross_attn|cross_attn)\..+",)
_TOWER = r"model\.vision_tower\.vision_tower\."
_LANGUAGE_MODEL = (r"model\.(embed_tokens|layers|norm|rotary_emb)\..+", r"lm_head\..+")
# M3D-LaMed's segmentation branch, where a file has it.
_SEGMENTATION = (r"model\.(seg_module|seg_projector)\..+",)

ENCODER = WeightTable(renames=_RENAMES, dropped=_UNUSED)
"""For `ViT3D` from `pretrained_ViT.bin`."""

CLIP_ENCODER = WeightTable(
    renames=tuple((r"vision_encoder\." + pattern, ours) for pattern, ours in _RENAMES),
    dropped=(
        *(r"vision_encoder\." + pattern for pattern in _UNUSED),
        r"language_encoder\..+",
        r"mm_(vision|language)_proj\..+",
        "logit_scale",
    ),
)
"""For `ViT3D` from M3D-CLIP."""

LAMED_ENCODER = WeightTable(
    renames=tuple((_TOWER + pattern, ours) for pattern, ours in _RENAMES),
    dropped=(
        *(_TOWER + pattern for pattern in _UNUSED),
        *_LANGUAGE_MODEL,
        *_SEGMENTATION,
        r"model\.mm_projector\..+",
    ),
)
"""For `ViT3D` from M3D-LaMed."""

LAMED_CONNECTOR = WeightTable(
    renames=((r"model\.mm_projector\.projector\.([02])\.(weight|bias)", r"\1.\2"),),
    dropped=(*_LANGUAGE_MODEL, *_SEGMENTATION, r"model\.vision_tower\..+"),
)
"""For `Mlp` behind the encoder's pooling, from M3D-LaMed."""
