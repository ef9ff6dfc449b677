"""A vision transformer at another resolution: what it was taught of patches and places stays."""

from typing import Any

import pytest
import torch

from rlaif.models.encoders.resolution import at_resolution, resampled_kernel
from rlaif.models.encoders.settings import Size, ViTSettings
from rlaif.models.encoders.vit3d import ViT3D

# As Argus' two: patches of twice the sides, the grid twice as deep.
NORMAL = ViTSettings(
    volume=(8, 12, 16), patch=(2, 2, 4), hidden=12, layers=2, heads=3, intermediate=20, class_token=False, qkv_bias=True
)
HIGH = NORMAL.model_copy(update={"volume": (32, 24, 32), "patch": (4, 4, 8)})


def test_a_kernel_of_two_voxels_for_four() -> None:
    kernel = torch.tensor([[8.0, 16.0], [-4.0, 4.0]])
    expected = [[4.0, 5.0, 7.0, 8.0], [-2.0, -1.0, 1.0, 2.0]]
    for found, wanted in (((2, 1, 1), (4, 1, 1)), ((1, 2, 1), (1, 4, 1)), ((1, 1, 2), (1, 1, 4))):
        assert resampled_kernel(kernel, found, wanted).tolist() == expected


def test_a_kernel_of_four_voxels_for_two() -> None:
    assert resampled_kernel(torch.tensor([[1.0, 3.0, 5.0, 9.0]]), (1, 1, 4), (1, 1, 2)).tolist() == [[4.0, 14.0]]


def test_voxels_stay_where_they_are() -> None:
    # One voxel of a patch of 2 x 3 x 4 weighs: in patches twice as fine, its weight lies around the same place.
    kernel = torch.zeros(2, 3, 4)
    kernel[1, 0, 2] = 8.0
    depth, height, width = (
        torch.tensor(shares)
        for shares in ([0, 0.25, 0.75, 1], [1, 0.75, 0.25, 0, 0, 0], [0, 0, 0, 0.25, 0.75, 0.75, 0.25, 0])
    )
    finer = resampled_kernel(kernel.view(1, 24), (2, 3, 4), (4, 6, 8))
    assert torch.allclose(finer.view(4, 6, 8), torch.einsum("d,h,w->dhw", depth, height, width), atol=1e-6)


@pytest.mark.parametrize("wanted", [(4, 6, 8), (1, 3, 2), (3, 4, 5), (6, 1, 7)])
def test_a_patch_of_one_value_keeps_its_embedding(wanted: Size) -> None:
    kernel = torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
    resized = resampled_kernel(kernel, (2, 3, 4), wanted)
    before, after = kernel @ torch.full((24,), 0.7), resized @ torch.full((resized.shape[1],), 0.7)
    assert torch.allclose(before, after, atol=1e-5)


def test_a_kernel_of_another_patch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[5, 24\] is not one of patches of \(2, 3, 5\) voxels"):
        resampled_kernel(torch.zeros(5, 24), (2, 3, 5), (4, 6, 8))


def moved(found: ViTSettings, wanted: ViTSettings, **changes: Any) -> tuple[ViT3D, ViT3D]:
    torch.manual_seed(0)
    start, other = ViT3D(found).eval(), ViT3D(wanted).eval()
    with torch.no_grad():
        for parameter in start.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
        for name, value in changes.items():
            start.get_parameter(name).copy_(value)
    other.load_state_dict(at_resolution(start.state_dict(), found, wanted))
    return start, other


def test_an_even_scan_looks_the_same_at_both_resolutions() -> None:
    # With one position everywhere, so that patches alone can tell the two apart.
    normal, high = moved(NORMAL, HIGH, positions=torch.linspace(-1, 1, 12))
    with torch.inference_mode():
        expected = normal(torch.full((1, 1, *NORMAL.volume), 0.3))[0, 0]
        features = high(torch.full((1, 1, *HIGH.volume), 0.3))
    assert features.shape == (1, 8 * 6 * 4, 12) and (expected.abs() > 0.01).any()
    assert torch.allclose(features, expected.expand_as(features), atol=1e-5)


def test_all_but_patches_and_positions_stays_and_the_same_resolution_changes_nothing() -> None:
    normal, high = moved(NORMAL, HIGH)
    changed = {name for name, one in normal.state_dict().items() if not torch.equal(one, high.get_parameter(name))}
    assert changed == {"positions", "patch_embedding.weight"}
    same = at_resolution(normal.state_dict(), NORMAL, NORMAL)
    assert all(torch.equal(one, same[name]) for name, one in normal.state_dict().items())
