"""mu2LLM as published: encoder, connector and language model in one Hugging Face folder (u2Tokenizer, src/model).

The tables are for the tokenizer with all its parts on, as `Mu2Settings` has it by default. Its attention without
relative positions has other names (torch's own), and ran along the batch axis: such weights have no place here.
"""

from rlaif.models.published import m3d
from rlaif.models.published.weight_table import WeightTable

_REFINER = r"model\.u2tokenizer\.svt_module\."
_AGGREGATION = r"model\.u2tokenizer\.tta_module\."
_ATTENTION = r"((?:wq|wv|dense)\.(?:weight|bias)|wk\.weight)"

ENCODER = WeightTable(
    renames=m3d.LAMED_ENCODER.renames,
    dropped=(*m3d.LAMED_ENCODER.dropped, r"model\.u2tokenizer\..+"),
)
"""For `ViT3D` on eight frames: M3D's encoder, trained further."""

CONNECTOR = WeightTable(
    renames=(
        (r"model\.mm_projector\.projector\.([02])\.(weight|bias)", r"projector.\1.\2"),
        (r"model\.u2tokenizer\.query_tokens", "query_tokens"),
        (
            rf"{_REFINER}attention_network\.layers\.(\d+)\.(spatial|temporal)_attention\.(?:{_ATTENTION}|(relative_bias))",
            r"refiner.\1.\2_attention.\3\4",
        ),
        (rf"{_REFINER}token_selection\.score_net\.weight", "selection.score_net.weight"),
        (rf"{_REFINER}dynamic_pool\.gate_fc\.weight", "pooling.gate.weight"),
        (
            rf"{_AGGREGATION}layers_vt\.(\d+)\.self_attention\.(?:{_ATTENTION}|(relative_bias))",
            r"aggregation.layers.\1.self_attention.\2\3",
        ),
        (
            rf"{_AGGREGATION}layers_vt\.(\d+)\.(visual|text)_cross_attention\.{_ATTENTION}",
            r"aggregation.layers.\1.\2_attention.\3",
        ),
        (rf"{_AGGREGATION}layers_vt\.(\d+)\.norm_self\.(weight|bias)", r"aggregation.layers.\1.norm_self.\2"),
        (rf"{_AGGREGATION}layers_vt\.(\d+)\.norm_cross_v\.(weight|bias)", r"aggregation.layers.\1.norm_visual.\2"),
        (rf"{_AGGREGATION}layers_vt\.(\d+)\.norm_cross_t\.(weight|bias)", r"aggregation.layers.\1.norm_text.\2"),
        (rf"{_AGGREGATION}layer_linagg\.linear_aggregator\.(wq\.(?:weight|bias)|wk\.weight)", r"aggregation.linear.\1"),
    ),
    dropped=(
        # A softmax takes these biases out: they add the same to all that it weighs.
        r"model\.u2tokenizer\..+\.wk\.bias",
        rf"{_REFINER}(?:token_selection\.score_net|dynamic_pool\.gate_fc)\.bias",
        # The last attention averages the visual tokens as they are: these are never used.
        rf"{_AGGREGATION}layer_linagg\.linear_aggregator\.(?:wv|dense)\.(?:weight|bias)",
        *m3d.LAMED_CONNECTOR.dropped,
    ),
)
"""For `Mu2Tokenizer`."""
