"""The policy that a run starts from, and its base: what they are made of decides what the cache gives."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from actors.fleet import Fleet
from actors.learner_group import LearnerGroup
from actors.preparation import base_policy, start_policy
from actors.remote import ActorLost
from rlaif.ledger import RunFolder
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.settings import LanguageModelSettings, PolicySettings
from rlaif.records import Ingested, Study

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


@pytest.fixture
def unmade(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start policy that is a folder and no more: what it would be made of is in the key alone."""
    monkeypatch.setattr("actors.start_policy.make_start_policy", lambda *_: None)


def test_an_encoder_that_trains_first_is_one_of_its_cts_and_reports(
    unmade: None, configured: Callable[..., "Config"], tmp_path: Path
) -> None:
    here = ["experiment=smoke", f"run.root={tmp_path / 'runs'}", f"cache.root={tmp_path / 'cache'}"]
    weights = tmp_path / "encoder.safetensors"
    weights.write_bytes(b"weights")
    cts = [tmp_path / f"{number}.nii.gz" for number in range(2)]
    for number, path in enumerate(cts):
        path.write_bytes(b"ct")
        os.utime(path, ns=(10**18 + number, 10**18 + number))

    def start(findings: str, *overrides: str) -> Path:
        studies = [Study(path.name, path.name, "t", "sft", str(path), findings, "Normal.") for path in cts]
        with RunFolder.open(tmp_path, "run", {}) as run:
            run.replace("studies", Study, studies)
            return start_policy(run, configured(*here, "run.target=impression", *overrides))

    given = f"policy.encoder_weights={{path: {weights}, table: rlaif}}"
    first, ready = start("Clear."), start("Clear.", given)
    assert start("Clear.") == first and start("Clear.", given) == ready
    others = [start("A nodule."), start("Clear.", "recipe.orientation=stored")]
    os.utime(cts[1], ns=(10**18 + 7, 10**18 + 7))
    others.append(start("Clear."))
    cts[0].unlink()
    others.append(start("Clear."))
    assert len({first, ready, *others}) == 6
    # An encoder that comes with its weights has seen none of these.
    assert start("A nodule.", given) == ready


def test_a_run_with_its_base_goes_on_with_it_whatever_became_of_its_cts(
    unmade: None, configured: Callable[..., "Config"], tmp_path: Path
) -> None:
    config = configured("experiment=smoke", f"run.root={tmp_path / 'runs'}", f"cache.root={tmp_path / 'cache'}")
    ct = tmp_path / "ct.nii.gz"
    ct.write_bytes(b"ct")
    with RunFolder.open(tmp_path, "run", {}) as run:
        run.replace("studies", Study, [Study("s", "p", "t", "sft", str(ct), "Clear.", "Normal.")])
        assert start_policy(run, config).parent == tmp_path / "cache" / "start"
        with run.folder("base") as base:
            (base / "policy.json").write_text(config.policy.settings().model_dump_json())
        run.finish("base", seconds=0.0, trained=True)
        ct.unlink()
        # The features are those of the encoder that the base carries.
        assert start_policy(run, config) == run.path / "base"
    assert len(list((tmp_path / "cache" / "start").iterdir())) == 1


@dataclass
class Interrupted:
    """A learner group that remembers what it trained, and dies where its n-th training would begin."""

    group: LearnerGroup
    dies_at: int | None = None
    trained: list[str] = field(default_factory=list)

    def train(self, method: str, *arguments: Any) -> Iterator[dict[str, float]]:
        if len(self.trained) == self.dies_at:
            raise ActorLost("the learner was killed")
        self.trained.append("sft" if arguments[-1] else "pretrain")
        yield from self.group.train(method, *arguments)


PRETRAIN = "learner.pretrain={train: [connector], epochs: 1, batch: 4, lr: 1e-3, warmup: 0.0, schedule: linear}"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_kill_in_supervised_fine_tuning_throws_no_pre_training_away(fleet: Fleet, small: Any, tmp_path: Path) -> None:
    here = [f"run.root={tmp_path}", f"cache.root={tmp_path / 'cache'}", "learner.sft.epochs=1", "learner.sft.batch=4"]

    def base(name: str, learners: Interrupted, *overrides: str) -> Path:
        config = small.config(*here, PRETRAIN, *overrides)
        with RunFolder.open(tmp_path, name, {}) as run:
            if not run.done("studies"):
                studies = [Study(f"s{n}", f"p{n}", "t", "sft", "x", f"Nodule of {n} mm.") for n in range(4)]
                run.replace("studies", Study, studies)
                run.replace("features", Ingested, [Ingested(one.study_id, f"f{one.study_id[1]}") for one in studies])
                run.finish("studies")
            return base_policy(run, config, small.first, SimpleNamespace(learners=learners))  # type: ignore[arg-type]

    with pytest.raises(ActorLost, match="the learner was killed"):
        base("run", first := Interrupted(fleet.learners, dies_at=1))
    assert first.trained == ["pretrain"]
    # A second start goes on from the pre-trained policy.
    made = base("run", second := Interrupted(fleet.learners))
    assert second.trained == ["sft"]
    assert "pretrained" not in {path.name for path in made.rglob("*")}
    with RunFolder.open(tmp_path, "run", {}) as run:
        steps = run.read_json("base/metrics.json")["learning"]["steps"]
        assert run.facts("base")["ran"] == ["sft"]
    assert [step["step"] for step in steps] == [0, 0]
    assert not torch.equal(words(made), words(small.first))

    # Another fine-tuning begins with the same pre-training; another way to train is another one.
    base("other", other := Interrupted(fleet.learners), "learner.sft.lr=1e-3")
    assert other.trained == ["sft"]
    base("zero", zero := Interrupted(fleet.learners), "learner.zero_stage=2")
    assert zero.trained == ["pretrain", "sft"]
