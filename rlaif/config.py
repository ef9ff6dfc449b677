"""The typed configuration of a job. The YAML files under `configs/` hold the values; these classes say what they mean.

Unknown keys are errors that name the nearest right one.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from rlaif.comparison_settings import AblateSettings, RegimeSettings
from rlaif.config_faults import explain, place_of
from rlaif.config_fit import (
    check_adapters,
    check_growth,
    check_judges,
    check_lengths,
    check_policy,
    check_reinforcement,
    check_start,
)
from rlaif.datasets.settings import Ct3drrgSettings, DataSettings, PhantomDataSettings
from rlaif.judge_choice import with_judges
from rlaif.judges.settings import AnyJudge, JudgeSettings, LeafJudge, leaves_of
from rlaif.learner_settings import LearnerSettings, TrainingSettings
from rlaif.metrics.published import PublishedTable
from rlaif.models.settings import read_settings
from rlaif.policy_choice import PolicyChoice
from rlaif.preferences.settings import PairSettings
from rlaif.review_settings import ReviewSettings
from rlaif.score_settings import ScoreSettings
from rlaif.section import Section, check_most
from rlaif.serve_settings import ServeSettings
from rlaif.start_settings import StartSettings
from rlaif.storage import is_remote
from rlaif.trackers.settings import TrackerSettings
from rlaif.volumes.recipes import check_recipe
from rlaif.weight_roads import check_road


class ConfigurationError(ValueError):
    """A configuration that cannot be run, with what to change."""


class RunSettings(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    root: Path
    """The folder that holds run folders; made absolute."""
    seed: int
    rounds: int = Field(ge=0)
    alignment: Literal["dpo", "ppo"] = "dpo"
    """What the policy learns by in a round; jobs/dpo_loop.py and jobs/ppo_loop.py set it."""
    target: Literal["findings", "impression", "both"]
    """The text that the policy writes and the judges see."""
    max_bad_fraction: float = Field(ge=0, le=1)
    """Above this share of quarantined studies, or of failed judgements in a round, the run stops."""
    blind_control: bool
    """Whether held-out cases are also written from another patient's features."""
    staleness: Literal[0, 1]
    """1: the next round's candidates are written by the policy before the one that is being learnt meanwhile."""
    dry: bool
    """Print the plan and stop."""
    start_from: Path | None = None
    """A run whose base policy is taken, with its evaluation, and its candidates of round 0 where seed and sampler are
    the same."""


class CacheSettings(Section):
    root: Path


class SamplerSettings(Section):
    actors: int = Field(ge=1)
    """Engines that stand for the whole run."""
    max_actors: int | None = Field(ge=1)
    """Engines at most: further ones are started while more waits than those that stand take, and end when nothing
    waits. None: no further ones."""
    cpus: float = Field(ge=0)
    gpus: float = Field(ge=0)
    threads: int = Field(ge=1)
    tensor_parallel: int = Field(ge=1)
    """Over how many GPUs (or processes on a CPU) each engine is split."""
    restarts: int = Field(ge=0)
    """How many lost engines are replaced in a run."""
    weights: Literal["auto", "object_store", "nccl", "ipc"]
    """How new weights come from the learners; `auto` takes the fastest road that the roles' devices allow."""
    n: int = Field(ge=2)
    temperature: float = Field(gt=0)
    top_p: float = Field(gt=0, le=1)
    max_tokens: int = Field(ge=1)
    max_length: int = Field(ge=2)
    """Positions of prompt and report together."""
    max_sequences: int = Field(ge=1)
    attempts: int = Field(ge=1)
    """How often an unusable candidate (cut off or empty) is written before it stands as unusable."""
    dtype: Literal["float32", "bfloat16", "float16"]
    gpu_memory: float
    """Share of a GPU's memory for the engine."""
    kv_cache_gib: int
    """GiB for the engine's cache on a CPU."""
    timeout_s: float = Field(gt=0)
    """Longest wait for the next report."""

    @model_validator(mode="after")
    def _most(self) -> "SamplerSettings":
        check_most("sampler", self.actors, self.max_actors)
        return self

    @model_validator(mode="after")
    def _whole_gpus(self) -> "SamplerSettings":
        """An engine takes as many GPUs as it is split over; one that is not split may take a part of one."""
        split = self.tensor_parallel
        if self.gpus and (split > 1 or self.gpus > 1) and self.gpus != split:
            whole = split == 1 and self.gpus % 1 == 0
            fix = f"sampler.tensor_parallel={self.gpus:g}" if whole else f"sampler.gpus={split}"
            raise ValueError(
                f"an engine of sampler.tensor_parallel={split} stands on {split} whole GPUs, and sampler.gpus="
                f"{self.gpus:g} are for each engine: set {fix}, and sampler.actors for more engines"
            )
        return self


