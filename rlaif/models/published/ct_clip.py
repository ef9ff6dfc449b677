"""CT-CLIP's weights (generatect), of both releases: the full model's file, and its vision encoder alone.

Names stand as CT-CLIP's scripts/run_train.py builds the model. Release 1 has patches of 15 x 30 x 30 voxels, release 2
of 10 x 20 x 20; the names are the same.
"""

import torch
from torch import Tensor

from rlaif.models.encoders.settings import CTViTSettings
from rlaif.models.published.weight_table import WeightTable

_STACKS = (("enc_spatial_transformer", "spatial", "spatial_norm"), ("enc_temporal_transformer", "slices", "slice_norm"))
_LAYER = (
    (r"0\.dsconv\.(weight|bias)", r"position.\2"),
    (r"1\.norm\.gamma", "attention.norm.weight"),
    (r"1\.norm\.beta", "attention.norm.bias"),
    (r"1\.to_q\.weight", "attention.to_queries.weight"),
    (r"1\.to_kv\.weight", "attention.to_keys_values.weight"),
    (r"1\.q_scale", "attention.query_scale"),
    (r"1\.k_scale", "attention.key_scale"),
    (r"1\.to_out\.weight", "attention.to_out.weight"),
    (r"3\.0\.(weight|bias)", r"feed_forward.norm.\2"),
    (r"3\.1\.weight", "feed_forward.rise.weight"),
    (r"3\.4\.weight", "feed_forward.fall.weight"),
)
_RENAMES = (
    (r"to_patch_emb\.1\.(weight|bias)", r"patch_embedding.0.\1"),
    (r"to_patch_emb\.2\.(weight|bias)", r"patch_embedding.1.\1"),
    (r"to_patch_emb\.3\.(weight|bias)", r"patch_embedding.2.\1"),
    (r"spatial_rel_pos_bias\.net\.0\.0\.(weight|bias)", r"spatial_bias.net.0.\1"),
    (r"spatial_rel_pos_bias\.net\.1\.0\.(weight|bias)", r"spatial_bias.net.2.\1"),
    (r"spatial_rel_pos_bias\.net\.2\.(weight|bias)", r"spatial_bias.out.\1"),
    *(
        (rf"{stack}\.layers\.(\d+)\.{theirs}", rf"{blocks}.\1.{ours}")
        for stack, blocks, _ in _STACKS
        for theirs, ours in _LAYER
    ),
    *((rf"{stack}\.norm_out\.gamma", f"{norm}.weight") for stack, _, norm in _STACKS),
    *((rf"{stack}\.norm_out\.beta", f"{norm}.bias") for stack, _, norm in _STACKS),
)
_CODEBOOK = r"vq\._codebook\.embed"
_ENCODER_DROPPED = (
    # For a video's first frame, which CT-CLIP's encoder treats as any other.
    r"to_patch_emb_first_frame\..*",
    # Empty, or never called: no layer attends to a second input.
    r"enc_(spatial|temporal)_transformer\.layers\.\d+\.1\.(null_kv|context_norm\.(gamma|beta))",
    # Counts of the codebook's training.
    r"vq\._codebook\.(initted|cluster_size|embed_avg)",
    # The decoder and the critics of the reconstruction that CT-CLIP's encoder was built for.
    r"to_pixels(_first_frame)?\..*",
    r"(dec_(spatial|temporal)_transformer|discr|vgg)\..*",
)
_FULL_DROPPED = (r"text_transformer\..*", r"to_(text|visual)_latent(_extra)?\..*", r"temperature")


def ct_clip(settings: CTViTSettings) -> WeightTable:
    """The table of the full model's file, such as `CT_CLIP_zeroshot.pt` and `CT-CLIP_v2.pt`: all but the vision
    encoder is dropped.
    """
    return _table(settings, r"visual_transformer\.", _FULL_DROPPED)


def ct_clip_encoder(settings: CTViTSettings) -> WeightTable:
    """The table of the vision encoder's own file, `clip_visual_encoder.pth`."""
    return _table(settings, "", ())


def _table(settings: CTViTSettings, prefix: str, dropped: tuple[str, ...]) -> WeightTable:
    quantised = settings.codebook > 0
    renames = (*_RENAMES, (_CODEBOOK, "codebook.entries")) if quantised else _RENAMES
    encoder_dropped = _ENCODER_DROPPED if quantised else (*_ENCODER_DROPPED, _CODEBOOK)
    return WeightTable(
        renames=tuple((prefix + theirs, ours) for theirs, ours in renames),
        dropped=(*(prefix + pattern for pattern in encoder_dropped), *dropped),
        new=() if settings.released else (r"slice_bias\..*",),
        changes=()
        if settings.released
        else ((r"spatial\.\d+\.position\.weight", centred), (r"slices\.\d+\.position\.weight", on_true_axes)),
    )


def centred(kernel: Tensor) -> Tensor:
    """A causal convolution's kernel `[hidden, 1, 3, 3, 3]`, for one that sees a place before and a place after.

    Its taps along the first axis lie two places back, one back, and here.
    """
    # Copied as it is, each tap would act a place too far on. Moved back, two of three act exactly where they were
    # learnt; the one that falls off joins its neighbour, as patches side by side are alike, and a sum over a region
    # without change stays what it was. The place after begins at zero, for training to use.
    back_two, back_one, here = kernel.unbind(2)
    return torch.stack((back_two + back_one, here, torch.zeros_like(here)), dim=2)


def on_true_axes(kernel: Tensor) -> Tensor:
    """The kernel of CT-CLIP's temporal stack, `[hidden, 1, 3, 3, 3]`, for a convolution over slices, rows, columns.

    CT-CLIP reads that stack's tokens in another order than they stand, so on its cubic grids the kernel's axes are
    rows (causal), columns, slices.
    """
    # Copied as it is, what was learnt across slices would act across columns. In their places, the weights give
    # CT-CLIP's own features, but for the tap two rows back.
    return centred(kernel).permute(0, 1, 4, 2, 3)
