"""The closing average pooling: which tokens are neighbours."""

import torch
from torch.nn import functional

from rlaif.models.encoders.pooling import pooled


def test_neighbours_along_all_three_axes_are_averaged() -> None:
    # Tokens of a grid of 2 x 4 x 2, numbered as they stand: the cells hold 0 to 3 and 8 to 11, and the others.
    tokens = torch.arange(16.0).view(1, 16, 1)
    assert pooled(tokens, (2, 4, 2), 2).tolist() == [[[5.5], [9.5]]]


def test_it_is_torchs_pooling_on_a_grid_of_unequal_sides() -> None:
    tokens = torch.randn(2, 4 * 6 * 8, 5)
    expected = functional.avg_pool3d(tokens.transpose(1, 2).view(2, 5, 4, 6, 8), 2).flatten(2).transpose(1, 2)
    assert torch.allclose(pooled(tokens, (4, 6, 8), 2), expected, atol=1e-6)
    half = pooled(tokens.bfloat16(), (4, 6, 8), 2)
    assert half.dtype == torch.bfloat16 and (half.float() - expected).abs().max() < 0.02


def test_a_kernel_of_one_leaves_tokens_as_they_are() -> None:
    tokens = torch.randn(1, 24, 3)
    assert pooled(tokens, (2, 3, 4), 1) is tokens
