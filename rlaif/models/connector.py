"""The connector: encoder features to visual tokens in the language model's width."""

from torch import nn


class Connector(nn.Sequential):
    """Two linear layers with a GELU between (3D-CT-GPT++, section 3.2): `[..., features]` to `[..., hidden]`."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, hidden))
