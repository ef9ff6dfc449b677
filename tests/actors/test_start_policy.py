"""The policy before any fine-tuning: what is looked at first, and what is left in its folder."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from actors.outages import Outages
from actors.start_policy import make_start_policy
from rlaif.config import ConfigurationError
from rlaif.models.encoders.build import new_encoder
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy, load_encoder
from rlaif.models.published.weight_table import PublishedWeightsError
from rlaif.models.settings import PolicyError
from rlaif.records import Study

if TYPE_CHECKING:
    from rlaif.config import Config

Configured = Callable[..., "Config"]
TEXTS = ["The lungs are clear."]
STUDIES = [Study("s1", "p1", "test", "sft", volume="nowhere.nii.gz", findings=TEXTS[0], impression=None)]


@pytest.fixture
def finished(configured: Configured, tmp_path: Path) -> Path:
    """A policy folder with an encoder."""
    choice = configured().policy
    assert choice.language_model is not None and choice.encoder is not None
    torch.manual_seed(3)
    save_file(new_encoder(choice.encoder).state_dict(), tmp_path / "encoder.safetensors")
    folder = tmp_path / "finished"
    new_policy(choice.settings(), choice.language_model, TEXTS, seed=3).save_pretrained(
        folder, tmp_path / "encoder.safetensors"
    )
    return folder


def test_parts_of_another_policy_become_the_start(configured: Configured, finished: Path, tmp_path: Path) -> None:
    weights = f"{{path: {finished}, table: rlaif}}"
    config = configured(f"policy.encoder_weights={weights}", f"policy.connector_weights={weights}")
    target = tmp_path / "start"
    target.mkdir()
    make_start_policy(config, STUDIES, TEXTS, target, Outages())
    theirs, ours = (Policy.from_pretrained(folder).weights() for folder in (finished, target))
    assert all(torch.equal(ours[name], one) for name, one in theirs.items() if name.startswith("connector."))
    first, second = (load_encoder(folder).state_dict() for folder in (finished, target))
    assert all(torch.equal(second[name], one) for name, one in first.items())
    assert {one.name for one in target.iterdir()} == {
        "policy.json", "language_model", "connector.safetensors", "encoder.safetensors",
    }  # fmt: skip


def test_what_cannot_be_loaded_is_told_before_the_encoder_trains(configured: Configured, tmp_path: Path) -> None:
    """Its training would look for a Ray cluster, and read the CTs."""
    (tmp_path / "damaged.safetensors").write_bytes(b"no weights")
    damaged = f"{{path: {tmp_path / 'damaged.safetensors'}, table: m3d_lamed}}"
    with pytest.raises(PublishedWeightsError, match=r"damaged\.safetensors"):
        make_start_policy(configured(f"policy.connector_weights={damaged}"), STUDIES, TEXTS, tmp_path, Outages())
    (tmp_path / "empty").mkdir()
    pretrained = (f"policy.pretrained={{path: {tmp_path / 'empty'}}}", "policy.language_model=null")
    with pytest.raises(PolicyError, match="empty holds no language model that can be loaded"):
        make_start_policy(configured(*pretrained), STUDIES, TEXTS, tmp_path, Outages())


def test_an_encoder_without_weights_is_told_before_anything_is_loaded(configured: Configured, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    config = configured("policy=m3d", "policy.size=7b", f"policy.pretrained.path={tmp_path / 'empty'}")
    with pytest.raises(ConfigurationError, match=r"needs the encoder's weights of pretrained_ViT\.bin"):
        make_start_policy(config, STUDIES, TEXTS, tmp_path, Outages())
