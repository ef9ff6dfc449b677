"""What a finished run's files say of its rates, and which of them is damaged."""

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlaif.files import RunError
from rlaif.metrics.scale import Training
from rlaif.reports.prompts import Target
from rlaif.run_configuration import CONFIG_FILE, loop_configuration


class _Told(BaseModel):
    """A part of a file; what nobody asks for is left alone, as runs of other versions have other keys."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class _Run(_Told):
    target: Target
    alignment: Literal["dpo", "ppo"] = "dpo"


class _Cache(_Told):
    root: Path


class _Policy(_Told):
    path: str | None = None


class _Sampler(_Told):
    actors: int = Field(ge=1)
    max_actors: int | None = None
    n: int = Field(ge=1)
    gpus: float


class _Ingest(_Told):
    encoders: int = Field(ge=1)


class _Cluster(_Told):
    nodes: int = 1
    """Runs of earlier versions do not name them."""


class _Heldout(_Told):
    limit: int | None = Field(default=None, ge=1)


class _Reinforcement(_Told):
    epochs: int
    batch: int
    advantage: str


class _Learner(_Told):
    ranks: int = Field(ge=1)
    gpus: float
    pretrain: Training | None = None
    sft: Training | None = None
    dpo: Training
    ppo: _Reinforcement | None = None


class RunConfiguration(_Told):
    """What rates depend on of the configuration that a run was started with."""

    run: _Run
    cache: _Cache
    policy: _Policy
    sampler: _Sampler
    ingest: _Ingest
    learner: _Learner
    cluster: _Cluster = _Cluster()
    heldout: _Heldout = _Heldout()

    @property
    def reinforcement(self) -> _Reinforcement | None:
        """How it learns from reports; None where it learns from pairs."""
        return self.learner.ppo if self.run.alignment == "ppo" else None

    @property
    def aligning(self) -> Training:
        """The training of a round."""
        by_reports = self.reinforcement
        return Training(by_reports.epochs, by_reports.batch) if by_reports else self.learner.dpo


class _Studies(_Told):
    sft: int = Field(ge=0)
    align: int = Field(ge=1)
    heldout: int = Field(ge=0)


class _Seconds(_Told):
    learn: float = Field(ge=0)


class _Round(_Told):
    seconds: _Seconds
    pairs: int | None = Field(default=None, ge=0)
    reports: int | None = Field(default=None, ge=0)
    given: Any = None

    @model_validator(mode="after")
    def _learnt_from(self) -> "_Round":
        if self.pairs is None and self.reports is None:
            raise ValueError("neither pairs nor reports")
        return self

    @property
    def learnt(self) -> int:
        """Pairs, with PPO reports, that it learnt from."""
        return self.pairs or self.reports or 0


class Summary(_Told):
    """What rates depend on of a run's summary."""

    rounds: tuple[_Round, ...]
    studies: _Studies
    features: str | None = None


class Facts(_Told):
    """What stages note of themselves: each its seconds, the others those that have them."""

    seconds: float = Field(ge=0)
    reports: int = Field(default=0, ge=0)
    trained: bool = False
    cases: int = Field(default=0, ge=0)
    ran: tuple[str, ...] | None = None
    start_from: str | None = None


class Mark(_Told):
    """A finished stage's entry in the ledger."""

    finished_at: AwareDatetime
    facts: Facts


_Part = TypeVar("_Part", bound=_Told)


def finished_run(run: Path) -> tuple[RunConfiguration, Summary]:
    """The configuration and the summary of a finished run of a loop, whose last round was sampled.

    Raises RunError where the folder holds none, or where one of the two is damaged.
    """
    config = _checked(RunConfiguration, run / CONFIG_FILE, loop_configuration(run))
    path = run / "summary.json"
    if not path.is_file():
        raise RunError(f"{run} is not finished, it has no summary.json: give its command again, which goes on with it")
    summary = _checked(Summary, path)
    if not summary.rounds:
        raise RunError(f"{run} has no round, so nothing was sampled or learnt: give its command with run.rounds=2")
    if summary.rounds[-1].given:
        raise RunError(f"{run}: its last round was taken from a file, and not sampled: give its command with one more")
    return config, summary


def mark_of(run: Path, stage: str) -> Mark:
    """The mark of a finished stage; raises RunError where it is gone or damaged."""
    path = run / "ledger" / f"{stage}.json"
    if not path.is_file():
        raise RunError(f"{run} has no stage {stage} in its ledger: it was copied in part; copy all of the folder")
    return _checked(Mark, path)


def _checked(kind: type[_Part], path: Path, content: Any = None) -> _Part:
    """A file as what it should hold; `content` where it was read before."""
    try:
        return kind.model_validate_json(path.read_bytes()) if content is None else kind.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        told = f"{place}: {fault['msg']}" if place else fault["msg"]
        raise RunError(f"{path} is damaged ({told}): restore it, or name another run") from error
