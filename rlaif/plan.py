"""`run.dry=true`: what a run would do and need, told from its configuration before anything is started or written."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.config import Config
from rlaif.datasets.phantom_settings import fingerprint
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.models.settings import CTViTSettings, read_settings
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
    recipe, encoder = vision(config)
    counts = counts_of(config, image=recipe is not None)
    size = _size(config, encoder)
    run = config.run.root / config.run.name
    cache = config.cache.root
    places = {"run folder": run}
    if isinstance(config.data, PhantomDataSettings):
        places["phantom data"] = cache / "phantom" / fingerprint(config.data.generator)
    if recipe is not None:
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
        disk=disk_needs(config, counts, encoder, size),
        roles=roles_of(config, encoder, size),
        places=places,
    )


def vision(config: Config) -> tuple[str | None, CTViTSettings | None]:
    """The recipe and encoder of the policy that the run starts from."""
    if config.policy.path is None:
        return config.policy.recipe, config.policy.encoder
    settings = read_settings(Path(config.policy.path))
    return settings.recipe, settings.encoder


def _size(config: Config, encoder: CTViTSettings | None) -> "PolicySize":
    # The models' own classes count their parameters; they take seconds to import, and only a plan needs that.
    from rlaif.models.pretrained import pretrained_configuration, pretrained_source
    from rlaif.models.size import policy_size, saved_configuration
    from rlaif.models.tiny import llama_configuration

    policy = config.policy
    if policy.path is not None:
        configuration = saved_configuration(Path(policy.path))
    elif policy.pretrained is not None:
        configuration = pretrained_configuration(pretrained_source(policy.pretrained.path, policy.pretrained.package))
    else:
        assert policy.language_model is not None
        configuration = llama_configuration(policy.language_model, policy.language_model.vocabulary)
    return policy_size(configuration, encoder, config.learner.lora)


def plan(config: Config) -> None:
    """Prints the plan of a run."""
    print_plan(plan_of(config))
