"""Pixel shuffle: which tokens become one, in what order, and what the two layers make of them."""

from math import erf, sqrt

import pytest
import torch
from torch import Tensor

from rlaif.models.connectors.pixel_shuffle import PixelShuffle
from rlaif.models.connectors.settings import PixelShuffleSettings
from rlaif.models.encoders.settings import ViTSettings

# A grid of 4 x 2 x 6 tokens in one frame.
ENCODER = ViTSettings(volume=(4, 2, 6), patch=(1, 1, 1), hidden=3, heads=1)


def joined(encoder: ViTSettings, features: Tensor, factor: int = 2) -> Tensor:
    """What the layers are given: they are made to pass on what is far above zero as it is."""
    width = factor**3 * encoder.hidden
    connector = PixelShuffle(PixelShuffleSettings(factor=factor), encoder, width).double()
    with torch.no_grad():
        for layer in (connector.layers[0], connector.layers[2]):
            layer.weight.copy_(torch.eye(width))
            layer.bias.zero_()
        return connector(features + 1000) - 1000


def test_neighbours_become_one_token_in_the_order_depth_height_width() -> None:
    encoder = ENCODER.model_copy(update={"hidden": 1})
    features = torch.arange(4 * 2 * 6, dtype=torch.float64).reshape(1, -1, 1)
    tokens = joined(encoder, features)[0].tolist()
    expected = [
        [float(((2 * d + i) * 2 + (2 * h + j)) * 6 + 2 * w + k) for i in range(2) for j in range(2) for k in range(2)]
        for d in range(2)
        for h in range(1)
        for w in range(3)
    ]
    assert tokens == expected
    assert tokens[0] == [0, 1, 6, 7, 12, 13, 18, 19] and tokens[-1] == [28, 29, 34, 35, 40, 41, 46, 47]


def test_the_channels_of_a_neighbour_stay_together() -> None:
    features = torch.randn(2, 48, 3, dtype=torch.float64)
    tokens = joined(ENCODER, features)
    assert torch.allclose(tokens[1, 0], features[1, [0, 1, 6, 7, 12, 13, 18, 19]].flatten())


def test_a_cube_stays_within_its_frame() -> None:
    encoder = ViTSettings(volume=(4, 2, 2), patch=(1, 1, 1), hidden=1, heads=1, frames=2)
    features = torch.arange(16, dtype=torch.float64).reshape(1, -1, 1)
    assert joined(encoder, features)[0].tolist() == [list(range(8)), list(range(8, 16))]


def test_a_factor_of_three() -> None:
    encoder = ViTSettings(volume=(3, 3, 3), patch=(1, 1, 1), hidden=1, heads=1)
    features = torch.arange(27, dtype=torch.float64).reshape(1, -1, 1)
    assert joined(encoder, features, factor=3)[0].tolist() == [list(range(27))]


def test_two_linear_layers_with_a_gelu_between() -> None:
    torch.manual_seed(0)
    encoder = ViTSettings(volume=(2, 2, 2), patch=(1, 1, 1), hidden=2, heads=1)
    connector = PixelShuffle(PixelShuffleSettings(), encoder, 3)
    features = torch.randn(1, 8, 2)
    connector.requires_grad_(False)
    first, second = connector.layers[0], connector.layers[2]
    rows = []
    for row in range(3):
        value = float(features.flatten() @ first.weight[row] + first.bias[row])
        rows.append(value * 0.5 * (1 + erf(value / sqrt(2))))
    expected = torch.tensor(rows) @ second.weight.T + second.bias
    assert torch.allclose(connector(features)[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("volume", "patch", "before", "after"),
    [((64, 256, 256), (8, 16, 16), 2048, 256), ((256, 512, 512), (16, 32, 32), 4096, 512)],
)
def test_the_resolutions_of_argus(
    volume: tuple[int, int, int], patch: tuple[int, int, int], before: int, after: int
) -> None:
    encoder = ViTSettings(volume=volume, patch=patch)
    settings = PixelShuffleSettings()
    with torch.device("meta"):
        connector = PixelShuffle(settings, encoder, 4096)
        features = torch.empty(1, before, 768)
    assert connector.layers[0].in_features == 6144
    assert connector(features).shape == (1, after, 4096)
    assert settings.tokens(encoder) == after


def test_a_grid_that_is_no_multiple_is_refused() -> None:
    encoder = ViTSettings(volume=(4, 3, 2), patch=(1, 1, 1), hidden=2, heads=1)
    with pytest.raises(ValueError, match=r"\(4, 3, 2\) tokens is no multiple of the factor 2"):
        PixelShuffle(PixelShuffleSettings(), encoder, 4)


@pytest.mark.parametrize("shape", [(1, 47, 3), (1, 96, 3), (1, 48, 4)])
def test_features_of_another_encoder_are_refused(shape: tuple[int, int, int]) -> None:
    connector = PixelShuffle(PixelShuffleSettings(), ENCODER, 4)
    with pytest.raises(ValueError, match=r"takes features \[studies, 48, 3\]"):
        connector(torch.zeros(shape))
