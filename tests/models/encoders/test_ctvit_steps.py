"""CTViT-V, and CTViT as CT-CLIP released it, against the same steps written out for one token at a time."""

import math

import pytest
import torch
from torch import Tensor

from rlaif.models.encoders.ctvit import CTViT
from rlaif.models.encoders.settings import CTViTSettings

Grid = dict[tuple[int, int, int], Tensor]

SETTINGS = CTViTSettings(
    volume=(12, 8, 16), patch=(2, 2, 4), hidden=16, spatial_depth=1, slice_depth=1, heads=2, head_size=8
)


def released(**changes: object) -> CTViTSettings:
    return CTViTSettings.model_validate(SETTINGS.model_dump() | {"released": True} | changes)


class StepByStep:
    """The features of one study, token by token in double precision, from an encoder's weights alone."""

    def __init__(self, model: CTViT) -> None:
        self.settings = model.settings
        self.weights = {name: value.double() for name, value in model.state_dict().items()}

    def linear(self, x: Tensor, name: str) -> Tensor:
        bias = self.weights.get(f"{name}.bias")
        product = self.weights[f"{name}.weight"] @ x
        return product if bias is None else product + bias

    def norm(self, x: Tensor, name: str) -> Tensor:
        centred = x - x.mean()
        scaled = centred / torch.sqrt((centred**2).mean() + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def bias(self, name: str, places: list[tuple[int, ...]]) -> Tensor:
        """The addition to the logits, `[heads, queries, keys]`."""
        bias = torch.zeros(self.settings.heads, len(places), len(places), dtype=torch.double)
        for i, query in enumerate(places):
            for j, key in enumerate(places):
                steps = [a - b for a, b in zip(query, key, strict=True)]
                x = torch.tensor([math.copysign(math.log(abs(step) + 1), step) for step in steps]).double()
                for layer in ("net.0", "net.2"):
                    x = self.linear(x, f"{name}.{layer}")
                    x = torch.where(x > 0, x, 0.1 * x)
                bias[:, i, j] = self.linear(x, f"{name}.out")
        return bias

    def convolution(self, grid: Grid, name: str) -> Grid:
        kernel, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        before = 2 if self.settings.released else 1
        result = {}
        for a, b, c in grid:
            total = bias.clone()
            for i in range(3):
                for j in range(3):
                    for k in range(3):
                        seen = grid.get((a + i - before, b + j - 1, c + k - 1))
                        if seen is not None:
                            total += kernel[:, 0, i, j, k] * seen
            result[a, b, c] = total
        return result

    def attention(self, tokens: list[Tensor], name: str, bias: Tensor | None) -> list[Tensor]:
        size = self.settings.head_size
        queries = [self.linear(self.norm(token, f"{name}.norm"), f"{name}.to_queries") for token in tokens]
        both = [self.linear(token, f"{name}.to_keys_values") for token in tokens]
        keys, values = [x[: len(x) // 2] for x in both], [x[len(x) // 2 :] for x in both]
        results = []
        for i, query in enumerate(queries):
            heads = []
            for head in range(self.settings.heads):
                part = slice(head * size, (head + 1) * size)
                q = query[part] / query[part].norm() * self.weights[f"{name}.query_scale"]
                ks = [key[part] / key[part].norm() * self.weights[f"{name}.key_scale"] for key in keys]
                logits = torch.stack([8 * (q * k).sum() for k in ks])
                if bias is not None:
                    logits = logits + bias[head, i]
                shares = torch.exp(logits) / torch.exp(logits).sum()
                heads.append(sum(share * value[part] for share, value in zip(shares, values, strict=True)))
            results.append(self.linear(torch.cat(heads), f"{name}.to_out"))
        return results

    def feed_forward(self, x: Tensor, name: str) -> Tensor:
        risen = self.linear(self.norm(x, f"{name}.norm"), f"{name}.rise")
        value, gate = risen[: len(risen) // 2], risen[len(risen) // 2 :]
        return self.linear(value * gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2))), f"{name}.fall")

    def block(
        self,
        grid: Grid,
        name: str,
        groups: list[list[tuple[int, int, int]]],
        bias: Tensor | None,
    ) -> Grid:
        places = list(grid)
        if self.settings.released and name.startswith("slices"):
            # As the release reads its tokens: each group's in turn, set into the grid in the order of its places.
            read = [place for group in groups for place in group]
            convolved = self.convolution(dict(zip(places, (grid[p] for p in read), strict=True)), f"{name}.position")
            moved = dict(zip(read, (convolved[p] for p in places), strict=True))
        else:
            moved = self.convolution(grid, f"{name}.position")
        grid = {place: grid[place] + moved[place] for place in places}
        for group in groups:
            attended = self.attention([grid[place] for place in group], f"{name}.attention", bias)
            for place, change in zip(group, attended, strict=True):
                grid[place] = grid[place] + change
        return {place: x + self.feed_forward(x, f"{name}.feed_forward") for place, x in grid.items()}

    def features(self, scan: Tensor) -> Tensor:
        (depth, height, width), (pd, ph, pw) = self.settings.grid, self.settings.patch
        slices, rows, columns = range(depth), range(height), range(width)
        grid = {}
        for t in slices:
            for h in rows:
                for w in columns:
                    patch = scan[t * pd : (t + 1) * pd, h * ph : (h + 1) * ph, w * pw : (w + 1) * pw].double()
                    x = self.norm(patch.flatten(), "patch_embedding.0")
                    grid[t, h, w] = self.norm(self.linear(x, "patch_embedding.1"), "patch_embedding.2")
        in_slice = [[(t, h, w) for h in rows for w in columns] for t in slices]
        across = [[(t, h, w) for t in slices] for h in rows for w in columns]
        bias = self.bias("spatial_bias", [(h, w) for h in rows for w in columns])
        for layer in range(self.settings.spatial_depth):
            grid = self.block(grid, f"spatial.{layer}", in_slice, bias)
        grid = {place: self.norm(x, "spatial_norm") for place, x in grid.items()}
        slice_bias = None if self.settings.released else self.bias("slice_bias", [(t,) for t in slices])
        for layer in range(self.settings.slice_depth):
            grid = self.block(grid, f"slices.{layer}", across, slice_bias)
        grid = {place: self.norm(x, "slice_norm") for place, x in grid.items()}
        if self.settings.codebook:
            entries = list(self.weights["codebook.entries"][0])
            for place, x in grid.items():
                grid[place] = max(entries, key=lambda entry: float((entry / entry.norm() * x).sum()))
        n = self.settings.pool
        return torch.stack(
            [
                sum(grid[t * n + i, h * n + j, w * n + k] for i in range(n) for j in range(n) for k in range(n)) / n**3
                for t in range(depth // n)
                for h in range(height // n)
                for w in range(width // n)
            ]
        )


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        SETTINGS.model_copy(update={"codebook": 7}),
        released(),
        released(volume=(6, 4, 16), pool=1),
        released(volume=(8, 8, 8), patch=(2, 2, 2), spatial_depth=2, slice_depth=2),
        released(volume=(8, 8, 8), patch=(2, 2, 2), pool=1, codebook=40),
        released(volume=(6, 4, 16), pool=1, codebook=40),
    ],
    ids=["ctvit-v", "ctvit-v-codebook", "released", "unpooled", "cube-deeper", "cube-codebook", "unpooled-codebook"],
)
def test_features_are_those_of_the_steps_one_by_one(settings: CTViTSettings) -> None:
    torch.manual_seed(0)
    model = CTViT(settings).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    scan = torch.randn(2, 1, *settings.volume, generator=generator)
    with torch.inference_mode():
        features = model(scan)
        expected = torch.stack([StepByStep(model).features(one[0]) for one in scan])
    assert features.shape == (2, settings.tokens, settings.hidden)
    assert (features - expected).abs().max() < 1e-5
    # The features are no constants that any order of steps would give.
    assert features.std(dim=1).min() > 1e-2
