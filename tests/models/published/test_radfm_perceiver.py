"""RadFM's Perceiver: its file of two parts comes in whole, without the layer to another language model."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlaif.models.connectors.perceiver import Perceiver
from rlaif.models.connectors.settings import PerceiverSettings
from rlaif.models.published.radfm import PERCEIVER
from rlaif.models.published.weight_table import PublishedWeightsError, load_published, read_published

SETTINGS = PerceiverSettings(latents=4, layers=2, heads=2, head_size=4)


def published(features: int = 6, inner: int = 8, latents: int = 4, layers: int = 2) -> dict[str, dict[str, Tensor]]:
    """The parts, names and shapes of RadFM_perceiver_fc.pth."""
    perceiver = {"latents": (latents, features), "norm.weight": (features,), "norm.bias": (features,)}
    for layer in (f"layers.{number}" for number in range(layers)):
        for norm in ("0.norm_media", "0.norm_latents", "1.0"):
            perceiver |= {f"{layer}.{norm}.weight": (features,), f"{layer}.{norm}.bias": (features,)}
        perceiver |= {f"{layer}.0.to_q.weight": (inner, features), f"{layer}.0.to_kv.weight": (2 * inner, features)}
        perceiver |= {f"{layer}.0.to_out.weight": (features, inner)}
        perceiver |= {f"{layer}.1.1.weight": (4 * features, features), f"{layer}.1.3.weight": (features, 4 * features)}
    torch.manual_seed(0)
    return {
        "perceiver": {name: torch.randn(shape) for name, shape in perceiver.items()},
        "fc": {"weight": torch.randn(20, features), "bias": torch.randn(20)},
    }


def read(path: Path, parts: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    torch.save(parts, path)
    return read_published(path)


def test_the_file_comes_in_and_the_last_layer_keeps_its_start(tmp_path: Path) -> None:
    parts = published()
    connector = Perceiver(SETTINGS, 6, 5)
    start = connector.fc.weight.clone()
    load_published(connector, read(tmp_path / "RadFM_perceiver_fc.pth", parts), PERCEIVER, "RadFM_perceiver_fc.pth")
    ours = connector.state_dict()
    for theirs, name in (
        ("latents", "latents"),
        ("layers.1.0.norm_latents.weight", "layers.1.norm_latents.weight"),
        ("layers.1.0.to_kv.weight", "layers.1.to_kv.weight"),
        ("layers.0.1.0.bias", "layers.0.feed_forward.norm.bias"),
        ("layers.0.1.3.weight", "layers.0.feed_forward.fall.weight"),
        ("norm.bias", "norm.bias"),
    ):
        assert torch.equal(ours[name], parts["perceiver"][theirs]), name
    assert torch.equal(connector.fc.weight, start)


def test_it_fits_at_the_published_size() -> None:
    weights = published(features=768, inner=512, latents=32, layers=6)
    named = {f"{part}.{name}": value.to("meta") for part, held in weights.items() for name, value in held.items()}
    with torch.device("meta"):
        connector = Perceiver(PerceiverSettings(), 768, 4096)
    load_published(connector, named, PERCEIVER, "RadFM_perceiver_fc.pth")


def test_another_number_of_latents_is_told(tmp_path: Path) -> None:
    weights = read(tmp_path / "RadFM_perceiver_fc.pth", published(latents=3))
    with pytest.raises(PublishedWeightsError, match=r"1 of another shape: latents \[3, 6\] numbers, here \[4, 6\]"):
        load_published(Perceiver(SETTINGS, 6, 5), weights, PERCEIVER, "RadFM_perceiver_fc.pth")


def test_a_missing_layer_is_told(tmp_path: Path) -> None:
    weights = read(tmp_path / "RadFM_perceiver_fc.pth", published(layers=1))
    with pytest.raises(PublishedWeightsError, match="11 missing"):
        load_published(Perceiver(SETTINGS, 6, 5), weights, PERCEIVER, "RadFM_perceiver_fc.pth")