class RecipeChoice(Section):
    """The preprocessing of volumes."""

    name: str | None
    """A recipe of `rlaif.volumes.recipes`; None: the one that the policy names."""
    orientation: Literal["canonical", "stored"]
    """`stored` leaves voxels as the file has them, as CT-CLIP's code does: left and right are then the file's."""

    @model_validator(mode="after")
    def _exists(self) -> "RecipeChoice":
        if self.name is not None:
            check_recipe(self.name)
        return self


class IngestSettings(Section):
    encode: bool
    """False: volumes are read and put through the recipe, and no features are made (jobs/ingest.py)."""
    cpus: float = Field(ge=0)
    gpus: float = Field(ge=0)
    """GPUs of one encoder."""
    encoders: int = Field(ge=1)
    batch: int = Field(ge=1)
    """Most studies encoded at once; large volumes go in smaller batches of about 128 MiB."""
    shard_mib: int = Field(ge=1)
    timeout_s: float = Field(gt=0, le=1e6)
    """Longest wait for the next finished study."""
    qa_studies: int = Field(ge=0)
    """Studies on the QA sheet."""


class HeldoutSettings(Section):
    limit: int | None = Field(ge=1)
    """At most so many held-out cases."""
    resamples: int = Field(ge=100)
    """Bootstrap resamples of an interval."""
    judges: tuple[JudgeSettings, ...] = ()
    """Judges that score held-out reports beside the one that trains; named as the members of an ensemble are."""


class ClusterSettings(Section):
    name: str
    """The preset's, as errors call it."""
    address: str
    """`auto`: the running head, else one that this job starts; `local`: always one of its own."""
    placement: Literal["anywhere", "apart", "colocated"]
    """Where learners and samplers stand: `apart`, the ranks on as few nodes as hold them and the engines over all;
    `colocated`, rank k beside engine k; `anywhere`, each where Ray finds room."""
    nodes: int = Field(ge=1)
    gpus: int | None = Field(ge=0)
    """GPUs of a node; None: what there is, unchecked before the cluster is joined."""
    gpu_memory_gib: float | None = Field(gt=0)
    """GiB of a GPU's memory; None: not known, and the roles' memory is not checked."""
    memory_gib: float | None = Field(gt=0)
    """GiB of a node's memory; None: not known, not checked."""


class Config(Section):
    run: RunSettings
    start: StartSettings
    cache: CacheSettings
    data: DataSettings
    recipe: RecipeChoice
    policy: PolicyChoice
    judge: JudgeSettings
    pairs: PairSettings
    sampler: SamplerSettings
    learner: LearnerSettings
    ingest: IngestSettings
    heldout: HeldoutSettings
    ablate: AblateSettings
    regimes: RegimeSettings
    score: ScoreSettings
    review: ReviewSettings
    serve: ServeSettings
    cluster: ClusterSettings
    trackers: TrackerSettings
    table: PublishedTable | None = None
    """A table of a paper that stands beside what jobs/score.py, ablate.py and regimes.py measure."""

    @model_validator(mode="before")
    @classmethod
    def _chosen_recipe(cls, values: Any) -> Any:
        """A chosen recipe stands in the place of a new policy's own, so that the policy's checks are made of it."""
        if not isinstance(values, dict):
            return values
        recipe, policy, ingest = (values.get(name) for name in ("recipe", "policy", "ingest"))
        if not (isinstance(recipe, dict) and isinstance(policy, dict) and isinstance(ingest, dict)):
            return values
        if recipe.get("name") and policy.get("encoder") and ingest.get("encode"):
            return values | {"policy": policy | {"recipe": recipe["name"]}}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        check_lengths(self)
        check_road(self)
        check_judges(self)
        check_start(self)
        check_adapters(self)
        check_reinforcement(self)
        check_growth(self)
        if self.policy.path is None:
            check_policy(self, self.policy.settings())
        return self

    @property
    def judges(self) -> dict[str, AnyJudge]:
        """The judge that trains and those that score held-out reports beside it, by name."""
        return {one.name: one for one in (*self.heldout.judges, self.judge)}

    @property
    def leaf_judges(self) -> dict[str, LeafJudge]:
        """The judges of the run that score by themselves, by name: an ensemble's members in its place."""
        return {leaf.name: leaf for judge in self.judges.values() for leaf in leaves_of(judge)}

    @property
    def trainings(self) -> dict[str, TrainingSettings]:
        """The trainings that the policy can go through; one of the user's own is the base as it is."""
        learner = self.learner
        named = {"pretrain": learner.pretrain, "sft": learner.sft} if self.policy.path is None else {}
        made = {name: one for name, one in named.items() if one is not None}
        return made | {self.run.alignment: self.aligning}

    @property
    def aligning(self) -> TrainingSettings:
        """The training of a round."""
        return self.learner.ppo if self.run.alignment == "ppo" else self.learner.dpo

    @property
    def trains_encoder(self) -> bool:
        """Whether any training of the run touches the encoder, so that there are no features to keep."""
        made = [one for name, one in self.trainings.items() if name != self.run.alignment or self.run.rounds]
        return any(name.partition(".")[0] == "encoder" for training in made for name in training.train)

    def plain(self, *sections: str) -> dict[str, Any]:
        """The resolved configuration as plain values, as the run folder keeps it: the sections that are named, else all
        but those of single jobs.
        """
        if sections:
            return self.model_dump(mode="json", include={*sections})
        return self.model_dump(mode="json", exclude={"ablate", "regimes", "score", "review", "table"})


