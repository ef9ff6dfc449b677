"""RadFM's vision transformer, against the publication's steps written out token by token."""

import math

import pytest
import torch
from torch import Tensor

from rlaif.models.encoders.radfm import RadFMViT
from rlaif.models.encoders.settings import RadFMSettings

# A grid of 2 x 3 x 4 patches, each of other sides, on larger position tables of depth, rows and columns.
SETTINGS = RadFMSettings(
    volume=(4, 3, 12),
    patch=(2, 1, 3),
    hidden=12,
    layers=2,
    heads=2,
    head_size=5,
    intermediate=14,
    position_tables=(5, 6, 9),
)
# Places of a smaller grid in the tables: (i + 1) * (entries // places) - 1.
DEPTHS, ROWS, COLUMNS = (1, 3), (1, 3, 5), (1, 3, 5, 7)


def encoder(settings: RadFMSettings = SETTINGS) -> RadFMViT:
    """One in which every weight matters, those of the norms too."""
    torch.manual_seed(0)
    model = RadFMViT(settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model


def scan(studies: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(studies, 1, *SETTINGS.volume, generator=torch.Generator().manual_seed(seed))


class StepByStep:
    """The publication's forward pass of one study in double precision, by our names of its weights."""

    def __init__(self, model: RadFMViT) -> None:
        self.settings = model.settings
        self.weights = {name: value.double() for name, value in model.state_dict().items()}

    def linear(self, x: Tensor, name: str) -> Tensor:
        product = x @ self.weights[f"{name}.weight"].T
        return product + self.weights[f"{name}.bias"] if f"{name}.bias" in self.weights else product

    def norm(self, x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / torch.sqrt((centred**2).mean(dim=-1, keepdim=True) + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(self, x: Tensor, name: str) -> Tensor:
        size, heads = self.settings.head_size, self.settings.heads
        projected = self.linear(self.norm(x, f"{name}.norm"), f"{name}.to_qkv")
        mixed = []
        for head in range(heads):
            queries, keys, values = (
                projected[:, (part * heads + head) * size : (part * heads + head + 1) * size] for part in range(3)
            )
            shares = torch.exp(queries @ keys.T / math.sqrt(size))
            mixed.append(shares / shares.sum(dim=1, keepdim=True) @ values)
        return self.linear(torch.cat(mixed, dim=1), f"{name}.to_out")

    def feed_forward(self, x: Tensor, name: str) -> Tensor:
        risen = self.linear(self.norm(x, f"{name}.norm"), f"{name}.rise")
        return self.linear(risen * 0.5 * (1 + torch.erf(risen / math.sqrt(2))), f"{name}.fall")

    def features(self, volume: Tensor) -> dict[tuple[int, int, int], Tensor]:
        """Of `[depth, height, width]`, the features of each patch by its place (depth, height, width)."""
        # The publication feeds three channels, height, width, depth, and counts patches and voxels in that order.
        image = volume.double().permute(1, 2, 0).expand(3, -1, -1, -1)
        pf, p1, p2 = self.settings.patch
        tables = [self.weights[f"positions.{name}.weight"] for name in ("rows", "columns", "depths")]
        tokens, places = [], []
        for h in range(3):
            for w in range(4):
                for f in range(2):
                    patch = image[:, h * p1 : (h + 1) * p1, w * p2 : (w + 1) * p2, f * pf : (f + 1) * pf]
                    voxels = torch.stack(
                        [patch[c, i, j, k] for i in range(p1) for j in range(p2) for k in range(pf) for c in range(3)]
                    )
                    x = self.norm(voxels, "patch_embedding.0")
                    x = self.norm(self.linear(x, "patch_embedding.1"), "patch_embedding.2")
                    entries = zip(tables, (ROWS[h], COLUMNS[w], DEPTHS[f]), strict=True)
                    tokens.append(x + torch.cat([table[entry] for table, entry in entries]))
                    places.append((f, h, w))
        x = torch.stack(tokens)
        for layer in range(self.settings.layers):
            x = x + self.attention(x, f"blocks.{layer}.attention")
            x = x + self.feed_forward(x, f"blocks.{layer}.feed_forward")
        return dict(zip(places, x, strict=True))


def test_features_are_the_publications_in_our_order() -> None:
    model, volumes = encoder(), scan(2)
    with torch.inference_mode():
        features = model(volumes)
    for study in range(2):
        expected = StepByStep(model).features(volumes[study, 0])
        # Depth, height and width, the last fastest.
        assert torch.allclose(features[study].double(), torch.stack([expected[p] for p in sorted(expected)]), atol=1e-5)


def test_pooled_features_are_means_of_neighbours() -> None:
    # Each patch of a grid of 2 x 4 x 4 has its place; pooled cells stand in the same order.
    settings = SETTINGS.model_copy(update={"volume": (4, 4, 12)})
    model, pooled = encoder(settings), encoder(settings.model_copy(update={"pool": 2}))
    volume = torch.randn(1, 1, 4, 4, 12)
    with torch.inference_mode():
        cells, features = model(volume).view(2, 4, 4, 12), pooled(volume)[0]
    for token, (h, w) in enumerate(((0, 0), (0, 2), (2, 0), (2, 2))):
        assert torch.allclose(features[token], cells[:, h : h + 2, w : w + 2].mean(dim=(0, 1, 2)), atol=1e-5)


def test_the_papers_size() -> None:
    with torch.device("meta"):
        model = RadFMViT(RadFMSettings(volume=(64, 256, 256), patch=(4, 32, 32)))
        assert model(torch.empty(2, 1, 64, 256, 256)).shape == (2, 1024, 768)
    assert sum(one.numel() for one in model.parameters()) == 66_208_000


def test_half_precision_gives_nearly_the_same() -> None:
    model, volume = encoder(), scan()
    with torch.inference_mode():
        full = model(volume)
        half = model.bfloat16()(volume.bfloat16())
    assert half.dtype == torch.bfloat16 and (half.float() - full).abs().max() < 0.1


@pytest.mark.parametrize("shape", [(1, 1, 3, 12, 4), (1, 1, 4, 12, 3), (1, 3, 4, 3, 12), (4, 3, 12)])
def test_a_volume_of_another_recipe_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes volumes \[batch, 1, 4, 3, 12\], got .*use the recipe"):
        encoder()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden": 13}, "hidden 13 is no multiple of 3"),
        ({"position_tables": (1, 6, 9)}, "larger than the position tables"),
    ],
)
def test_positions_must_fit(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RadFMSettings.model_validate(SETTINGS.model_dump() | change)
