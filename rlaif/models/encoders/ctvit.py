"""CTViT-V, the vision encoder of 3D-CT-GPT++, and CTViT as CT-CLIP released it: attention in and across slices.

CT-CLIP's form was read in transformer_maskgit/ctvit.py and attention.py, at both releases of its weights.

Shape letters: B batch, T slices of patches, H and W rows and columns of patches, D hidden.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlaif.models.encoders.pooling import pooled
from rlaif.models.encoders.settings import CTViTSettings


class ContinuousPositionBias(nn.Module):
    """An attention bias for each head from the log distance of two positions (CT-CLIP's form)."""

    def __init__(self, heads: int, dimensions: int, hidden: int, *, zero: bool) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.net = nn.Sequential(
            nn.Linear(dimensions, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, hidden), nn.LeakyReLU(0.1)
        )
        self.out = nn.Linear(hidden, heads)
        if zero:
            # A bias that begins at zero leaves weights trained without it as good as they were.
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, *lengths: int) -> Tensor:
        """The bias `[heads, positions, positions]` for a grid with the given side lengths."""
        axes = torch.meshgrid(*(torch.arange(n, device=self.out.weight.device) for n in lengths), indexing="ij")
        positions = torch.stack(axes, dim=-1).reshape(-1, self.dimensions)
        relative = (positions[:, None] - positions[None, :]).to(self.out.weight.dtype)
        return self.out(self.net(relative.sign() * relative.abs().log1p())).permute(2, 0, 1)


