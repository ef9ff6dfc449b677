"""CTViT-V, the vision encoder of 3D-CT-GPT++: spatial attention in each slice, full attention across slices.

Shape letters: B batch, T slices of patches, H and W rows and columns of patches, D hidden.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlaif.models.settings import CTViTSettings


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

    def forward(self, x_BND: Tensor, bias_hNN: Tensor) -> Tensor:
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
        self.position = nn.Conv3d(hidden, hidden, kernel_size=3, padding=1, groups=hidden)
        self.attention = Attention(hidden, settings.heads, settings.head_size)
        self.feed_forward = FeedForward(hidden)

    def forward(self, x_BTHWD: Tensor, bias_hNN: Tensor, *, across_slices: bool) -> Tensor:
        batch, slices, height, width, hidden = x_BTHWD.shape
        convolved = self.position(x_BTHWD.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        x_BTHWD = x_BTHWD + convolved
        if across_slices:
            x = x_BTHWD.permute(0, 2, 3, 1, 4).reshape(-1, slices, hidden)
        else:
            x = x_BTHWD.reshape(-1, height * width, hidden)
        x = x + self.attention(x, bias_hNN)
        x = x + self.feed_forward(x)
        if across_slices:
            return x.view(batch, height, width, slices, hidden).permute(0, 3, 1, 2, 4)
        return x.view(batch, slices, height, width, hidden)


class CTViT(nn.Module):
    """CTViT-V (3D-CT-GPT++, Algorithm 1): volume `[B, 1, depth, height, width]` to features `[B, tokens, hidden]`.

    The slice transformer attends to all slices, with a relative position bias on its logits, and its
    convolution runs over the true axes: CT-CLIP's original has neither.
    """

    def __init__(self, settings: CTViTSettings) -> None:
        super().__init__()
        self.settings = settings
        voxels = settings.patch[0] * settings.patch[1] * settings.patch[2]
        self.patch_embedding = nn.Sequential(
            nn.LayerNorm(voxels), nn.Linear(voxels, settings.hidden), nn.LayerNorm(settings.hidden)
        )
        self.spatial_bias = ContinuousPositionBias(settings.heads, 2, settings.hidden, zero=False)
        self.slice_bias = ContinuousPositionBias(settings.heads, 1, settings.hidden, zero=True)
        self.spatial = nn.ModuleList(Block(settings) for _ in range(settings.spatial_depth))
        self.spatial_norm = nn.LayerNorm(settings.hidden)
        self.slices = nn.ModuleList(Block(settings) for _ in range(settings.slice_depth))
        self.slice_norm = nn.LayerNorm(settings.hidden)

    def forward(self, volume: Tensor) -> Tensor:
        if tuple(volume.shape[1:]) != (1, *self.settings.volume):
            raise ValueError(
                f"the encoder takes volumes [batch, 1, {', '.join(map(str, self.settings.volume))}], got "
                f"{list(volume.shape)}: use the recipe that the policy names"
            )
        depth, height, width = self.settings.grid
        pd, ph, pw = self.settings.patch
        patches = volume.view(-1, depth, pd, height, ph, width, pw).permute(0, 1, 3, 5, 2, 4, 6)
        x = self.patch_embedding(patches.reshape(-1, depth, height, width, pd * ph * pw))
        bias = self.spatial_bias(height, width)
        for block in self.spatial:
            x = block(x, bias, across_slices=False)
        x = self.spatial_norm(x)
        bias = self.slice_bias(depth)
        for block in self.slices:
            x = block(x, bias, across_slices=True)
        x = self.slice_norm(x)
        pooled = functional.avg_pool3d(x.permute(0, 4, 1, 2, 3), self.settings.pool)
        return pooled.flatten(2).transpose(1, 2)
