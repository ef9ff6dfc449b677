"""`run.dry=true`: what a run would do and need, told from its configuration before anything is started or written."""

from dataclasses import dataclass
from pathlib import Path

from rlaif.config import Config
from rlaif.datasets.phantom_settings import fingerprint
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.plan_counts import Counts, check_counts, counts_of
from rlaif.plan_fits import check_fits_preset
from rlaif.plan_judges import JudgePlan, judge_plans
from rlaif.plan_memory import GIB, Need, Role
from rlaif.plan_needs import disk_needs, roles_of
from rlaif.plan_stages import Stage, stages_of
from rlaif.plan_tables import print_plan
from rlaif.plan_trainings import check_trainings, language_model_of, settings_of


@dataclass(frozen=True)
class Plan:
    """What a run would do: counts, stages in order, what it needs, and where it writes."""

    name: str
    counts: Counts
    judges: tuple[JudgePlan, ...]
    stages: tuple[Stage, ...]
    disk: tuple[Need, ...]
    roles: tuple[Role, ...]
    places: dict[str, Path]
    card: float | None
    """Bytes of a GPU's memory, where the configuration names them."""

    @property
    def cpus(self) -> float:
        """CPUs of all actors that stand at the same time."""
        return sum(role.count * role.cpus for role in self.roles if role.lasting)

    @property
    def gpus(self) -> float:
        """GPUs of all actors that stand at the same time."""
        return sum(role.count * role.gpus for role in self.roles if role.lasting)


def plan_of(config: Config) -> Plan:
    """The plan of a run; reads the data set's tables and the policy's configuration, and writes nothing.

    Raises DatasetError, PolicyError and ConfigurationError where the run itself would.
    """
    policy = settings_of(config)
    counts = counts_of(config, image=policy.recipe is not None)
    check_counts(config, counts)
    # The models' own classes count their parameters; they take seconds to import, and only a plan needs that.
    from rlaif.models.size import policy_size

    size = policy_size(language_model_of(config), policy, config.learner.lora)
    trained = trained_at_once(config)
    run = config.run.root / config.run.name
    cache = config.cache.root
    places = {"run folder": run}
    if isinstance(config.data, PhantomDataSettings):
        places["phantom data"] = cache / "phantom" / fingerprint(config.data.generator)
    if policy.recipe is not None and not config.trains_encoder:
        places["encoder features"] = cache / "features"
    if config.policy.path is None:
        places["policies by content"] = cache / "start"
        places["base policies by content"] = cache / "base"
    return Plan(
        name=config.run.name,
        counts=counts,
        judges=judge_plans(config, counts),
        stages=stages_of(config, counts),
        disk=disk_needs(config, counts, policy, size),
        roles=roles_of(config, policy, size, trained),
        places=places,
        card=None if config.cluster.gpu_memory_gib is None else config.cluster.gpu_memory_gib * GIB,
    )


def plan(config: Config) -> None:
    """Prints the plan of a run; raises ConfigurationError where it does not fit what its preset is made for."""
    made = plan_of(config)
    print_plan(made)
    check_fits_preset(config, made.roles)


def check_memory(config: Config) -> None:
    """Raises ConfigurationError where a run does not fit the GPUs and the memory that `cluster` names, if it does."""
    if config.cluster.gpus is None and config.cluster.gpu_memory_gib is None:
        return
    from rlaif.models.size import policy_size

    policy = settings_of(config)
    size = policy_size(language_model_of(config), policy, config.learner.lora)
    check_fits_preset(config, roles_of(config, policy, size, trained_at_once(config)))


def trained_at_once(config: Config) -> int:
    """The most parameters that train at once."""
    counts = check_trainings(config)
    return max((many for name, many in counts.items() if name != "dpo" or config.run.rounds), default=0)
