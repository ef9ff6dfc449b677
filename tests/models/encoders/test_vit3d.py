"""M3D's and Argus' vision transformer, against the same steps written out token by token."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from rlaif.models.encoders.settings import ViTSettings
from rlaif.models.encoders.vit3d import ViT3D

# Grids of unequal sides, so that no two axes can be taken for each other: 2 x 3 x 4 in two frames, and 4 x 6 x 8.
M3D = ViTSettings(volume=(4, 6, 12), patch=(1, 2, 3), frames=2, hidden=12, layers=2, heads=3, intermediate=20)
ARGUS = ViTSettings(
    volume=(4, 18, 16),
    patch=(1, 3, 2),
    pool=2,
    hidden=8,
    layers=1,
    heads=2,
    intermediate=12,
    class_token=False,
    qkv_bias=True,
)


def encoder(settings: ViTSettings) -> ViT3D:
    """One in which every weight matters, class token and norms too."""
    torch.manual_seed(0)
    model = ViT3D(settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model


def scan(settings: ViTSettings, studies: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(studies, 1, *settings.volume, generator=torch.Generator().manual_seed(seed))


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    product = x @ weights[f"{name}.weight"].T
    return product + weights[f"{name}.bias"] if f"{name}.bias" in weights else product


def norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(dim=1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(dim=1, keepdim=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def block(x: Tensor, weights: dict[str, Tensor], name: str, heads: int) -> Tensor:
    width = x.shape[1]
    projected = linear(norm(x, weights, f"{name}.attention_norm"), weights, f"{name}.qkv")
    mixed = []
    for head in range(heads):
        queries, keys, values = (
            projected[:, part * width :][:, head * width // heads : (head + 1) * width // heads] for part in range(3)
        )
        shares = torch.exp(queries @ keys.T / math.sqrt(width // heads))
        mixed.append(shares / shares.sum(dim=1, keepdim=True) @ values)
    x = x + linear(torch.cat(mixed, dim=1), weights, f"{name}.out")
    risen = linear(norm(x, weights, f"{name}.feed_forward_norm"), weights, f"{name}.rise")
    return x + linear(risen * 0.5 * (1 + torch.erf(risen / math.sqrt(2))), weights, f"{name}.fall")


def step_by_step(model: ViT3D, volume: Tensor) -> Tensor:
    """The features of one study `[depth, height, width]`, in double precision, from the weights alone."""
    settings = model.settings
    weights = {name: value.double() for name, value in model.state_dict().items()}
    (depth, height, width), (pd, ph, pw) = settings.grid, settings.patch
    places = [(d, h, w) for d in range(depth) for h in range(height) for w in range(width)]
    features = []
    for frame in volume.double().chunk(settings.frames):
        tokens = []
        for number, (d, h, w) in enumerate(places):
            patch = frame[d * pd : (d + 1) * pd, h * ph : (h + 1) * ph, w * pw : (w + 1) * pw]
            voxels = torch.stack([patch[i, j, k] for i in range(pd) for j in range(ph) for k in range(pw)])
            tokens.append(linear(voxels, weights, "patch_embedding") + weights["positions"][0, number])
        if settings.class_token:
            tokens.insert(0, weights["class_token"][0, 0])
        x = torch.stack(tokens)
        for layer in range(settings.layers):
            x = block(x, weights, f"blocks.{layer}", settings.heads)
        x = norm(x, weights, "norm")[1 if settings.class_token else 0 :]
        cells: dict[tuple[int, ...], list[Tensor]] = {}
        for place, token in zip(places, x, strict=True):
            cells.setdefault(tuple(side // settings.pool for side in place), []).append(token)
        features += [torch.stack(cells[cell]).mean(dim=0) for cell in sorted(cells)]
    return torch.stack(features)


@pytest.mark.parametrize("settings", [M3D, ARGUS, M3D.model_copy(update={"pool": 1, "class_token": False})])
def test_features_are_those_of_the_steps_written_out(settings: ViTSettings) -> None:
    model, volumes = encoder(settings), scan(settings, studies=2)
    with torch.inference_mode():
        features = model(volumes)
    assert features.shape == (2, settings.tokens, settings.hidden)
    for study in range(2):
        assert torch.allclose(features[study].double(), step_by_step(model, volumes[study, 0]), atol=1e-5)


def test_a_frame_does_not_see_the_others() -> None:
    model, first, second = encoder(M3D), scan(M3D), scan(M3D)
    second[:, :, 2:] = scan(M3D, seed=1)[:, :, 2:]
    with torch.inference_mode():
        one, other = model(first).chunk(2, dim=1), model(second).chunk(2, dim=1)
        alone = model(torch.cat((second[:, :, 2:], first[:, :, :2]), dim=2)).chunk(2, dim=1)
    assert torch.equal(one[0], other[0]) and (one[1] - other[1]).abs().max() > 1e-2
    # Frames share positions and weights, so their features change places with them.
    assert torch.equal(alone[0], other[1]) and torch.equal(alone[1], one[0])


def test_within_a_frame_every_token_sees_every_other() -> None:
    model, changed = encoder(ARGUS), scan(ARGUS)
    changed[0, 0, 3, 17, 15] += 3
    with torch.inference_mode():
        assert ((model(changed) - model(scan(ARGUS))).abs().amax(dim=-1) > 1e-5).all()


@pytest.mark.parametrize(
    ("settings", "tokens", "parameters"),
    [
        # Patches of 1,024 voxels; 12 blocks of attention without biases; M3D's class token.
        (ViTSettings(volume=(32, 256, 256), patch=(4, 16, 16)), 2048, 87_389_184),
        (ViTSettings(volume=(32, 256, 256), patch=(4, 16, 16), pool=2), 256, 87_389_184),
        (ViTSettings(volume=(256, 256, 256), patch=(4, 16, 16), pool=2, frames=8), 8 * 256, 87_389_184),
        (
            ViTSettings(volume=(64, 256, 256), patch=(8, 16, 16), class_token=False, qkv_bias=True),
            2048,
            88_202_496,
        ),
        (
            ViTSettings(volume=(256, 512, 512), patch=(16, 32, 32), class_token=False, qkv_bias=True),
            4096,
            100_785_408,
        ),
    ],
)
def test_the_papers_sizes(settings: ViTSettings, tokens: int, parameters: int) -> None:
    with torch.device("meta"):
        model = ViT3D(settings)
        assert model(torch.empty(1, 1, *settings.volume)).shape == (1, tokens, 768)
    assert sum(one.numel() for one in model.parameters()) == parameters


def test_half_precision_gives_nearly_the_same() -> None:
    model, volume = encoder(ARGUS), scan(ARGUS)
    with torch.inference_mode():
        full = model(volume)
        half = model.bfloat16()(volume.bfloat16())
    assert half.dtype == torch.bfloat16 and (half.float() - full).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(4, 12, 6), (2, 6, 12), (8, 6, 12)])
def test_a_volume_of_another_recipe_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"takes volumes \[batch, 1, 4, 6, 12\], got \[1, 1, .*use the recipe"):
        encoder(M3D)(torch.zeros(1, 1, *shape))
    with pytest.raises(ValueError, match=r"got \[1, 3, 4, 6, 12\]"):
        encoder(M3D)(torch.zeros(1, 3, 4, 6, 12))
    with pytest.raises(ValueError, match=r"got \[4, 6, 12\]"):
        encoder(M3D)(torch.zeros(4, 6, 12))


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValueError, match="hidden 12 is no multiple of heads 5"):
        ViTSettings.model_validate(M3D.model_dump() | {"heads": 5})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"patch": (0, 4, 4)}, "patch.0\n.*greater than or equal to 1"),
        ({"volume": (8, 8, 2**20)}, "volume.2\n.*less than or equal to 4096"),
        ({"hidden": 10**9}, "hidden\n.*less than or equal to 131072"),
        ({"heads": 0}, "heads\n.*greater than or equal to 1"),
        ({"pool": 0}, "pool\n.*greater than or equal to 1"),
        ({"frames": -1}, "frames\n.*greater than or equal to 1"),
    ],
)
def test_sizes_are_positive_and_bounded(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ViTSettings.model_validate(M3D.model_dump() | given)