class Attention(nn.Module):
    """Cosine-similarity attention with learnt query and key scales."""

    def __init__(self, hidden: int, heads: int, head_size: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, head_size
        self.norm = nn.LayerNorm(hidden)
        self.to_queries = nn.Linear(hidden, heads * head_size, bias=False)
        self.to_keys_values = nn.Linear(hidden, 2 * heads * head_size, bias=False)
        self.query_scale = nn.Parameter(torch.ones(head_size))
        self.key_scale = nn.Parameter(torch.ones(head_size))
        self.to_out = nn.Linear(heads * head_size, hidden, bias=False)

    def forward(self, x_BND: Tensor, bias_hNN: Tensor | None) -> Tensor:
        batch, length, _ = x_BND.shape

        def split(projected: Tensor) -> Tensor:
            return projected.view(batch, length, self.heads, self.head_size).transpose(1, 2)

        queries = functional.normalize(split(self.to_queries(self.norm(x_BND))), dim=-1) * self.query_scale
        # CT-CLIP projects keys and values from the input before its normalisation.
        keys, values = (split(part) for part in self.to_keys_values(x_BND).chunk(2, dim=-1))
        keys = functional.normalize(keys, dim=-1) * self.key_scale
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias_hNN, scale=8.0)
        return self.to_out(mixed.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """Layer norm and a gated GELU layer of 8/3 the width."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        inner = int(hidden * 8 / 3)
        self.norm = nn.LayerNorm(hidden)
        self.rise = nn.Linear(hidden, 2 * inner, bias=False)
        self.fall = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.rise(self.norm(x)).chunk(2, dim=-1)
        return self.fall(value * functional.gelu(gate))


class Block(nn.Module):
    """Depth-wise convolution over the grid (position), attention, feed-forward; each added to its input."""

    def __init__(self, settings: CTViTSettings) -> None:
        super().__init__()
        hidden = settings.hidden
        self.released = settings.released
        padding = (0, 1, 1) if settings.released else (1, 1, 1)
        self.position = nn.Conv3d(hidden, hidden, kernel_size=3, padding=padding, groups=hidden)
        self.attention = Attention(hidden, settings.heads, settings.head_size)
        self.feed_forward = FeedForward(hidden)

    def _positions(self, x_BTHWD: Tensor, *, across_slices: bool) -> Tensor:
        """The convolved grid, of the input's shape."""
        if not self.released:
            return self.position(x_BTHWD.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        batch, slices, height, width, hidden = x_BTHWD.shape
        if across_slices:
            # CT-CLIP's tokens stand row by row, slices fastest, when it reads them as a grid of slices, rows, columns.
            x_BTHWD = x_BTHWD.permute(0, 2, 3, 1, 4).reshape(x_BTHWD.shape)
        # Causal: two places before, none after.
        padded = functional.pad(x_BTHWD.permute(0, 4, 1, 2, 3), (0, 0, 0, 0, 2, 0))
        convolved = self.position(padded).permute(0, 2, 3, 4, 1)
        if across_slices:
            return convolved.reshape(batch, height, width, slices, hidden).permute(0, 3, 1, 2, 4)
        return convolved

    def forward(self, x_BTHWD: Tensor, bias_hNN: Tensor | None, *, across_slices: bool) -> Tensor:
        batch, slices, height, width, hidden = x_BTHWD.shape
        x_BTHWD = x_BTHWD + self._positions(x_BTHWD, across_slices=across_slices)
        if across_slices:
            x = x_BTHWD.permute(0, 2, 3, 1, 4).reshape(-1, slices, hidden)
        else:
            x = x_BTHWD.reshape(-1, height * width, hidden)
        x = x + self.attention(x, bias_hNN)
        x = x + self.feed_forward(x)
        if across_slices:
            return x.view(batch, height, width, slices, hidden).permute(0, 3, 1, 2, 4)
        return x.view(batch, slices, height, width, hidden)


class Codebook(nn.Module):
    """Cosine vector quantisation, `[..., hidden]` to the entries of the codebook that point most nearly the same way.

    Entries come out as they are stored: CT-CLIP's training averages them, so that their norms are not quite 1. The
    codebook does not learn here; in training, gradients pass to the input as if nothing had been quantised.
    """

    entries: Tensor

    def __init__(self, entries: int, hidden: int) -> None:
        super().__init__()
        # CT-CLIP's shape, of one codebook.
        self.register_buffer("entries", functional.normalize(torch.randn(1, entries, hidden), dim=-1))

    def forward(self, x: Tensor) -> Tensor:
        entries = self.entries[0]
        # Half precision would choose among 8192 entries by rounding.
        directions = functional.normalize(entries.float(), dim=-1)
        tokens = functional.normalize(x.detach().float(), dim=-1).flatten(0, -2)
        # In parts, as the cosines of a study of 13,824 tokens with 8192 entries take 450 MB.
        nearest = torch.cat([(part @ directions.T).argmax(dim=-1) for part in tokens.split(2048)])
        quantised = entries[nearest].view(x.shape)
        return x + (quantised - x).detach() if self.training else quantised


class CTViT(nn.Module):
    """CTViT-V (3D-CT-GPT++, Algorithm 1): volume `[B, 1, depth, height, width]` to features `[B, tokens, hidden]`.

    The slice transformer attends to all slices, with a relative position bias on its logits, and its
    convolution runs over the true axes: CT-CLIP's original (`released`) has neither. With a `codebook`, features are
    quantised before they are pooled. Raises ValueError for a volume of another shape.
    """

    def __init__(self, settings: CTViTSettings) -> None:
        super().__init__()
        self.settings = settings
        voxels = settings.patch[0] * settings.patch[1] * settings.patch[2]
        self.patch_embedding = nn.Sequential(
            nn.LayerNorm(voxels), nn.Linear(voxels, settings.hidden), nn.LayerNorm(settings.hidden)
        )
        self.spatial_bias = ContinuousPositionBias(settings.heads, 2, settings.hidden, zero=False)
        self.slice_bias = (
            None if settings.released else ContinuousPositionBias(settings.heads, 1, settings.hidden, zero=True)
        )
        self.spatial = nn.ModuleList(Block(settings) for _ in range(settings.spatial_depth))
        self.spatial_norm = nn.LayerNorm(settings.hidden)
        self.slices = nn.ModuleList(Block(settings) for _ in range(settings.slice_depth))
        self.slice_norm = nn.LayerNorm(settings.hidden)
        self.codebook = Codebook(settings.codebook, settings.hidden) if settings.codebook else None

    def forward(self, volume: Tensor) -> Tensor:
        self.settings.check_shape(volume.shape)
        depth, height, width = self.settings.grid
        pd, ph, pw = self.settings.patch
        patches = volume.view(-1, depth, pd, height, ph, width, pw).permute(0, 1, 3, 5, 2, 4, 6)
        x = self.patch_embedding(patches.reshape(-1, depth, height, width, pd * ph * pw))
        bias = self.spatial_bias(height, width)
        for block in self.spatial:
            x = block(x, bias, across_slices=False)
        x = self.spatial_norm(x)
        bias = self.slice_bias(depth) if self.slice_bias is not None else None
        for block in self.slices:
            x = block(x, bias, across_slices=True)
        x = self.slice_norm(x)
        if self.codebook is not None:
            x = self.codebook(x)
        return pooled(x.flatten(1, 3), self.settings.grid, self.settings.pool)
