"""Where learners, samplers and judges stand: in placement groups, roles by themselves or together; further actors go
where there is room.
"""

from collections import Counter
from typing import Any, TypeAlias

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.remote import ActorLost, StartFailed
from rlaif.config import Config, SamplerSettings
from rlaif.judges.settings import LeafJudge
from rlaif.learner_settings import LearnerSettings

Settings: TypeAlias = LearnerSettings | SamplerSettings | LeafJudge
# A role, such as `learner` or `judge rules`, the number of one of its actors, and what that needs.
Tenant: TypeAlias = tuple[str, int, Settings]
Bundle: TypeAlias = dict[str, float]


def anywhere(settings: Settings) -> dict[str, Any]:
    """The options of an actor that has no place."""
    return {"num_cpus": settings.cpus, "num_gpus": settings.gpus}


class Placement:
    """The places of a run's fixed actors, which are reserved when the first of them is asked for.

    A place outlives who stands on it: one that is lost with its node is given another node as soon as there is room,
    and whoever is started on it waits for that.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._places: dict[tuple[str, int], tuple[PlacementGroup, int]] = {}
        self._groups: list[PlacementGroup] = []
        self._reserved = self._closed = False

    def options(self, role: str, number: int, settings: Settings) -> dict[str, Any]:
        """The options with which actor `number` of a role is started: its CPUs, its GPUs, and its place where it has
        one. Raises StartFailed where the cluster has no room for all places.
        """
        if self._closed:
            raise ActorLost("the run's places were given back, and another actor is to be started")
        options = anywhere(settings)
        if self.config.cluster.placement != "anywhere" and not self._reserved:
            self._reserve()
        if (role, number) in self._places:
            group, bundle = self._places[role, number]
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                placement_group=group, placement_group_bundle_index=bundle
            )
        return options

    def close(self) -> None:
        """Gives the places back."""
        self._closed = True
        for group in self._groups:
            remove_placement_group(group)
        self._groups, self._places = [], {}

    def _reserve(self) -> None:
        learner, sampler, judges = self.config.learner, self.config.sampler, self.config.leaf_judges
        learners: list[Tenant] = [("learner", number, learner) for number in range(learner.ranks)]
        samplers: list[Tenant] = [("sampler", number, sampler) for number in range(sampler.actors)]
        if self.config.cluster.placement == "colocated":
            longer = max(len(learners), len(samplers))
            self._group([[*learners[at : at + 1], *samplers[at : at + 1]] for at in range(longer)], "PACK")
        else:
            # Ranks speak to each other at every step, samplers never do.
            self._group([[one] for one in learners], "PACK")
            self._group([[one] for one in samplers], "SPREAD")
        self._group([[(f"judge {n}", at, one)] for n, one in judges.items() for at in range(one.actors)], "SPREAD")
        self._reserved = True

    def _group(self, bundles: list[list[Tenant]], strategy: str) -> None:
        """Reserves a bundle for those that stand on it together; who needs nothing has no place."""
        wanted = [(tenants, needed) for tenants in bundles if (needed := _needed(tenants))]
        if not wanted:
            return
        group = placement_group([needed for _, needed in wanted], strategy=strategy)
        self._groups.append(group)
        timeout_s = self.config.learner.timeout_s
        if not group.wait(timeout_s):
            has = [{name: node["Resources"].get(name, 0.0) for name in ("CPU", "GPU")} for node in _alive()]
            self.close()
            raise StartFailed(
                f"cluster.placement={self.config.cluster.placement}: no room for {[needed for _, needed in wanted]} in "
                f"{timeout_s:g} s: the nodes have {has} in all; lower the roles' cpus and gpus, add nodes, or set "
                "cluster.placement=anywhere"
            )
        for bundle, (tenants, _) in enumerate(wanted):
            self._places |= {(role, number): (group, bundle) for role, number, _ in tenants}


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _needed(tenants: list[Tenant]) -> Bundle:
    total: Counter[str] = Counter()
    for _, _, settings in tenants:
        total.update({"CPU": settings.cpus, "GPU": settings.gpus})
    return {name: amount for name, amount in total.items() if amount}
