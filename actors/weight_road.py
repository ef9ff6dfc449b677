"""How a policy's weights come from the learners to the samplers: who asks for a sync does not know the road."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import ray

from actors.learner_group import LearnerGroup
from actors.remote import Actor, ActorDied, ActorLost, answer
from actors.stale_weights import StaleWeights
from rlaif.weight_roads import Road, road_of

# Sends a policy folder's weights from the learners to the samplers under a version, each wait within the timeout;
# gives what every sampler then uses. A road keeps nothing between two syncs: learners and samplers may be others then.
WeightRoad: TypeAlias = Callable[[LearnerGroup, Sequence[Actor], Path, int, float], list[tuple[int, str]]]


def send_weights(
    learners: LearnerGroup, samplers: Sequence[Actor], policy: Path, version: int, timeout_s: float
) -> None:
    """Gives all samplers the weights of a policy folder, and proves that they use them.

    Raises StaleWeights where one uses others afterwards, and ActorLost where one gave no answer.
    """
    road = road_of(learners.config)
    for number, in_use in enumerate(states := _ROADS[road](learners, samplers, policy, version, timeout_s)):
        if in_use != (version, states[0][1]):
            raise StaleWeights(
                f"sampler {number} uses weights version {in_use[0]} of checksum {in_use[1]} where version {version} of "
                f"checksum {states[0][1]} was sent by {road}: start the run again, it goes on from its last checkpoint"
            )


def _through_the_object_store(
    learners: LearnerGroup, samplers: Sequence[Actor], policy: Path, version: int, timeout_s: float
) -> list[tuple[int, str]]:
    """One object for all samplers of a node, which read it where it lies; adapters alone where only they train."""
    weights = learners.weights(str(policy), version)
    loads = [sampler.load.remote(weights) for sampler in samplers]
    return [answer(load, timeout_s, f"sampler {number} in a weight update") for number, load in enumerate(loads)]


def _between_gpus(
    learners: LearnerGroup, samplers: Sequence[Actor], policy: Path, version: int, timeout_s: float
) -> list[tuple[int, str]]:
    """From the GPUs of the learners into the engines by vLLM's weight transfer; what engines do not hold, beside it.

    All ranks gather what is shared out over them, and rank 0 sends.
    """
    road, parallel = road_of(learners.config), learners.config.sampler.tensor_parallel
    host, port = answer(learners.ranks[0].address.remote(), timeout_s, "learner 0 in a weight update")
    calls = [
        rank.transfer.remote(str(policy), version, road, list(samplers), parallel, (host, port), timeout_s)
        for rank in learners.ranks
    ]
    waiting = {call: number for number, call in enumerate(calls)}
    try:
        while waiting:
            # The first that ends: one that failed leaves the others in a gathering that never ends.
            ready, _ = ray.wait([*waiting], timeout=timeout_s, fetch_local=False)
            if not ready:
                raise ActorLost(f"no learner ended a weight update in {timeout_s:g} s")
            number = waiting.pop(ready[0])
            # A word alone: what rank 0 gives stays where it is.
            answer(learners.ranks[number].ready.remote(ready[0]), timeout_s, f"learner {number} in a weight update")
        adopted = [sampler.adopt.remote(calls[0]) for sampler in samplers]
        return [answer(one, timeout_s, f"sampler {number} in a weight update") for number, one in enumerate(adopted)]
    except ActorDied as error:
        # The others are in the middle of the update, and cannot begin another one.
        raise ActorLost(f"{error}; start the same command again, it goes on from its last checkpoint") from error


_ROADS: dict[Road, WeightRoad] = {
    "object_store": _through_the_object_store,
    "nccl": _between_gpus,
    "ipc": _between_gpus,
}
