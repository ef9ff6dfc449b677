"""Pixel shuffle and two linear layers: the connector of Argus.

Shape letters: N studies, T tokens, C channels.
"""

from torch import Tensor, nn

from rlaif.models.connectors.settings import PixelShuffleSettings
from rlaif.models.encoders.settings import EncoderSettings


class PixelShuffle(nn.Module):
    """Cubes of factor^3 neighbouring tokens become one token, factor^3 times as wide, then two linear layers with a
    GELU between (Argus, section 4.2): `[studies, tokens, features]` to `[studies, tokens / factor^3, hidden]`.

    Tokens stand frame by frame, then depth, height, width, before and after; a cube's tokens are joined in the same
    order. No cube spans two frames. Raises ValueError where the encoder's grid is no multiple of the factor.
    """

    def __init__(self, settings: PixelShuffleSettings, encoder: EncoderSettings, hidden: int) -> None:
        super().__init__()
        settings.tokens(encoder)
        self.factor = settings.factor
        self.frames, self.grid = encoder.frames, encoder.pooled_grid
        self.features = encoder.hidden
        width = settings.factor**3 * encoder.hidden
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))

    def forward(self, features: Tensor) -> Tensor:
        depth, height, width = self.grid
        if features.shape[1:] != (self.frames * depth * height * width, self.features):
            raise ValueError(
                f"the pixel shuffle takes features [studies, {self.frames * depth * height * width}, {self.features}], "
                f"got {list(features.shape)}: use the features of the encoder that the policy names"
            )
        return self.layers(self._shuffled(features))

    def _shuffled(self, features_NTC: Tensor) -> Tensor:
        studies, _, channels = features_NTC.shape
        factor = self.factor
        depth, height, width = (side // factor for side in self.grid)
        # N, frame, depth, place in the cube, height, place, width, place, C
        cubes = features_NTC.reshape(studies, -1, depth, factor, height, factor, width, factor, channels)
        joined = cubes.permute(0, 1, 2, 4, 6, 3, 5, 7, 8)
        return joined.reshape(studies, -1, factor**3 * channels)
