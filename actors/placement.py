"""Where learners and samplers stand: in placement groups, each role by itself or both together; others go where there
is room.
"""

from collections import Counter
from typing import Any, Literal

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.remote import ActorLost
from rlaif.config import Config

Role = Literal["learner", "sampler"]
Bundle = dict[str, float]


class Placement:
    """The places of a run's learners and samplers, which are reserved when the first of them is asked for.

    A place outlives who stands on it: one that is lost with its node is given another node as soon as there is room,
    and whoever is started on it waits for that.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._places: dict[tuple[Role, int], tuple[PlacementGroup, int]] = {}
        self._groups: list[PlacementGroup] = []

    def options(self, role: Role, number: int) -> dict[str, Any]:
        """The options with which actor `number` of a role is started: its CPUs, its GPUs, and its place where it has
        one. Raises ActorLost where the cluster has no room for all places.
        """
        needs = self._needs(role)
        options: dict[str, Any] = {"num_cpus": needs.get("CPU", 0), "num_gpus": needs.get("GPU", 0)}
        if self.config.cluster.placement == "anywhere":
            return options
        if not self._places:
            self._reserve()
        if (role, number) in self._places:
            group, bundle = self._places[role, number]
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                placement_group=group, placement_group_bundle_index=bundle
            )
        return options

    def close(self) -> None:
        """Gives the places back."""
        for group in self._groups:
            remove_placement_group(group)
        self._groups, self._places = [], {}

    def _needs(self, role: Role) -> Bundle:
        settings = self.config.learner if role == "learner" else self.config.sampler
        return {name: amount for name, amount in (("CPU", settings.cpus), ("GPU", settings.gpus)) if amount}

    def _reserve(self) -> None:
        learners = [("learner", number) for number in range(self.config.learner.ranks)]
        samplers = [("sampler", number) for number in range(self.config.sampler.actors)]
        if self.config.cluster.placement == "colocated":
            longer = max(len(learners), len(samplers))
            together = [[*learners[number : number + 1], *samplers[number : number + 1]] for number in range(longer)]
            self._group(together, "PACK")
        else:
            # Ranks speak to each other at every step, samplers never do.
            self._group([[one] for one in learners], "PACK")
            self._group([[one] for one in samplers], "SPREAD")

    def _group(self, bundles: list[list[Any]], strategy: str) -> None:
        """Reserves a bundle for those that stand on it together."""
        needed = [_sum([self._needs(role) for role, _ in tenants]) for tenants in bundles]
        group = placement_group(needed, strategy=strategy)
        self._groups.append(group)
        timeout_s = self.config.learner.timeout_s
        if not group.wait(timeout_s):
            self.close()
            free = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            raise ActorLost(
                f"cluster.placement={self.config.cluster.placement}: no room for {needed} in {timeout_s:g} s: the "
                f"nodes have {[{name: one.get(name, 0.0) for name in ('CPU', 'GPU')} for one in free]} in all; lower "
                "the roles' cpus and gpus, add nodes, or set cluster.placement=anywhere"
            )
        for bundle, tenants in enumerate(bundles):
            self._places |= dict.fromkeys(tenants, (group, bundle))


def _sum(parts: list[Bundle]) -> Bundle:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)
