"""How a policy's weights come from the learners to the samplers: who asks for a sync does not know the road."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.learner_group import LearnerGroup
from actors.remote import Actor, ActorLost, answer


def send_weights(
    learners: LearnerGroup, samplers: Sequence[Actor], policy: Path, version: int, timeout_s: float
) -> None:
    """Gives all samplers the weights of a policy folder, and proves that they use them."""
    weights: Any = learners.ranks[0].weights.remote(str(policy), version)
    loads: list[Any] = [sampler.load.remote(weights) for sampler in samplers]
    for number, load in enumerate(loads):
        in_use = answer(load, timeout_s, f"sampler {number} in a weight update")
        if in_use[0] != version:
            raise ActorLost(f"sampler {number} uses weights version {in_use[0]} where {version} was sent")
