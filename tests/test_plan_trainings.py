"""What trains in each training, and what is refused before a run begins."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rlaif.config import ConfigurationError
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.settings import PolicyError
from rlaif.models.size import meta_policy
from rlaif.plan_trainings import check_trainings, language_model_of, settings_of

if TYPE_CHECKING:
    from rlaif.config import Config

Configured = Callable[..., "Config"]
LORA = "learner.lora={rank: 4, alpha: 8, dropout: 0.0, targets: [q_proj, v_proj]}"
# Rank 4 on queries and values of 128, in four layers.
ADAPTERS = 4 * 2 * 4 * (128 + 128)


def parts_of(config: "Config") -> dict[str, int]:
    policy = meta_policy(language_model_of(config), settings_of(config))
    return {name: sum(one.numel() for one in part.parameters()) for name, part in policy._parts.items()}


def saved(config: "Config", folder: Path) -> Policy:
    choice = config.policy
    assert choice.language_model is not None
    policy = new_policy(choice.settings(), choice.language_model, ["Clear lungs."], seed=0)
    policy.save_pretrained(folder, None)
    return policy


def test_what_trains_is_counted_from_the_names(configured: Configured) -> None:
    pretrain = "learner.pretrain={train: [connector.0], epochs: 1, batch: 8, lr: 0.1, warmup: 0.1, schedule: linear}"
    config = configured(pretrain, "learner.sft.train=[encoder,connector,language_model]")
    parts = parts_of(config)
    counts = check_trainings(config)
    assert counts == {
        # The first of two layers, of 96 features to 128 values.
        "pretrain": 96 * 128 + 128,
        "sft": parts["encoder"] + parts["connector"] + parts["language_model"],
        "dpo": parts["language_model"],
    }


def test_where_there_are_adapters_they_alone_train_but_in_pre_training(configured: Configured) -> None:
    pretrain = "learner.pretrain={train: [language_model], epochs: 1, batch: 8, lr: 0.1, warmup: 0.1, schedule: linear}"
    config = configured(pretrain, LORA)
    parts = parts_of(config)
    assert check_trainings(config) == {
        "pretrain": parts["language_model"],
        "sft": ADAPTERS + parts["connector"],
        "dpo": ADAPTERS,
    }


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["learner.dpo.train=[connector.perceiver]"],
            r"learner\.dpo\.train: no parameter .* called connector\.perceiver",
        ),
        (
            ["learner.sft.train=[encoder.layers.99,connector]"],
            r"learner\.sft\.train: no parameter .*encoder\.layers\.99",
        ),
        (
            ["policy=rgro", "learner.dpo.train=[connector]"],
            r"learner\.dpo\.train=\[connector\]: policy=rgro has no such",
        ),
        ([LORA, "learner.dpo.train=[language_model.model.norm]"], r"learner\.dpo\.train: .* stays frozen"),
    ],
)
def test_names_that_train_nothing_are_refused(configured: Configured, overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_trainings(configured(*overrides))


def test_a_folders_own_parts_count(configured: Configured, tmp_path: Path) -> None:
    policy = saved(configured("policy=rgro"), tmp_path)
    here = ("policy=folder", f"policy.path={tmp_path}", "run.target=impression")
    # It is the base as it is: what fine-tuning would train is not asked.
    config = configured(*here, "learner.sft.train=[encoder]")
    assert check_trainings(config) == {"dpo": sum(one.numel() for one in policy.parameters())}
    with pytest.raises(ConfigurationError, match=r"learner\.dpo\.train=\[connector\]: policy=folder has no such part"):
        check_trainings(configured(*here, "learner.dpo.train=[connector]"))
    with pytest.raises(ConfigurationError, match=r"called language_model\.transformer"):
        check_trainings(configured(*here, "learner.dpo.train=[language_model.transformer]"))


def test_parts_that_do_not_fit_are_told_before_anything_starts(configured: Configured) -> None:
    with pytest.raises(PolicyError, match="hidden 128 is no multiple of the mu2 tokenizer's heads 3"):
        check_trainings(configured("policy=mu2", "policy.connector.heads=3"))


def test_a_pretrained_model_must_be_the_sizes_own(configured: Configured, tmp_path: Path) -> None:
    saved(configured("policy=rgro"), tmp_path)
    given = ("policy=rgro", f"policy.pretrained={{path: {tmp_path / 'language_model'}}}")
    # So few texts fill no more than 269 tokens, where the size has 640.
    assert language_model_of(configured(*given, "policy.language_model.vocabulary=269")).vocab_size == 269
    with pytest.raises(PolicyError, match="vocab_size 269 where the policy's size has 640"):
        check_trainings(configured(*given))
