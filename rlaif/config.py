"""The typed configuration of a job. The YAML files under `configs/` hold the values; these classes say what they mean.

Unknown keys are errors that name the nearest right one.
"""

import difflib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlaif.datasets.settings import DataSettings
from rlaif.models.ctvit import CTViTSettings
from rlaif.models.policy import LoraSettings, PolicySettings
from rlaif.models.tiny import LanguageModelSettings
from rlaif.preferences.settings import PairSettings


class ConfigurationError(ValueError):
    """A configuration that cannot be run, with what to change."""


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSettings(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    root: Path
    """The folder that holds run folders; made absolute."""
    seed: int
    rounds: int = Field(ge=0)
    target: Literal["findings", "impression", "both"]
    """The text that the policy writes and the judges see."""
    max_bad_fraction: float = Field(ge=0, le=1)
    """Above this share of quarantined studies, or of failed judgements in a round, the run stops."""
    blind_control: bool
    """Whether held-out cases are also written from another patient's features."""
    dry: bool
    """Print the plan and stop."""


class CacheSettings(Section):
    root: Path


class EncoderTraining(Section):
    """How the tiny encoder learns what its reports name, before it is frozen."""

    epochs: int
    batch: int
    lr: float


class PretrainedModel(Section):
    """A language model to start from."""

    path: str | None
    """A Hugging Face folder, a .gguf file, or a folder with one; None: the file of the installed `package`."""
    package: str | None = None


class PolicyChoice(Section):
    name: str
    size: str
    recipe: str | None
    path: str | None = None
    """A policy folder to start from, as it is (policy=folder)."""
    encoder: CTViTSettings | None = None
    encoder_training: EncoderTraining | None = None
    language_model: LanguageModelSettings | None = None
    pretrained: PretrainedModel | None = None

    @model_validator(mode="after")
    def _one_start(self) -> "PolicyChoice":
        starts = [self.path, self.language_model, self.pretrained]
        if sum(start is not None for start in starts) != 1:
            raise ValueError(
                "a policy starts from exactly one of policy.path, policy.language_model and policy.pretrained; "
                "policy=folder needs policy.path=FOLDER"
            )
        return self

    def settings(self) -> PolicySettings:
        """What the policy folder will say of itself."""
        return PolicySettings(name=self.name, size=self.size, recipe=self.recipe, encoder=self.encoder)


class JudgeSettings(Section):
    name: Literal["rules"]
    actors: int = Field(ge=1)
    cpus: float
    batch: int = Field(ge=1)
    """Candidates in one call."""
    threshold: float
    """The score from which a candidate counts as good, on the judge's own scale."""
    allowed_hosts: list[str]
    """The only addresses that a judge may reach."""


class SamplerSettings(Section):
    actors: int = Field(ge=1)
    cpus: float
    gpus: float
    threads: int
    n: int = Field(ge=2)
    temperature: float = Field(gt=0)
    top_p: float = Field(gt=0, le=1)
    max_tokens: int
    max_length: int
    max_sequences: int
    attempts: int = Field(ge=1)
    """How often an unusable candidate (cut off or empty) is written before it stands as unusable."""
    dtype: Literal["float32", "bfloat16", "float16"]
    gpu_memory: float
    """Share of a GPU's memory for the engine."""
    kv_cache_gib: int
    """GiB for the engine's cache on a CPU."""
    timeout_s: float
    """Longest wait for the next report."""


class SftSettings(Section):
    epochs: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float
    warmup: float


class DpoSettings(Section):
    beta: float
    epochs: int
    batch: int
    lr: float
    warmup: float


class LearnerSettings(Section):
    ranks: int = Field(ge=1)
    cpus: float
    gpus: float
    threads: int
    zero_stage: Literal[0, 1, 2, 3]
    dtype: Literal["float32", "bfloat16"]
    micro_batch: int
    """Cases (for DPO: pairs) of one forward pass on one rank."""
    lora: LoraSettings | None
    train_connector: bool
    """Whether DPO trains the connector too (3D-CT-GPT++ freezes it)."""
    max_grad_norm: float
    sft: SftSettings
    dpo: DpoSettings
    max_logprob_gap: float
    """The round fails where sampler and learner differ by more on average."""
    gap_candidates: int
    """Candidates of a round on which the two are compared."""
    timeout_s: float
    """Longest wait for one stage of a rank."""


class IngestSettings(Section):
    cpus: float
    encoders: int
    batch: int
    shard_mib: int
    timeout_s: float


class HeldoutSettings(Section):
    limit: int | None
    """At most so many held-out cases."""
    resamples: int
    """Bootstrap resamples of an interval."""


class ClusterSettings(Section):
    address: str
    """`auto`: the running head, else one that this job starts; `local`: always one of its own."""


class Config(Section):
    run: RunSettings
    cache: CacheSettings
    data: DataSettings
    policy: PolicyChoice
    judge: JudgeSettings
    pairs: PairSettings
    sampler: SamplerSettings
    learner: LearnerSettings
    ingest: IngestSettings
    heldout: HeldoutSettings
    cluster: ClusterSettings

    def plain(self) -> dict[str, Any]:
        """The resolved configuration as plain values, as the run folder keeps it."""
        return self.model_dump(mode="json")


def load_config(values: dict[str, Any], project: Path) -> Config:
    """The typed configuration from plain values; relative roots are taken from the project's folder.

    Raises ConfigurationError with one line for each fault, an unknown key with the nearest right one.
    """
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_explain(fault) for fault in error.errors())) from error
    run = config.run.model_copy(update={"root": (project / config.run.root.expanduser()).resolve()})
    cache = config.cache.model_copy(update={"root": (project / config.cache.root.expanduser()).resolve()})
    return config.model_copy(update={"run": run, "cache": cache})


def _explain(fault: Any) -> str:
    place = [str(part) for part in fault["loc"]]
    where = ".".join(place)
    if fault["type"] == "extra_forbidden":
        near = nearest(where, known_keys(Config))
        return f"unknown key {where}" + (f"; did you mean {near}?" if near else "")
    if fault["type"] == "missing":
        return f"{where} is missing: set {where}=…"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" + ("" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})")


def known_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key that a section has."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += known_keys(kind, f"{prefix}{name}.")
    return keys


def nearest(key: str, keys: list[str]) -> str | None:
    """The known key that looks most like the given one, or that ends alike; None where none does."""
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    if not close:
        last = key.rpartition(".")[2]
        close = [known for known in keys if known.rpartition(".")[2] == last][:1]
    return close[0] if close else None
