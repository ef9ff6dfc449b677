"""The mu2 tokenizer's aggregation: learnt queries look at the scan and at the question (TTA).

Shape letters: B batch, Q queries, N pooled visual tokens, W words of the question, D hidden.
"""

from torch import Tensor, nn

from rlaif.models.connectors.mu2_attention import Attention
from rlaif.models.connectors.settings import Mu2Settings


class AggregationLayer(nn.Module):
    """Queries attend to each other, to the visual tokens and to the question's words; each added, then a layer norm."""

    def __init__(self, settings: Mu2Settings, hidden: int) -> None:
        super().__init__()
        positions = settings.positions if settings.relative_positions else None
        self.self_attention = Attention(hidden, settings.heads, positions=positions)
        self.norm_self = nn.LayerNorm(hidden)
        self.visual_attention = Attention(hidden, settings.heads)
        self.norm_visual = nn.LayerNorm(hidden)
        self.text_attention = Attention(hidden, settings.heads) if settings.text_condition else None
        self.norm_text = nn.LayerNorm(hidden) if settings.text_condition else None

    def forward(self, x_BQD: Tensor, visual_BND: Tensor, words_BWD: Tensor | None, mask_BW: Tensor | None) -> Tensor:
        x_BQD = self.norm_self(x_BQD + self.self_attention(x_BQD, x_BQD))
        x_BQD = self.norm_visual(x_BQD + self.visual_attention(x_BQD, visual_BND))
        if self.text_attention is None or self.norm_text is None:
            return x_BQD
        return self.norm_text(x_BQD + self.text_attention(x_BQD, words_BWD, mask_BW))


class TokenAggregation(nn.Module):
    """Text-conditioned token aggregation: `[B, Q, D]` queries and `[B, N, D]` visual tokens to `[B, Q, D]`.

    The layers only decide where to look: what comes out are averages, for each head, of the visual tokens themselves,
    so that a language model aligned with them stays so (LinVT's principle).
    """

    def __init__(self, settings: Mu2Settings, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AggregationLayer(settings, hidden) for _ in range(settings.layers))
        self.linear = Attention(hidden, settings.heads, linear=True)

    def forward(self, x_BQD: Tensor, visual_BND: Tensor, words_BWD: Tensor | None, mask_BW: Tensor | None) -> Tensor:
        for layer in self.layers:
            x_BQD = layer(x_BQD, visual_BND, words_BWD, mask_BW)
        return self.linear(x_BQD, visual_BND)
