"""The samplers of a run as one: started with a policy's weights, or given them, and all of one version.

A sampler that is lost is replaced by one that starts from the same policy folder, some times in a run. Further ones
may be started for as long as much waits.
"""

import threading
import time
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import ray

from actors.learner_group import LearnerGroup
from actors.outages import Outages
from actors.placement import Placement, anywhere
from actors.remote import Actor, ActorDied, ActorLost, answer
from actors.weight_road import send_weights
from rlaif.config import Config
from rlaif.weight_roads import road_of

if TYPE_CHECKING:
    from rlaif.vision import Vision

_UNIT = "candidates"


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

    def __init__(self, config: Config, vision: "Vision | None", placement: Placement, outages: Outages) -> None:
        self.config, self.vision, self.placement, self.outages = config, vision, placement, outages
        self.actors: list[Actor] = []
        """Those that stand for the whole run."""
        self.restarts = 0
        """Lost samplers that were replaced so far."""
        self._further: list[Actor] = []
        self._further_lost = 0
        self._gone: dict[int, tuple[float, str, int]] = {}
        """When a sampler was lost that is being replaced, why, and how many candidates are written again."""
        self._given: list[tuple[Path, int]] = []
        self._policy: tuple[Path, int] | None = None
        self._closed = False
        # One thread may sample while another ends the fleet.
        self._lock = threading.RLock()

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
            self.actors = [self._new(number) for number in range(self.config.sampler.actors)]
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
                # A sampler that died starts anew with these weights, and the others are sent them once more; so they
                # are where the learner died that held them.
                self._settle()
                if self.restarts == restarts and not learners.settle():
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
                    self.stands(number)
                    break
                except ActorDied as error:
                    self.replace(number, self.actors[number], error)

    def _answer(self, number: int) -> tuple[int, str]:
        """The version and checksum in use at a sampler, once it stands."""
        timeout_s, who = self.config.sampler.timeout_s, f"sampler {number} at its start"
        state: tuple[int, str] = answer(self.actors[number].ready.remote(), timeout_s, who)
        return state

    def replace(self, number: int, lost: Actor, reason: ActorLost, repeated: int = 0) -> Actor:
        """The sampler in the place of a lost one, which starts while others go on; `stands` is to be told once it does.

        `repeated` candidates had been asked of the lost one and are asked again. Raises ActorLost where
        sampler.restarts are used up, or the samplers were ended.
        """
        cause = _cause(reason)
        with self._lock:
            if self._closed:
                raise ActorLost("the samplers were ended while they wrote") from reason
            if self.actors[number] is not lost:
                return self.actors[number]
            # One that died before it stood leaves what it was to make good.
            self._note(number)
            self._gone[number] = (time.monotonic(), cause, repeated)
            most = self.config.sampler.restarts
            if self.restarts >= most:
                self._note(number)
                raise ActorLost(f"{reason}; sampler.restarts={most} replaced no more of them: see the logs of the node")
            self.restarts += 1
            told = f"({self.restarts} of {most} times)"
            print(f"sampler {number} was lost and is started anew {told}: {cause}", flush=True)
            # One that cannot be reached may still hold its share of a node.
            ray.kill(lost)
            assert self._policy is not None
            self.actors[number], self._given[number] = self._new(number), self._policy
            return self.actors[number]

    def stands(self, number: int) -> None:
        """Takes note that a sampler stands, after which a replaced one's outage has its cost."""
        with self._lock:
            if number in self._gone:
                self._note(number, time.monotonic() - self._gone[number][0])

    def _note(self, number: int, seconds: float | None = None) -> None:
        if number in self._gone:
            _, cause, repeated = self._gone.pop(number)
            self.outages.note("sampler", f"sampler {number}", cause, repeated=repeated, unit=_UNIT, seconds=seconds)

    def further(self) -> Actor | None:
        """Starts a sampler beside those that stand for the whole run; None where there may be no more of them, or more
        were lost than sampler.restarts.
        """
        with self._lock:
            full = len(self.actors) + len(self._further) >= (self.config.sampler.max_actors or 0)
            if self._closed or full or self._further_lost > self.config.sampler.restarts:
                return None
            self._further.append(self._new(None))
            return self._further[-1]

    def end_further(self, actor: Actor | None = None) -> None:
        """Ends one of the further samplers, or all of them."""
        with self._lock:
            for one in [*self._further] if actor is None else [actor]:
                if one in self._further:
                    self._further.remove(one)
                    ray.kill(one)

    def lose_further(self, actor: Actor, reason: ActorLost, repeated: int) -> None:
        """Takes note of a lost further sampler, which is not replaced; another may come while much waits."""
        with self._lock:
            if self._closed:
                raise ActorLost("the samplers were ended while they wrote") from reason
            self.end_further(actor)
            self._further_lost += 1
            self.outages.note("sampler", "a further sampler", _cause(reason), repeated=repeated, unit=_UNIT)
            if self._further_lost > (most := self.config.sampler.restarts):
                print(
                    f"no further sampler is started any more: more than sampler.restarts={most} were lost", flush=True
                )

    def _new(self, number: int | None) -> Actor:
        from actors.sampler import SamplerActor

        settings = self.config.sampler.model_copy(update={"weights": road_of(self.config)})
        environment = engine_environment(settings.kv_cache_gib, settings.threads)
        place = self.placement
        options = anywhere(settings) if number is None else place.options("sampler", number, settings)
        options["runtime_env"] = {"env_vars": environment}
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
        with self._lock:
            self._closed = True
            for actor in (*self.actors, *self._further):
                ray.kill(actor)
            self._further = []
            for number in [*self._gone]:
                self._note(number)


def _cause(reason: ActorLost) -> str:
    return shorten(str(reason.__cause__ or reason).splitlines()[-1], 300)
