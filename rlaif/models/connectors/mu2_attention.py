"""Attention of the mu2 tokenizer, and its refining of visual tokens over space and time (SVR).

Shape letters: B batch, Q queries, K attended tokens, h heads, D hidden, F frames, T tokens of a frame.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlaif.models.connectors.settings import Mu2Settings


class Attention(nn.Module):
    """Multi-head attention; with `positions`, self-attention with a learnt bias for each head and distance (RPE).

    Distances run along the one axis that is attended over, from `1 - positions` to `positions - 1`; their biases begin
    at zero. With `linear`, values are the attended tokens themselves, so that what comes out are averages of them.
    """

    def __init__(self, hidden: int, heads: int, *, positions: int | None = None, linear: bool = False) -> None:
        super().__init__()
        self.heads, self.positions = heads, positions
        self.wq = nn.Linear(hidden, hidden)
        # The published layer has a bias here; it adds the same to all logits of a query, which the softmax takes out.
        self.wk = nn.Linear(hidden, hidden, bias=False)
        self.wv = None if linear else nn.Linear(hidden, hidden)
        self.dense = None if linear else nn.Linear(hidden, hidden)
        self.relative_bias = nn.Parameter(torch.zeros(2 * positions - 1, heads)) if positions else None
        for layer in (self.wq, self.wk, self.wv, self.dense):
            if layer is not None:
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, queries_BQD: Tensor, attended_BKD: Tensor, mask_BK: Tensor | None = None) -> Tensor:
        """`[B, Q, D]`; `mask_BK` bool is true for what may be attended to (all, where there is none)."""

        def split(projected: Tensor) -> Tensor:
            return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        queries, keys = split(self.wq(queries_BQD)), split(self.wk(attended_BKD))
        values = split(attended_BKD if self.wv is None else self.wv(attended_BKD))
        bias = self._bias(queries) if mask_BK is None else mask_BK[:, None, None]
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        joined = mixed.transpose(1, 2).flatten(2)
        return joined if self.dense is None else self.dense(joined)

    def _bias(self, queries_BhQd: Tensor) -> Tensor | None:
        """The bias `[h, Q, Q]` of each pair of positions, in the queries' type."""
        if self.relative_bias is None or self.positions is None:
            return None
        places = torch.arange(queries_BhQd.shape[2], device=self.relative_bias.device)
        bias_QQh = self.relative_bias[places[None, :] - places[:, None] + self.positions - 1]
        return bias_QQh.permute(2, 0, 1).to(queries_BhQd.dtype)


class SpatialTemporalLayer(nn.Module):
    """Attention among the tokens of a frame, then among the frames of each place; `[B, F, T, D]` to the same.

    As published, neither is added to its input: fresh layers make all tokens of a study nearly one. With `residual`
    both are, and a layer norm follows, as in the aggregation.
    """

    def __init__(self, settings: Mu2Settings, hidden: int) -> None:
        super().__init__()
        positions = settings.positions if settings.relative_positions else None
        self.spatial_attention = Attention(hidden, settings.heads, positions=positions)
        self.temporal_attention = Attention(hidden, settings.heads, positions=positions)
        self.norm_spatial = nn.LayerNorm(hidden) if settings.residual else None
        self.norm_temporal = nn.LayerNorm(hidden) if settings.residual else None

    def forward(self, x_BFTD: Tensor) -> Tensor:
        x_BFTD = self._along(self.spatial_attention, self.norm_spatial, x_BFTD)
        x_BTFD = self._along(self.temporal_attention, self.norm_temporal, x_BFTD.transpose(1, 2))
        return x_BTFD.transpose(1, 2)

    def _along(self, attention: Attention, norm: nn.LayerNorm | None, x: Tensor) -> Tensor:
        """Attention along the third of four axes."""
        rows = x.flatten(0, 1)
        mixed = attention(rows, rows).unflatten(0, x.shape[:2])
        return mixed if norm is None else norm(x + mixed)
