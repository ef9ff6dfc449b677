"""The samplers of a run as one: started with a policy's weights, or given them, and all of one version.

A sampler that is lost is replaced by one that starts from the same policy folder, some times in a run.
"""

from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import ray

from actors.learner_group import LearnerGroup
from actors.remote import Actor, ActorDied, ActorLost, answer
from actors.weight_road import send_weights
from rlaif.config import Config
from rlaif.weight_roads import road_of

if TYPE_CHECKING:
    from rlaif.vision import Vision


def engine_environment(kv_cache_gib: int, threads: int) -> dict[str, str]:
    """What a vLLM engine within an actor's own process needs to find in its environment."""
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
    }


class SamplerGroup:
    """The sampler actors, which are started when they are first asked to write with a policy."""

    def __init__(self, config: Config, vision: "Vision | None") -> None:
        self.config, self.vision = config, vision
        self.actors: list[Actor] = []
        self.restarts = 0
        """Lost samplers that were replaced so far."""
        self._given: list[tuple[Path, int]] = []
        self._policy: tuple[Path, int] | None = None
        self._closed = False

    @property
    def policy(self) -> tuple[Path, int] | None:
        """The policy folder and the version of the weights in use, once all samplers have them."""
        return self._policy if all(given == self._policy for given in self._given) else None

    def use(self, policy: Path, version: int, learners: LearnerGroup | None) -> None:
        """Gives the samplers the weights of a policy folder; `learners` are asked for them where engines stand.

        Raises ActorLost where more samplers are lost than may be replaced, and StartFailed where one cannot start.
        """
        if self._closed:
            raise ActorLost("the samplers were ended, and are asked to write")
        self._policy = (policy, version)
        if not self.actors:
            self.actors = [self._new() for _ in range(self.config.sampler.actors)]
            self._given = [self._policy for _ in self.actors]
        self._settle()
        while stale := [number for number, given in enumerate(self._given) if given != self._policy]:
            assert learners is not None
            restarts = self.restarts
            try:
                send_weights(
                    learners, [self.actors[one] for one in stale], policy, version, self.config.sampler.timeout_s
                )
            except ActorDied:
                # A sampler that died starts anew with these weights, and the others are sent them once more.
                self._settle()
                if self.restarts == restarts:
                    raise
            else:
                for one in stale:
                    self._given[one] = self._policy

    def _settle(self) -> None:
        """Waits until every sampler stands; those that died are replaced."""
        for number in range(len(self.actors)):
            while True:
                try:
                    self._answer(number)
                    break
                except ActorDied as error:
                    self.replace(number, self.actors[number], error)

    def _answer(self, number: int) -> tuple[int, str]:
        """The version and checksum in use at a sampler, once it stands."""
        timeout_s, who = self.config.sampler.timeout_s, f"sampler {number} at its start"
        state: tuple[int, str] = answer(self.actors[number].ready.remote(), timeout_s, who)
        return state

    def replace(self, number: int, lost: Actor, reason: ActorDied) -> Actor:
        """The sampler in the place of a lost one, which starts while others go on.

        Raises ActorLost where sampler.restarts are used up, or the samplers were ended.
        """
        if self._closed:
            raise ActorLost("the samplers were ended while they wrote") from reason
        if self.actors[number] is not lost:
            return self.actors[number]
        most = self.config.sampler.restarts
        if self.restarts >= most:
            raise ActorLost(f"{reason}; sampler.restarts={most} replaced no more of them: see the logs of the node")
        self.restarts += 1
        cause = shorten(str(reason.__cause__).splitlines()[-1], 300)
        print(f"sampler {number} was lost and is started anew ({self.restarts} of {most} times): {cause}", flush=True)
        # One that cannot be reached may still hold its share of a node.
        ray.kill(lost)
        assert self._policy is not None
        self.actors[number], self._given[number] = self._new(), self._policy
        return self.actors[number]

    def _new(self) -> Actor:
        from actors.sampler import SamplerActor

        settings = self.config.sampler.model_copy(update={"weights": road_of(self.config)})
        environment = engine_environment(settings.kv_cache_gib, settings.threads)
        options = {"num_cpus": settings.cpus, "num_gpus": settings.gpus, "runtime_env": {"env_vars": environment}}
        assert self._policy is not None
        folder, version = self._policy
        return SamplerActor.options(**options).remote(str(folder), version, self.vision, settings, self.config.run.seed)

    def checksum(self) -> str:
        """The checksum of the weights in use, the same in all samplers."""
        self._settle()
        states = {self._answer(number) for number in range(len(self.actors))}
        if len(states) != 1:
            raise ActorLost(f"samplers differ in their weights: {sorted(states)}")
        return str(states.pop()[1])

    def close(self) -> None:
        """Ends the samplers; a thread that waits for one of them is told so."""
        self._closed = True
        for actor in self.actors:
            ray.kill(actor)