def load_config(values: dict[str, Any], project: Path) -> Config:
    """The typed configuration from plain values, with absolute paths: roots are taken from the project's folder, the
    user's own data and models from the working directory.

    Raises ConfigurationError with one line for each fault, an unknown key with the nearest right one, and for a
    path that is not there.
    """
    try:
        values = with_judges(values, project / "configs" / "judge")
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        faults: dict[str, str] = {}
        for fault in error.errors():
            place = place_of(fault["loc"], values)
            # A union of plain types has a fault for each of them.
            faults.setdefault(place, explain(place, fault, values, Config))
        raise ConfigurationError("\n".join(faults.values())) from error
    run = config.run.model_copy(update={"root": (project / config.run.root.expanduser()).resolve()})
    cache = config.cache.model_copy(update={"root": (project / config.cache.root.expanduser()).resolve()})
    policy = _placed_policy(config)
    if run.start_from is not None:
        earlier = run.start_from.expanduser().absolute()
        if not earlier.is_dir():
            raise ConfigurationError(f"run.start_from: {earlier} does not exist; name the folder of another run")
        run = run.model_copy(update={"start_from": earlier})
    start = config.start
    if start.file is not None:
        file = start.file.expanduser().absolute()
        if not file.exists():
            raise ConfigurationError(f"{start.key}: {file} does not exist; name the file that round 0 starts from")
        start = start.model_copy(update={start.key.partition(".")[2]: file})
    data = _placed_data(config)
    placed = config.model_copy(
        update={
            "run": run,
            "start": start,
            "cache": cache,
            "data": data,
            "policy": policy,
            "score": config.score.placed(),
            "review": config.review.placed(),
        }
    )
    settings = policy.settings() if policy.path is None else read_settings(Path(policy.path))
    if policy.path is not None:
        try:
            check_policy(placed, settings)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
    if settings.reads == "regions" and isinstance(placed.data, PhantomDataSettings):
        # The phantom draws region masks for a policy that reads them.
        return placed.model_copy(update={"data": placed.data.model_copy(update={"regions": True})})
    return placed


def _placed_data(config: Config) -> Any:
    data = config.data
    if isinstance(data, PhantomDataSettings):
        return data
    if isinstance(data, Ct3drrgSettings):
        placed = {name: _placed_path(f"data.{name}.path", source.path) for name, source in data.sources.items()}
        return data.model_copy(
            update={name: source.model_copy(update={"path": placed[name]}) for name, source in data.sources.items()}
        )
    return data.model_copy(update={"path": _placed_path("data.path", data.path)})


def _placed_path(key: str, given: str) -> str:
    if is_remote(given):
        return given
    path = Path(given).expanduser().absolute()
    if not path.exists():
        raise ConfigurationError(f"{key}: {path} does not exist; name the folder that holds the data set")
    return str(path)


def _placed_policy(config: Config) -> PolicyChoice:
    policy, chosen = config.policy, config.recipe.name
    if policy.path is not None:
        path = Path(policy.path).expanduser().absolute()
        own = read_settings(path).recipe
        if config.ingest.encode and chosen not in (None, own):
            raise ConfigurationError(f"recipe={chosen}: the encoder of {path} expects {own}; leave recipe out")
        return policy.model_copy(update={"path": str(path)})
    placed: dict[str, Any] = {}
    for key in ("pretrained", "encoder_weights", "connector_weights", "language_model_weights"):
        part = getattr(policy, key)
        if part is None or part.path is None:
            continue
        path = Path(part.path).expanduser().absolute()
        if not path.exists():
            raise ConfigurationError(
                f"policy.{key}.path: {path} does not exist; name the file or folder of the weights"
            )
        placed[key] = part.model_copy(update={"path": str(path)})
    return policy.model_copy(update=placed)
