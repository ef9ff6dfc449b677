"""Reg2RG's connector: visual tokens of the whole scan, and of each region's texture and geometry."""

import torch
from torch import Tensor, nn

from rlaif.models.connectors.mask_encoder import MaskEncoder
from rlaif.models.connectors.perceiver import Perceiver
from rlaif.models.connectors.settings import RegionSettings


class RegionConnector(nn.Module):
    """Whole scans and regions to visual tokens (Reg2RG, src/Model/my_embedding_layer.py).

    One Perceiver reads both the scan (global) and a region's crop (texture); a region's mask within the scan gives
    one token more (geometry).
    """

    def __init__(self, settings: RegionSettings, features: int, hidden: int) -> None:
        super().__init__()
        self.perceiver = Perceiver(settings.perceiver, features, hidden)
        self.mask_encoder = MaskEncoder(settings.mask)
        self.mask_fc = nn.Linear(settings.mask.hidden, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """Features of whole scans `[studies, tokens, features]` to `[studies, latents, hidden]`."""
        return self.perceiver(features)

    def regions(self, features: Tensor, masks: Tensor) -> Tensor:
        """Features of the regions' crops `[regions, tokens, features]` and their masks `[regions, depth, height,
        width]`, 0 to 1, to `[regions, latents + 1, hidden]`: each region's texture, then its geometry.

        Raises ValueError for masks of another size.
        """
        geometry = self.mask_fc(self.mask_encoder(masks))
        return torch.cat((self.perceiver(features), geometry[:, None]), dim=1)
