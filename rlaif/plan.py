"""`run.dry=true`: what a run would do and need, told from its configuration before anything is started or written."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.config import Config
from rlaif.datasets.phantom_settings import fingerprint
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.models.settings import PolicySettings, read_settings
from rlaif.plan_counts import Counts, counts_of
from rlaif.plan_needs import Need, Role, disk_needs, roles_of
from rlaif.plan_stages import Stage, stages_of
from rlaif.plan_tables import print_plan

if TYPE_CHECKING:
    from rlaif.models.size import PolicySize


@dataclass(frozen=True)
class Plan:
    """What a run would do: counts, stages in order, what it needs, and where it writes."""

    name: str
    counts: Counts
    judge_cost_usd: float
    stages: tuple[Stage, ...]
    disk: tuple[Need, ...]
    roles: tuple[Role, ...]
    places: dict[str, Path]

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

    Raises DatasetError and PolicyError where the run itself would.
    """
    policy = settings_of(config)
    counts = counts_of(config, image=policy.recipe is not None)
    size = _size(config, policy)
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
        # The rules judge runs here and asks nobody.
        judge_cost_usd=0.0,
        stages=stages_of(config, counts),
        disk=disk_needs(config, counts, policy, size),
        roles=roles_of(config, policy, size),
        places=places,
    )


def settings_of(config: Config) -> PolicySettings:
    """What the policy that the run starts from says of itself."""
    return config.policy.settings() if config.policy.path is None else read_settings(Path(config.policy.path))


def _size(config: Config, settings: PolicySettings) -> "PolicySize":
    # The models' own classes count their parameters; they take seconds to import, and only a plan needs that.
    from rlaif.models.new_policy import language_configuration
    from rlaif.models.pretrained import pretrained_configuration, pretrained_source
    from rlaif.models.size import policy_size, saved_configuration

    policy = config.policy
    if policy.path is not None:
        configuration = saved_configuration(Path(policy.path))
    elif policy.language_model is not None:
        configuration = language_configuration(policy.language_model, policy.language_model.vocabulary)
    else:
        assert policy.pretrained is not None
        configuration = pretrained_configuration(pretrained_source(policy.pretrained.path, policy.pretrained.package))
    return policy_size(configuration, settings, config.learner.lora)


def plan(config: Config) -> None:
    """Prints the plan of a run."""
    print_plan(plan_of(config))
