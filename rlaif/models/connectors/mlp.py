"""Two linear layers: the connector of 3D-CT-GPT++ and, behind the encoder's pooling, of M3D."""

from torch import nn


class Mlp(nn.Sequential):
    """Two linear layers with a GELU between (3D-CT-GPT++, section 3.2): `[..., features]` to `[..., hidden]`."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, hidden))
