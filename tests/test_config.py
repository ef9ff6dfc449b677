"""The typed configuration, and the words for what is wrong with one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from pydantic import BaseModel

from rlaif.config import Config, ConfigurationError, load_config
from rlaif.config_faults import known_keys, nearest, place_of
from rlaif.launch import CONFIGS, PROJECT, sized


class Small(BaseModel):
    """A section."""

    a: int


class Large(BaseModel):
    """A section of sections."""

    small: Small | None
    plain: list[str]


def test_known_keys_see_through_optional_sections_and_choices() -> None:
    assert known_keys(Large) == ["small", "small.a", "plain"]
    keys = known_keys(Config)
    assert len(keys) == len(set(keys))
    for key in (
        "data.sft",
        "data.path",
        "data.columns.study_id",
        "data.columns.volume",
        "data.split.align",
        "policy.encoder.patch",
        "policy.language_model.hidden",
        "learner.lora.rank",
        "learner.dpo.beta",
    ):
        assert key in keys


def test_the_nearest_key_by_look_or_by_its_last_part() -> None:
    keys = ["run.rounds", "run.root", "sampler.n", "learner.dpo.beta"]
    assert nearest("run.roundz", keys) == "run.rounds"
    assert nearest("beta", keys) == "learner.dpo.beta"
    assert nearest("zzz", keys) is None


@pytest.mark.parametrize(
    ("location", "place"),
    [
        (("data", "ct_rate", "path"), "data.path"),
        (("data", "ct_rate", "split", "sft", "int"), "data.split.sft"),
        (("data", "ct_rate", "columns", "volume"), "data.columns.volume"),
        (("run", "rounds"), "run.rounds"),
        (("data", "ct_rate", "shape", 2), "data.shape.2"),
        ((), ""),
    ],
)
def test_places_are_keys_as_one_would_type_them(location: tuple[Any, ...], place: str) -> None:
    values = {"run": {}, "data": {"name": "ct_rate", "split": {"sft": "x"}, "shape": [1, 2], "columns": {}}}
    assert place_of(location, values) == place


def test_every_fault_has_one_line() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config({"run": {"name": "x", "spped": 1}, "judge": {"kind": "gpt"}, "data": {"name": "moon"}}, PROJECT)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(set(lines))
    assert "run.root is missing: set run.root=…" in lines
    assert "unknown key run.spped; did you mean run.seed?" in lines
    assert any(line.startswith("judge: ") and "'gpt'" in line and "'ensemble'" in line for line in lines)
    assert any(line.startswith("data: ") and "'moon'" in line and "'phantom'" in line for line in lines)
    assert "policy is missing: set policy=…" in lines


def test_a_policy_sets_what_it_needs_of_the_learner_and_the_sampler() -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        overrides = ["policy=rgro", "policy.size=135m", "data=openi", "data.path=reports", "sampler.max_tokens=65"]
        values = sized(compose("config", overrides), overrides)
    assert values["learner"]["lora"]["rank"] == 16
    assert values["learner"]["sft"]["batch"] == 8 and values["learner"]["sft"]["schedule"] == "linear"
    assert values["sampler"]["max_sequences"] == 96
    assert values["run"]["target"] == "impression"
    # What the user says stands above what the size says.
    assert values["sampler"]["max_tokens"] == 65


def test_a_size_that_a_policy_has_not_is_told_with_those_it_has() -> None:
    refused = pytest.raises(ConfigurationError, match=r"policy=rgro has no size 9b; there are 135m, .*tiny")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"), refused:
        sized(compose("config", ["policy=rgro", "policy.size=9b"]), ["policy=rgro", "policy.size=9b"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("judge=gpt4", "judge: judge gpt4 would send report text to api.openai.com, which is not in allowed_hosts"),
        ("judge.members=[rules]", "judge.members is no setting of judge=rules: leave it out"),
        ("heldout.judges=[rulse]", "heldout.judges: there is no judge rulse; did you mean rules?"),
        ("heldout.judges=[green]", "heldout.judges: judge green needs model: write {judge: green, model: ...}"),
        ("heldout.judges=[{judge: rules, threshold: 0.7}]", "two judges with other settings are called rules"),
        ("judge.threshold=3", "judge rules: threshold=3 is off its scale, 0 to 1"),
        ("heldout.judges=[{judge: green, model: /nowhere}]", "judge green: model=/nowhere is no folder"),
        (
            "heldout.judges=[{judge: gpt4, base_url: 'http://127.0.0.1:1/v1', prompt: llm_parser-1}]",
            "is not for a judge of",
        ),
        ("heldout.judges=[{judge: gpt4, base_url: 'http://127.0.0.1:1/v1', prompt: x}]", "there is no prompt x"),
        ("heldout.judges=[{judge: gpt4, base_url: 'http://127.0.0.1:1/v1', name: rules}]", "may not be called rules"),
        ("run.start_from=/nowhere/run", "run.start_from: /nowhere/run does not exist"),
    ],
)
def test_judges_that_cannot_be_asked_are_said(
    configured: Callable[..., Config], override: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        configured("experiment=smoke", override, f"run.root={tmp_path}")


def test_a_judge_of_a_list_is_its_file_with_what_differs(configured: Callable[..., Config]) -> None:
    local = "{judge: gpt4, name: local, base_url: 'http://127.0.0.1:1/v1', model: m, threshold: 4}"
    config = configured("experiment=smoke", f"heldout.judges=[rules,{local}]")
    assert list(config.judges) == ["rules", "local"] and list(config.leaf_judges) == ["rules", "local"]
    judge = config.judges["local"]
    assert (judge.kind, judge.threshold) == ("gpt4", 4.0)
    assert config.plain()["heldout"]["judges"][1]["prompt"] == "gpt4-1"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["loss=ipo", "label_smoothing=0.1"], "learner.dpo: label_smoothing=0.1 is for the losses sigmoid and robust"),
        (["loss=hinge", "label_smoothing=0.1"], "not for hinge: leave it at 0"),
        (["loss=robust", "label_smoothing=0.5"], "learner.dpo.label_smoothing: Input should be less than 0.5"),
        (["label_smoothing=0.7"], "learner.dpo.label_smoothing: Input should be less than 0.5"),
        (["loss=kto"], "learner.dpo.loss: Input should be 'sigmoid', 'ipo', 'hinge' or 'robust'"),
        (["sft_weight=-1"], "learner.dpo.sft_weight: Input should be greater than or equal to 0"),
    ],
)
def test_losses_that_are_none_are_said(configured: Callable[..., Config], overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        configured("experiment=smoke", *(f"learner.dpo.{one}" for one in overrides))


def test_labels_are_smoothed_for_two_losses(configured: Callable[..., Config]) -> None:
    for loss in ("sigmoid", "robust"):
        config = configured("experiment=smoke", f"learner.dpo.loss={loss}", "learner.dpo.label_smoothing=0.1")
        assert config.learner.dpo.label_smoothing == 0.1


def test_further_actors_need_places_for_the_fixed_ones(configured: Callable[..., Config]) -> None:
    with pytest.raises(ConfigurationError, match=r"max_actors of sampler and judge rules: with cluster\.placement="):
        configured("sampler.max_actors=3", "judge.max_actors=2")
    with pytest.raises(ConfigurationError, match=r"sampler\.max_actors=1 is less than sampler\.actors=2"):
        configured("sampler.actors=2", "sampler.max_actors=1", "cluster.placement=apart")
    assert configured("sampler.max_actors=1", "judge.max_actors=1").sampler.max_actors == 1
    assert configured("sampler.max_actors=3", "cluster.placement=colocated").sampler.max_actors == 3
