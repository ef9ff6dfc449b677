"""The vision encoder that settings describe."""

from torch import nn

from rlaif.models.encoders.ctvit import CTViT
from rlaif.models.encoders.radfm import RadFMViT
from rlaif.models.encoders.settings import CTViTSettings, EncoderSettings, RadFMSettings, ViTSettings
from rlaif.models.encoders.vit3d import ViT3D


def new_encoder(settings: EncoderSettings) -> nn.Module:
    """An encoder with weights as its publication initialises them: `[studies, 1, depth, height, width]` to
    features `[studies, tokens, hidden]`.
    """
    match settings:
        case CTViTSettings():
            return CTViT(settings)
        case ViTSettings():
            return ViT3D(settings)
        case RadFMSettings():
            return RadFMViT(settings)
