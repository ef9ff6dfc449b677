"""The vision encoder: what it attends to, what order means to it, and what it refuses."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from rlaif.models.encoders.ctvit import Codebook, ContinuousPositionBias, CTViT
from rlaif.models.encoders.settings import CTViTSettings

SETTINGS = CTViTSettings(
    volume=(12, 8, 16), patch=(2, 2, 4), hidden=16, spatial_depth=1, slice_depth=1, heads=2, head_size=8
)


def encoder(settings: CTViTSettings = SETTINGS, seed: int = 0) -> CTViT:
    torch.manual_seed(seed)
    return CTViT(settings).eval()


def volume(seed: int = 0) -> Tensor:
    return torch.randn(1, 1, *SETTINGS.volume, generator=torch.Generator().manual_seed(seed))


def released(**changes: object) -> CTViTSettings:
    return CTViTSettings.model_validate(SETTINGS.model_dump() | {"released": True} | changes)


def changed_slices(model: CTViT, first: Tensor, second: Tensor) -> list[bool]:
    """Which pooled slices of the features differ between two volumes."""
    with torch.inference_mode():
        differences = (model(first) - model(second)).abs()
    depth = model.settings.grid[0] // model.settings.pool
    return [bool(part.max() > 1e-6) for part in differences[0].chunk(depth)]


def test_the_pooled_grid_gives_the_stated_tokens() -> None:
    assert SETTINGS.grid == (6, 4, 4) and SETTINGS.tokens == 3 * 2 * 2
    with torch.inference_mode():
        features = encoder()(volume().expand(3, -1, -1, -1, -1))
    assert features.shape == (3, 12, 16)
    assert torch.equal(features[0], features[1]) and torch.isfinite(features).all()


def test_tokens_stand_in_the_order_depth_height_width() -> None:
    # Without attention across slices and without their convolutions, a token sees its own slice alone.
    settings = SETTINGS.model_copy(update={"spatial_depth": 0, "slice_depth": 0})
    model = encoder(settings)
    touched = volume()
    touched[0, 0, 8:12, 0:4, 8:16].mul_(-1.0)  # pooled patch (2, 0, 1) of a grid of (3, 2, 2)
    with torch.inference_mode():
        differences = (model(touched) - model(volume())).abs().amax(dim=-1)[0]
    assert [token for token, difference in enumerate(differences) if difference > 1e-6] == [2 * 4 + 0 * 2 + 1]


@pytest.mark.parametrize("place", [slice(0, 2), slice(10, 12)])
def test_every_slice_attends_to_every_other(place: slice) -> None:
    touched = volume()
    touched[:, :, place] += torch.randn(touched[:, :, place].shape, generator=torch.Generator().manual_seed(9))
    assert changed_slices(encoder(), volume(), touched) == [True, True, True]


def test_the_convolution_alone_would_not_reach_so_far() -> None:
    model = encoder()
    with torch.no_grad():
        model.slices[0].attention.to_out.weight.zero_()
    touched = volume()
    touched[:, :, 10:12] += torch.randn(1, 1, 2, 8, 16, generator=torch.Generator().manual_seed(9))
    assert changed_slices(model, volume(), touched) == [False, True, True]


def test_the_order_of_slices_matters() -> None:
    flipped = volume().flip(2)
    with torch.inference_mode():
        straight, turned = encoder()(volume()), encoder()(flipped)
    # Neither the same features, nor the same ones in another order.
    turned_back = turned.view(1, 3, 4, 16).flip(1).reshape(1, 12, 16)
    assert (straight - turned).abs().max() > 1e-3 and (straight - turned_back).abs().max() > 1e-3


def test_the_slice_bias_begins_as_none_and_a_trained_one_matters() -> None:
    model = encoder()
    assert torch.equal(model.slice_bias(6), torch.zeros(2, 6, 6))
    with torch.inference_mode():
        before = model(volume())
        torch.nn.init.normal_(model.slice_bias.out.weight)
        after = model(volume())
    assert (before - after).abs().max() > 1e-5


def test_a_position_bias_depends_on_relative_positions_alone() -> None:
    torch.manual_seed(0)
    bias = ContinuousPositionBias(2, 2, 8, zero=False)(3, 4)
    assert bias.shape == (2, 12, 12)
    # (0, 0) to (1, 1), and (1, 2) to (2, 3).
    assert torch.allclose(bias[:, 5, 0], bias[:, 11, 6])
    assert not torch.allclose(bias[:, 5, 0], bias[:, 0, 5])


def test_the_released_form_differs_on_cubes_too() -> None:
    settings = released(volume=(8, 8, 8), patch=(2, 2, 2))
    ours = settings.model_copy(update={"released": False})
    as_released, as_ours = encoder(settings), encoder(ours)
    as_ours.load_state_dict(as_released.state_dict(), strict=False)
    scan = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (as_released(scan) - as_ours(scan)).abs().max() > 1e-2


def test_quantised_features_are_entries_as_they_are_stored_in_half_precision_too() -> None:
    model = encoder(released(codebook=5, pool=1)).bfloat16()
    with torch.inference_mode():
        model.codebook.entries.mul_(torch.arange(1.0, 6.0)[:, None])
        features = model(volume().bfloat16())[0]
    entries = model.codebook.entries[0]
    assert features.dtype == torch.bfloat16
    assert all((entries == token).all(dim=-1).any() for token in features)
    # The longest entry is not the nearest one of all.
    assert len({tuple(token.tolist()) for token in features}) > 1


def test_a_codebook_chooses_by_direction_and_lets_gradients_pass_in_training() -> None:
    codebook = Codebook(3, 2)
    codebook.entries.copy_(torch.tensor([[[9.0, 0.0], [0.0, 0.5], [-1.0, 0.0]]]))
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 1.0], [-0.1, 0.0]]], requires_grad=True)
    expected = [[[0.0, 0.5], [9.0, 0.0], [-1.0, 0.0]]]
    assert torch.equal(codebook.eval()(tokens), torch.tensor(expected))
    quantised = codebook.train()(tokens)
    assert torch.allclose(quantised, torch.tensor(expected))
    (quantised * torch.tensor([1.0, 2.0])).sum().backward()
    assert tokens.grad is not None and tokens.grad.tolist() == [[[1.0, 2.0]] * 3]


def test_the_papers_encoder_has_its_size_and_the_released_one_runs_without_storage() -> None:
    paper = CTViTSettings(volume=(240, 480, 480), patch=(15, 30, 30))
    second = CTViTSettings(volume=(240, 480, 480), patch=(10, 20, 20), pool=1, released=True, codebook=8192)
    with torch.device("meta"):
        assert CTViT(paper)(torch.empty(1, 1, 240, 480, 480)).shape == (1, 512, 512)
        assert CTViT(second).eval()(torch.empty(1, 1, 240, 480, 480)).shape == (1, 24**3, 512)


def test_the_same_seed_gives_the_same_features() -> None:
    with torch.inference_mode():
        assert torch.equal(encoder(seed=1)(volume()), encoder(seed=1)(volume()))
        assert not torch.equal(encoder(seed=1)(volume()), encoder(seed=2)(volume()))


def test_a_volume_of_another_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes volumes \[batch, 1, 12, 8, 16\], got \[1, 1, 12, 16, 8\]"):
        encoder()(torch.zeros(1, 1, 12, 16, 8))
    with pytest.raises(ValueError, match="use the recipe that the policy names"):
        encoder()(torch.zeros(1, 12, 8, 16))


def test_a_geometry_that_leaves_voxels_over_is_refused() -> None:
    with pytest.raises(ValidationError, match="volume height 8 is no multiple of patch 3 x pool 2"):
        CTViTSettings(volume=(12, 8, 16), patch=(2, 3, 4))
    with pytest.raises(ValidationError, match="codebook"):
        released(codebook=-1)
