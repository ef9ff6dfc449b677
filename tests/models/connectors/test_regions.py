"""Reg2RG's regions: texture and geometry, each from its own source, with the publication's axes."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from rlaif.models.connectors.regions import RegionConnector
from rlaif.models.connectors.settings import MaskEncoderSettings, PerceiverSettings, RegionSettings

MASK = MaskEncoderSettings(volume=(4, 6, 10), patch=(2, 3, 5), hidden=6, layers=2, heads=2, head_size=4, intermediate=7)
SETTINGS = RegionSettings(perceiver=PerceiverSettings(latents=3, layers=1, heads=2, head_size=4), mask=MASK)


def connector() -> RegionConnector:
    """A connector whose every weight matters."""
    torch.manual_seed(0)
    made = RegionConnector(SETTINGS, 6, 5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return made


def normed(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    spread = (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def geometry(state: dict[str, Tensor], mask: Tensor) -> Tensor:
    """The geometry token of one mask as Reg2RG lays it out: height, width, depth."""
    published = mask.permute(1, 2, 0)
    patches, positions = [], []
    for h in range(2):
        for w in range(2):
            for d in range(2):
                voxels = [
                    published[3 * h + i, 5 * w + j, 2 * d + k] for i in range(3) for j in range(5) for k in range(2)
                ]
                patches.append(torch.stack(voxels))
                tables = ((h, "rows"), (w, "columns"), (d, "depths"))
                positions.append(torch.cat([state[f"mask_encoder.positions.{name}.weight"][at] for at, name in tables]))
    x = normed(torch.stack(patches), state, "mask_encoder.patch_embedding.0")
    x = normed(linear(x, state, "mask_encoder.patch_embedding.1"), state, "mask_encoder.patch_embedding.2")
    x = x + torch.stack(positions)
    for block in (f"mask_encoder.blocks.{number}" for number in range(MASK.layers)):
        qkv = normed(x, state, f"{block}.attention.norm") @ state[f"{block}.attention.to_qkv.weight"].T
        heads = []
        for head in range(2):
            query, key, value = (qkv[:, 8 * part + 4 * head : 8 * part + 4 * head + 4] for part in range(3))
            heads.append(torch.softmax(query @ key.T / 2, dim=1) @ value)
        x = x + linear(torch.cat(heads, dim=1), state, f"{block}.attention.to_out")
        inner = linear(normed(x, state, f"{block}.feed_forward.norm"), state, f"{block}.feed_forward.rise")
        x = x + linear(0.5 * inner * (1 + torch.erf(inner / 2**0.5)), state, f"{block}.feed_forward.fall")
    return linear(x.mean(dim=0), state, "mask_fc")


def test_the_geometry_token_equals_the_steps_in_the_publications_axes() -> None:
    made = connector()
    masks = torch.rand(2, *MASK.volume)
    with torch.no_grad():
        tokens = made.regions(torch.randn(2, 7, 6), masks)
        for region in range(2):
            assert torch.allclose(tokens[region, -1], geometry(made.state_dict(), masks[region]), atol=1e-5)


def test_a_regions_texture_comes_first_and_is_read_as_a_scan_is() -> None:
    made = connector()
    features = torch.randn(2, 7, 6)
    with torch.no_grad():
        assert torch.equal(made.regions(features, torch.rand(2, *MASK.volume))[:, :-1], made(features))


def test_the_mask_alone_makes_the_geometry() -> None:
    made = connector()
    features, masks = torch.randn(2, 7, 6), torch.zeros(2, *MASK.volume)
    moved = masks.clone()
    moved[1, :2, 3:, :4] = 1.0
    with torch.no_grad():
        before, after, other = (
            made.regions(features, masks),
            made.regions(features, moved),
            made.regions(-features, moved),
        )
    assert torch.equal(before[:, :-1], after[:, :-1]) and torch.equal(before[0], after[0])
    assert (before[1, -1] - after[1, -1]).abs().max() > 1e-2
    assert torch.equal(after[:, -1], other[:, -1]) and not torch.allclose(after[:, :-1], other[:, :-1], atol=1e-3)


def test_the_same_shape_elsewhere_has_another_geometry() -> None:
    made = connector()
    masks = torch.zeros(2, *MASK.volume)
    masks[0, :2, :3, :4] = 1.0
    masks[1, 2:, :3, :4] = 1.0
    with torch.no_grad():
        first, second = made.regions(torch.randn(2, 7, 6), masks)[:, -1]
    assert not torch.allclose(first, second, atol=1e-3)


def test_as_in_the_publication_a_full_patch_looks_like_an_empty_one() -> None:
    made = connector()
    masks = torch.zeros(2, *MASK.volume)
    masks[1, :2, :3, :5] = 1.0
    with torch.no_grad():
        empty, full = made.regions(torch.randn(2, 7, 6), masks)[:, -1]
    assert torch.allclose(empty, full, atol=1e-5)


def test_a_region_does_not_depend_on_the_others_of_the_batch() -> None:
    made = connector()
    features, masks = torch.randn(4, 7, 6), torch.rand(4, *MASK.volume)
    with torch.no_grad():
        together = made.regions(features, masks)
        alone = made.regions(features[2:3], masks[2:3])
    assert torch.allclose(together[2], alone[0], atol=1e-5)


def test_at_the_papers_size_a_scan_has_32_tokens_and_a_region_33() -> None:
    settings = RegionSettings()
    assert settings.region_tokens == 33 and settings.mask.tokens == 8 * 8 * 4
    with torch.device("meta"):
        made = RegionConnector(settings, 768, 4096)
        scan = made(torch.empty(1, 1024, 768))
        regions = made.regions(torch.empty(10, 1024, 768), torch.empty(10, 64, 256, 256))
    assert scan.shape == (1, 32, 4096) and regions.shape == (10, 33, 4096)


@pytest.mark.parametrize("shape", [(1, 6, 10, 4), (1, 4, 6, 5), (1, 1, 4, 6, 10)])
def test_masks_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes masks \[regions, 4, 6, 10\]"):
        connector().regions(torch.randn(1, 7, 6), torch.zeros(shape))


@pytest.mark.parametrize("wrong", [{"volume": (64, 256, 250)}, {"patch": (0, 32, 32)}, {"hidden": 256}])
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"multiple of|greater than or equal to 1"):
        MaskEncoderSettings(**wrong)
