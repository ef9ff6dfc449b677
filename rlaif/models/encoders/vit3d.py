"""The plain 3D vision transformer with learnt absolute positions: M3D's ViT3D, and Argus' ViT-B.

M3D's is MONAI's with the linear ("perceptron") patch embedding. Argus has published neither code nor weights: its
order of voxels and tokens is M3D's here. Shape letters: B batch, N volumes (studies' frames), T tokens, D hidden.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlaif.models.encoders.pooling import pooled
from rlaif.models.encoders.settings import ViTSettings


class Block(nn.Module):
    """Attention and feed-forward, each behind a layer norm and added to its input."""

    def __init__(self, settings: ViTSettings) -> None:
        super().__init__()
        hidden = settings.hidden
        self.heads = settings.heads
        self.attention_norm = nn.LayerNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=settings.qkv_bias)
        self.out = nn.Linear(hidden, hidden)
        self.feed_forward_norm = nn.LayerNorm(hidden)
        self.rise = nn.Linear(hidden, settings.intermediate)
        self.fall = nn.Linear(settings.intermediate, hidden)

    def forward(self, x_NTD: Tensor) -> Tensor:
        projected = self.qkv(self.attention_norm(x_NTD)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        x_NTD = x_NTD + self.out(mixed.transpose(1, 2).flatten(2))
        return x_NTD + self.fall(functional.gelu(self.rise(self.feed_forward_norm(x_NTD))))


class ViT3D(nn.Module):
    """Volume `[B, 1, depth, height, width]` to features `[B, tokens, hidden]`, frame by frame along the depth.

    Within a frame tokens run over depth, height and width, the last fastest. The class token, where there is one, is
    no feature. Raises ValueError for a volume of another shape.
    """

    def __init__(self, settings: ViTSettings) -> None:
        super().__init__()
        self.settings = settings
        depth, height, width = settings.grid
        pd, ph, pw = settings.patch
        self.patch_embedding = nn.Linear(pd * ph * pw, settings.hidden)
        nn.init.trunc_normal_(self.patch_embedding.weight, std=0.02)
        nn.init.zeros_(self.patch_embedding.bias)
        self.positions = nn.Parameter(torch.empty(1, depth * height * width, settings.hidden))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.class_token = nn.Parameter(torch.zeros(1, 1, settings.hidden)) if settings.class_token else None
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.hidden)

    def forward(self, volume: Tensor) -> Tensor:
        settings = self.settings
        settings.check_shape(volume.shape)
        # One frame of all studies at a time: the activations of eight would take eight times the memory.
        frames = volume[:, 0].unflatten(1, (settings.frames, -1)).unbind(1)
        return torch.cat([self._encode(frame) for frame in frames], dim=1)

    def _encode(self, frame_Ndhw: Tensor) -> Tensor:
        depth, height, width = self.settings.grid
        pd, ph, pw = self.settings.patch
        cut = frame_Ndhw.reshape(-1, depth, pd, height, ph, width, pw).permute(0, 1, 3, 5, 2, 4, 6)
        x = self.patch_embedding(cut.reshape(-1, depth * height * width, pd * ph * pw)) + self.positions
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if self.class_token is not None:
            x = x[:, 1:]
        return pooled(x, self.settings.grid, self.settings.pool)
