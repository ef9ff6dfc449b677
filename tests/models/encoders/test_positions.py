"""Learnt positions from one grid of patches to another."""

import pytest
import torch

from rlaif.models.encoders.positions import interpolated_positions


def test_a_doubled_side_lies_a_quarter_from_its_neighbours() -> None:
    positions = torch.tensor([[[0.0, 8.0], [4.0, 0.0]]])
    expected = [[[0.0, 8.0], [1.0, 6.0], [3.0, 2.0], [4.0, 0.0]]]
    for found, wanted in (((2, 1, 1), (4, 1, 1)), ((1, 2, 1), (1, 4, 1)), ((1, 1, 2), (1, 1, 4))):
        assert interpolated_positions(positions, found, wanted).tolist() == expected


def test_a_halved_side_is_the_mean_of_two() -> None:
    positions = torch.tensor([0.0, 2.0, 10.0, 20.0]).view(1, 4, 1)
    assert interpolated_positions(positions, (4, 1, 1), (2, 1, 1)).flatten().tolist() == [1.0, 15.0]


def test_each_axis_keeps_to_itself() -> None:
    # The positions say where they are: 100 d + 10 h + w. From 8 x 16 x 16 to 16 x 16 x 16 patches in Argus.
    def numbered(depth: int) -> torch.Tensor:
        places = torch.cartesian_prod(torch.arange(depth), torch.arange(3), torch.arange(4)).float()
        return (places @ torch.tensor([100.0, 10.0, 1.0])).view(1, -1, 1)

    resized = interpolated_positions(numbered(2), (2, 3, 4), (4, 3, 4)).view(4, 12)
    plane = numbered(1).flatten()
    for depth, start in enumerate((0.0, 25.0, 75.0, 100.0)):
        assert torch.allclose(resized[depth], plane + start)


def test_half_precision_stays_and_the_same_grid_changes_nothing() -> None:
    positions = torch.randn(1, 24, 5).bfloat16()
    assert interpolated_positions(positions, (2, 3, 4), (4, 6, 8)).dtype == torch.bfloat16
    assert torch.equal(interpolated_positions(positions, (2, 3, 4), (2, 3, 4)), positions)


@pytest.mark.parametrize("shape", [(1, 25, 5), (24, 5)])
def test_positions_of_another_grid_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"are not those of a grid of \(2, 3, 4\) patches"):
        interpolated_positions(torch.zeros(shape), (2, 3, 4), (4, 3, 4))
