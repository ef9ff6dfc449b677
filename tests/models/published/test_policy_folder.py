"""A policy folder of our own as another policy's start, at another resolution too."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rlaif.models.connectors.settings import ConnectorSettings, MlpSettings, PixelShuffleSettings
from rlaif.models.encoders.build import new_encoder
from rlaif.models.encoders.resolution import at_resolution
from rlaif.models.encoders.settings import CTViTSettings, EncoderSettings, ViTSettings
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.published.tables import load_connector, load_encoder
from rlaif.models.published.weight_table import PublishedWeightsError
from rlaif.models.settings import LanguageModelSettings, PolicyError, PolicySettings

# Argus at two resolutions: patches of twice the sides, and twice as many of them along the depth.
NORMAL = ViTSettings(
    volume=(8, 12, 16),
    patch=(2, 2, 4),
    hidden=12,
    layers=2,
    heads=3,
    intermediate=20,
    class_token=False,
    qkv_bias=True,
)
HIGH = NORMAL.model_copy(update={"volume": (32, 24, 32), "patch": (4, 4, 8)})
CTVIT = CTViTSettings(
    volume=(4, 8, 8), patch=(2, 2, 2), hidden=8, spatial_depth=1, slice_depth=1, heads=2, head_size=4, pool=1
)


def file(folder: Path, weights: dict[str, Tensor]) -> Path:
    save_file({name: value.contiguous().clone() for name, value in weights.items()}, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def drawn(module: nn.Module) -> dict[str, Tensor]:
    """Other weights for a module, by our names."""
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(one.shape, generator=generator) for name, one in module.state_dict().items()}


def same(module: nn.Module, weights: dict[str, Tensor]) -> bool:
    ours = module.state_dict()
    return ours.keys() == weights.keys() and all(torch.equal(one, weights[name]) for name, one in ours.items())


def policy(encoder: EncoderSettings | None, connector: ConnectorSettings | None, *, seed: int = 0) -> Policy:
    recipe = None if encoder is None else "phantom"
    settings = PolicySettings(name="test", size="tiny", recipe=recipe, encoder=encoder, connector=connector)
    language = LanguageModelSettings(hidden=16, layers=1, heads=2, intermediate=24, vocabulary=300, positions=128)
    return new_policy(settings, language, ["Clear lungs."], seed=seed)


@pytest.fixture
def argus(tmp_path: Path) -> tuple[Path, dict[str, Tensor], Policy]:
    """A policy folder, the weights of its encoder, and the policy."""
    one, weights = policy(NORMAL, PixelShuffleSettings()), drawn(new_encoder(NORMAL))
    one.save_pretrained(tmp_path / "argus", file(tmp_path, weights))
    return tmp_path / "argus", weights, one


def test_a_policy_folder_begins_another_at_the_same_resolution(argus: tuple[Path, dict[str, Tensor], Policy]) -> None:
    folder, weights, _ = argus
    assert same(load_encoder(NORMAL, folder, "rlaif"), weights)


def test_a_policy_folder_begins_another_at_a_higher_resolution(argus: tuple[Path, dict[str, Tensor], Policy]) -> None:
    folder, weights, start = argus
    encoder = load_encoder(HIGH, folder, "rlaif")
    assert same(encoder, at_resolution(weights, NORMAL, HIGH))
    # The grid is twice as deep: the first two layers of 24 places lie before, and a quarter after, the first before.
    positions, before = encoder.get_parameter("positions")[0], weights["positions"][0]
    assert torch.allclose(positions[:24], before[:24], atol=1e-6)
    assert torch.allclose(positions[24:48], 0.75 * before[:24] + 0.25 * before[24:48], atol=1e-6)
    other = policy(HIGH, PixelShuffleSettings(), seed=1)
    assert other.connector is not None and start.connector is not None
    assert not same(other.connector, start.connector.state_dict())
    load_connector(other, folder, "rlaif")
    assert same(other.connector, start.connector.state_dict())
    assert encoder(torch.zeros(1, 1, *HIGH.volume)).shape == (1, 192, 12)


def test_other_encoders_come_from_a_folder_as_they_are(tmp_path: Path) -> None:
    weights = drawn(new_encoder(CTVIT))
    policy(CTVIT, MlpSettings()).save_pretrained(tmp_path / "policy", file(tmp_path, weights))
    assert same(load_encoder(CTVIT, tmp_path / "policy", "rlaif"), weights)
    larger = CTVIT.model_copy(update={"volume": (8, 8, 8)})
    with pytest.raises(PublishedWeightsError, match=r"encoder differs \(volume \(4, 8, 8\), here \(8, 8, 8\)\)"):
        load_encoder(larger, tmp_path / "policy", "rlaif")
    with pytest.raises(PublishedWeightsError, match=r"policy\.json: encoder is ctvit, and the policy's vit3d"):
        load_encoder(NORMAL, tmp_path / "policy", "rlaif")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"heads": 2}, r"heads 3, here 2"),
        ({"pool": 2}, r"pool 1, here 2"),
        ({"frames": 2}, r"frames 1, here 2"),
        ({"class_token": True, "qkv_bias": False}, r"class_token False, here True; qkv_bias True, here False"),
        ({"hidden": 24}, r"hidden 12, here 24"),
    ],
)
def test_all_else_that_differs_is_told(
    argus: tuple[Path, dict[str, Tensor], Policy], change: dict[str, int], said: str
) -> None:
    with pytest.raises(PublishedWeightsError, match=rf"argus/policy\.json: encoder differs \({said}\)"):
        load_encoder(HIGH.model_copy(update=change), argus[0], "rlaif")


def test_another_connector_is_told(argus: tuple[Path, dict[str, Tensor], Policy]) -> None:
    with pytest.raises(PublishedWeightsError, match="connector is pixel_shuffle, and the policy's mlp"):
        load_connector(policy(HIGH, MlpSettings()), argus[0], "rlaif")
    deeper = NORMAL.model_copy(update={"volume": (16, 16, 32), "hidden": 6})
    with pytest.raises(PublishedWeightsError, match=r"connector differs \(factor 2, here 4\)"):
        load_connector(policy(deeper, PixelShuffleSettings(factor=4)), argus[0], "rlaif")
    with pytest.raises(PublishedWeightsError, match=r"1 of another shape: layers\.0\.weight \[16, 96\]"):
        load_connector(policy(deeper, PixelShuffleSettings()), argus[0], "rlaif")


def test_a_folder_without_what_is_wanted_is_told(argus: tuple[Path, dict[str, Tensor], Policy], tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"is no policy: it has no policy\.json"):
        load_encoder(NORMAL, tmp_path, "rlaif")
    (argus[0] / "encoder.safetensors").unlink()
    (argus[0] / "connector.safetensors").write_bytes(b"none")
    with pytest.raises(PolicyError, match=r"encoder\.safetensors does not hold what policy\.json says"):
        load_encoder(HIGH, argus[0], "rlaif")
    with pytest.raises(PublishedWeightsError, match=r"connector\.safetensors cannot be read"):
        load_connector(policy(HIGH, PixelShuffleSettings()), argus[0], "rlaif")
    policy(None, None).save_pretrained(tmp_path / "text", None)
    with pytest.raises(PolicyError, match="is a text-only policy"):
        load_encoder(NORMAL, tmp_path / "text", "rlaif")
    with pytest.raises(PublishedWeightsError, match="connector is none, and the policy's pixel_shuffle"):
        load_connector(policy(HIGH, PixelShuffleSettings()), tmp_path / "text", "rlaif")
