"""The policy that a run starts from: what it is made of decides what the cache gives."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from actors.preparation import start_policy
from rlaif.ledger import RunFolder
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.settings import LanguageModelSettings, PolicySettings
from rlaif.records import Study

if TYPE_CHECKING:
    from rlaif.config import Config

TEXT_ONLY = PolicySettings(name="x", size="x", recipe=None, encoder=None, connector=None)
LANGUAGE = LanguageModelSettings(hidden=16, layers=1, heads=2, intermediate=32, vocabulary=300, positions=512)


def words(folder: Path) -> torch.Tensor:
    return Policy.from_pretrained(folder).weights()["language_model.model.embed_tokens.weight"]


def test_weights_that_were_written_anew_make_another_start(configured: Callable[..., "Config"], tmp_path: Path) -> None:
    here = [f"run.root={tmp_path / 'runs'}", f"cache.root={tmp_path / 'cache'}"]
    model = tmp_path / "model"
    new_policy(TEXT_ONLY, LANGUAGE, ["Normal."], seed=1).save_pretrained(model, None)
    config = configured("policy=rgro", "policy.size=135m", f"policy.pretrained.path={model / 'language_model'}", *here)
    with RunFolder.open(tmp_path, "run", {}) as run:
        run.replace("studies", Study, [Study("s1", "p1", "t", "sft", findings="Clear.", impression="Normal.")])
        first = start_policy(run, config)
        assert start_policy(run, config) == first
        kept = words(first)
        new_policy(TEXT_ONLY, LANGUAGE, ["Normal."], seed=2).save_pretrained(model, None)
        second = start_policy(run, config)
    assert second != first and torch.equal(words(first), kept)
    assert torch.equal(words(second), words(model)) and not torch.equal(words(second), kept)
