"""RadFM (chaoyi-wu): its vision transformer, alone or in the whole model, and its Perceiver."""

from rlaif.models.published.weight_table import WeightTable

_VISION_TRANSFORMER = (
    (r"to_patch_embedding\.1\.(weight|bias)", r"patch_embedding.0.\1"),
    (r"to_patch_embedding\.2\.(weight|bias)", r"patch_embedding.1.\1"),
    (r"to_patch_embedding\.3\.(weight|bias)", r"patch_embedding.2.\1"),
    (r"pos_embedding\.row_embed\.weight", "positions.rows.weight"),
    (r"pos_embedding\.col_embed\.weight", "positions.columns.weight"),
    (r"pos_embedding\.dep_embed\.weight", "positions.depths.weight"),
    (r"transformer\.layers\.(\d+)\.0\.norm\.(weight|bias)", r"blocks.\1.attention.norm.\2"),
    (r"transformer\.layers\.(\d+)\.0\.fn\.to_qkv\.weight", r"blocks.\1.attention.to_qkv.weight"),
    (r"transformer\.layers\.(\d+)\.0\.fn\.to_out\.0\.(weight|bias)", r"blocks.\1.attention.to_out.\2"),
    (r"transformer\.layers\.(\d+)\.1\.norm\.(weight|bias)", r"blocks.\1.feed_forward.norm.\2"),
    (r"transformer\.layers\.(\d+)\.1\.fn\.net\.0\.(weight|bias)", r"blocks.\1.feed_forward.rise.\2"),
    (r"transformer\.layers\.(\d+)\.1\.fn\.net\.3\.(weight|bias)", r"blocks.\1.feed_forward.fall.\2"),
)
# What else the whole model holds: its language model, words and figure tags, the Perceiver and its layer to them, and
# what its contrastive training and an abandoned segmentation used.
_OTHERS = (
    r"lang_model\..+",
    r"embedding_layer\.(weight|figure_token_weight)",
    r"embedding_layer\.(bert_model|bert_projection_fc|perceiver|fc|output_upscaling|cls_head)\..+",
    r"embedding_layer\.(transformer_decoder|transformer_decoder_mlp)\..+",
)

ENCODER = WeightTable(
    renames=tuple((r"(?:embedding_layer\.vision_encoder\.)?" + name, ours) for name, ours in _VISION_TRANSFORMER),
    dropped=_OTHERS,
)
"""For `RadFMViT`, from `RadFM_vit3d.pth` or from the whole model's `pytorch_model.bin`."""

PERCEIVER = WeightTable(
    renames=(
        (r"perceiver\.latents", "latents"),
        (
            r"perceiver\.layers\.(\d+)\.0\.(norm_media|norm_latents|to_q|to_kv|to_out)\.(weight|bias)",
            r"layers.\1.\2.\3",
        ),
        (r"perceiver\.layers\.(\d+)\.1\.0\.(weight|bias)", r"layers.\1.feed_forward.norm.\2"),
        (r"perceiver\.layers\.(\d+)\.1\.1\.weight", r"layers.\1.feed_forward.rise.weight"),
        (r"perceiver\.layers\.(\d+)\.1\.3\.weight", r"layers.\1.feed_forward.fall.weight"),
        (r"perceiver\.norm\.(weight|bias)", r"norm.\1"),
    ),
    dropped=(r"fc\.(weight|bias)",),
    new=(r"fc\.(weight|bias)",),
)
"""For `Perceiver` from RadFM_perceiver_fc.pth, whose last layer leads to LLaMA-13B: for another one ours is new."""

PERCEIVER_WITH_FC = WeightTable(renames=(*PERCEIVER.renames, (r"fc\.(weight|bias)", r"fc.\1")))
"""The same for `Perceiver` before LLaMA-13B, whose last layer is RadFM's own."""
