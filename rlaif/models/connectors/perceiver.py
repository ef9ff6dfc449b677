"""The Perceiver resampler: the connector of RadFM, of Reg2RG's scan and region textures, and an ablation of Argus.

Shape letters: N studies or regions, T tokens, L latents, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlaif.models.connectors.settings import PerceiverSettings
from rlaif.models.encoders.radfm_layers import FeedForward


class PerceiverLayer(nn.Module):
    """Latents attend to the tokens and to themselves, then feed-forward; each added to its input.

    No linear layer has a bias; the feed-forward is four times as wide.
    """

    def __init__(self, settings: PerceiverSettings, features: int) -> None:
        super().__init__()
        inner = settings.heads * settings.head_size
        self.heads = settings.heads
        self.norm_media = nn.LayerNorm(features)
        self.norm_latents = nn.LayerNorm(features)
        self.to_q = nn.Linear(features, inner, bias=False)
        self.to_kv = nn.Linear(features, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, features, bias=False)
        self.feed_forward = FeedForward(features, 4 * features, bias=False)

    def forward(self, media_NTD: Tensor, latents_NLD: Tensor) -> Tensor:
        normed = self.norm_latents(latents_NLD)
        attended = torch.cat((self.norm_media(media_NTD), normed), dim=1)
        queries = self.to_q(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys, values = self.to_kv(attended).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        latents_NLD = latents_NLD + self.to_out(mixed.transpose(1, 2).flatten(2))
        return latents_NLD + self.feed_forward(latents_NLD)


class Perceiver(nn.Module):
    """Learnt latents that read the features, then a linear layer (RadFM, src/Model/RadFM/helpers.py, after Flamingo).

    `[studies, tokens, features]` to `[studies, latents, hidden]`, for any number of tokens in any order.
    """

    def __init__(self, settings: PerceiverSettings, features: int, hidden: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(settings.latents, features))
        self.layers = nn.ModuleList(PerceiverLayer(settings, features) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(features)
        self.fc = nn.Linear(features, hidden)

    def forward(self, features: Tensor) -> Tensor:
        latents = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            latents = layer(features, latents)
        return self.fc(self.norm(latents))
