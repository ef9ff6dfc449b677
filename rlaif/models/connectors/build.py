"""The connector that settings describe."""

from rlaif.models.connectors.mlp import Mlp
from rlaif.models.connectors.mu2 import Mu2Tokenizer
from rlaif.models.connectors.perceiver import Perceiver
from rlaif.models.connectors.pixel_shuffle import PixelShuffle
from rlaif.models.connectors.regions import RegionConnector
from rlaif.models.connectors.settings import (
    ConnectorSettings,
    MlpSettings,
    Mu2Settings,
    PerceiverSettings,
    PixelShuffleSettings,
    RegionSettings,
)
from rlaif.models.encoders.settings import EncoderSettings

Connector = Mlp | PixelShuffle | Perceiver | Mu2Tokenizer | RegionConnector


def new_connector(settings: ConnectorSettings, encoder: EncoderSettings, hidden: int) -> Connector:
    """A new connector from an encoder's features to visual tokens `[studies, tokens, hidden]`.

    Raises ValueError where it does not fit the encoder.
    """
    match settings:
        case MlpSettings():
            return Mlp(encoder.hidden, hidden)
        case PixelShuffleSettings():
            return PixelShuffle(settings, encoder, hidden)
        case PerceiverSettings():
            return Perceiver(settings, encoder.hidden, hidden)
        case Mu2Settings():
            return Mu2Tokenizer(settings, encoder, hidden)
        case RegionSettings():
            return RegionConnector(settings, encoder.hidden, hidden)
