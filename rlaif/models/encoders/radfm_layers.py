"""The layers of RadFM's vision transformer, which Reg2RG's mask encoder shares (src/Model/RadFM/vit_3d.py).

Volumes are depth, height, width, as everywhere here. Tokens stand in the publications' order: row by row, within
it column by column, depth fastest; token `(d, h, w)` of a grid is number `(h * grid width + w) * grid depth + d`.

Shape letters: N volumes, C channels, T tokens, D hidden.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlaif.models.encoders.settings import Size


class PatchEmbedding(nn.Sequential):
    """Patches to tokens: `[N, channels, depth, height, width]` to `[N, tokens, hidden]`, tokens in the module's order.

    `patch` is depth, height, width. A voxel's number in its patch runs over rows, columns, depth and channels, the
    last fastest. The volume's sides must be multiples of the patch's.
    """

    def __init__(self, channels: int, patch: Size, hidden: int) -> None:
        voxels = channels * patch[0] * patch[1] * patch[2]
        super().__init__(nn.LayerNorm(voxels), nn.Linear(voxels, hidden), nn.LayerNorm(hidden))
        self.patch = patch

    def forward(self, volume_NCdhw: Tensor) -> Tensor:
        volumes, channels, *sides = volume_NCdhw.shape
        pd, ph, pw = self.patch
        depth, height, width = (side // patch for side, patch in zip(sides, self.patch, strict=True))
        cut = volume_NCdhw.reshape(volumes, channels, depth, pd, height, ph, width, pw)
        patches = cut.permute(0, 4, 6, 2, 5, 7, 3, 1).reshape(volumes, height * width * depth, -1)
        return super().forward(patches)


class TablePositions(nn.Module):
    """Learnt positions from three tables, a third of the width each, joined as row, column, depth.

    `tables` counts the entries for depth, rows and columns. A smaller grid is spread over them: place i of n takes
    entry `(i + 1) * (entries // n) - 1`. `hidden` must be a multiple of 3, and no side may exceed its table.
    """

    def __init__(self, hidden: int, tables: Size) -> None:
        super().__init__()
        depths, rows, columns = tables
        self.rows = nn.Embedding(rows, hidden // 3)
        self.columns = nn.Embedding(columns, hidden // 3)
        self.depths = nn.Embedding(depths, hidden // 3)
        for table in (self.rows, self.columns, self.depths):
            nn.init.uniform_(table.weight)

    def forward(self, grid: Size) -> Tensor:
        """The positions `[tokens, hidden]` of a grid of patches (depth, height, width), in the module's order."""
        depth, height, width = grid

        def spread(table: nn.Embedding, places: int) -> Tensor:
            index = torch.arange(1, places + 1, device=table.weight.device)
            return table(index * (table.num_embeddings // places) - 1)

        rows = spread(self.rows, height)[:, None, None].expand(-1, width, depth, -1)
        columns = spread(self.columns, width)[None, :, None].expand(height, -1, depth, -1)
        depths = spread(self.depths, depth)[None, None, :].expand(height, width, -1, -1)
        return torch.cat((rows, columns, depths), dim=-1).flatten(0, 2)


class Attention(nn.Module):
    """Layer norm and full attention, `[N, tokens, hidden]` to the same; queries, keys and values have no bias."""

    def __init__(self, hidden: int, heads: int, head_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(hidden)
        self.to_qkv = nn.Linear(hidden, 3 * heads * head_size, bias=False)
        self.to_out = nn.Linear(heads * head_size, hidden)

    def forward(self, x_NTD: Tensor) -> Tensor:
        projected = self.to_qkv(self.norm(x_NTD)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Layer norm and two linear layers with a GELU between, `[..., hidden]` to the same."""

    def __init__(self, hidden: int, intermediate: int, *, bias: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.rise = nn.Linear(hidden, intermediate, bias=bias)
        self.fall = nn.Linear(intermediate, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fall(functional.gelu(self.rise(self.norm(x))))


class Block(nn.Module):
    """Attention and feed-forward, each added to its input: `[N, tokens, hidden]` to the same."""

    def __init__(self, hidden: int, heads: int, head_size: int, intermediate: int) -> None:
        super().__init__()
        self.attention = Attention(hidden, heads, head_size)
        self.feed_forward = FeedForward(hidden, intermediate)

    def forward(self, x_NTD: Tensor) -> Tensor:
        x_NTD = x_NTD + self.attention(x_NTD)
        return x_NTD + self.feed_forward(x_NTD)
