"""A policy folder is looked at before anything starts: what is damaged or does not fit is told then."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file, save_file

from rlaif.models.encoders.build import new_encoder
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.settings import PolicyError
from rlaif.plan_trainings import check_trainings

if TYPE_CHECKING:
    from rlaif.config import Config


@pytest.fixture
def folder(configured: Callable[..., "Config"], tmp_path: Path) -> Path:
    choice = configured("policy=argus").policy
    assert choice.language_model is not None and choice.encoder is not None
    save_file(new_encoder(choice.encoder).state_dict(), tmp_path / "encoder.safetensors")
    policy = new_policy(choice.settings(), choice.language_model, ["Normal."], seed=0)
    policy.save_pretrained(tmp_path / "mine", tmp_path / "encoder.safetensors")
    return tmp_path / "mine"


def edit(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changed), encoding="utf-8")


def config(**changed: Any) -> Callable[[Path], None]:
    return lambda at: edit(at / "language_model" / "config.json", **changed)


def without(path: Path, name: str) -> None:
    weights = load_file(path)
    weights.pop(name)
    save_file(weights, path, metadata={"format": "pt"})


NORM = "model.norm.weight"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "recipe": (lambda at: edit(at / "policy.json", recipe="nonsense"), "there is no recipe 'nonsense'"),
    "another recipe": (lambda at: edit(at / "policy.json", recipe="m3d"), "is not what the recipe m3d gives"),
    "a weight less": (lambda at: without(at / "language_model" / "model.safetensors", NORM), f"1 missing: {NORM}"),
    "a layer more": (config(num_hidden_layers=3), "9 unknown: model"),
    "no layers": (
        config(num_attention_heads=0),
        "no language_model",
    ),
    "a word for a width": (
        config(hidden_size="x"),
        "no language_model",
    ),
    "another kind": (config(model_type="bert"), "language_model"),
    "fewer positions": (
        config(max_position_embeddings=100),
        "sampler.max_length=512 is more than the 100 positions",
    ),
    "no configuration": (
        lambda at: (at / "language_model" / "config.json").unlink(),
        "there is no language_model/conf",
    ),
    "half a connector": (
        lambda at: (at / "connector.safetensors").write_bytes((at / "connector.safetensors").read_bytes()[:99]),
        "connector.safetensors is damaged",
    ),
    "no encoder": (lambda at: (at / "encoder.safetensors").unlink(), "encoder.safetensors is no file"),
    "a broken chat template": (
        lambda at: (at / "language_model" / "chat_template.jinja").write_text("{% if"),
        "chat template fails",
    ),
    "a long template": (
        lambda at: edit(at / "policy.json", template="word " * 900 + "{prompt}"),
        "leaves no room for sampler.max_tokens=128",
    ),
    "a placeholder in the template": (
        lambda at: edit(at / "policy.json", template="<image> {prompt}"),
        "must not hold <image>",
    ),
    "another's placeholder": (
        lambda at: edit(at / "policy.json", prompt="<image> {regions}"),
        "must hold {regions} nowhere",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_folder_is_told_at_once(
    configured: Callable[..., "Config"], folder: Path, fault: str
) -> None:
    damage, told = FAULTS[fault]
    damage(folder)
    with pytest.raises(PolicyError) as caught:
        check_trainings(configured("policy=folder", f"policy.path={folder}"))
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_sound_folder_passes(configured: Callable[..., "Config"], folder: Path) -> None:
    counts = check_trainings(configured("policy=folder", f"policy.path={folder}"))
    assert counts == {"dpo": sum(one.numel() for one in Policy.from_pretrained(folder).language_model.parameters())}


def test_missing_weights_never_become_random_ones(folder: Path) -> None:
    without(folder / "language_model" / "model.safetensors", NORM)
    with pytest.raises(PolicyError, match=r"does not hold the weights .*missing_keys.*model\.norm\.weight"):
        Policy.from_pretrained(folder)
    (folder / "language_model" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(PolicyError, match="holds no language model that can be read"):
        Policy.from_pretrained(folder)


def test_visual_tokens_must_fit_beside_the_report(configured: Callable[..., "Config"]) -> None:
    from rlaif.config import ConfigurationError

    with pytest.raises(ConfigurationError, match="puts 18 visual tokens into a prompt"):
        configured("sampler.max_length=140")
    # Region by region a prompt may name all ten: 4 tokens of the scan, and 5 of each.
    with pytest.raises(ConfigurationError, match="puts 54 visual tokens into a prompt"):
        configured("policy=reg2rg", "sampler.max_tokens=100", "sampler.max_length=140")
