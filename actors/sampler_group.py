"""The samplers of a run as one: started with a policy's weights, or given them, and all of one version."""

from pathlib import Path
from typing import TYPE_CHECKING

import ray

from actors.learner_group import LearnerGroup
from actors.remote import Actor, ActorLost, answer
from actors.weight_road import send_weights
from rlaif.config import Config

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
        self._policy: tuple[Path, int] | None = None

    def use(self, policy: Path, version: int, learners: LearnerGroup | None) -> None:
        """Gives the samplers the weights of a policy folder; `learners` are asked for them where engines stand."""
        if not self.actors:
            self._start(policy, version)
        elif self._policy != (policy, version):
            assert learners is not None
            send_weights(learners, self.actors, policy, version, self.config.sampler.timeout_s)
        self._policy = (policy, version)

    def _start(self, policy: Path, version: int) -> None:
        from actors.sampler import SamplerActor

        settings = self.config.sampler
        environment = engine_environment(settings.kv_cache_gib, settings.threads)
        options = {"num_cpus": settings.cpus, "num_gpus": settings.gpus, "runtime_env": {"env_vars": environment}}
        self.actors = [
            SamplerActor.options(**options).remote(str(policy), version, self.vision, settings, self.config.run.seed)
            for _ in range(settings.actors)
        ]
        for number, sampler in enumerate(self.actors):
            answer(sampler.ready.remote(), settings.timeout_s, f"sampler {number} at its start")

    @property
    def policy(self) -> tuple[Path, int] | None:
        """The policy folder and the version of the weights in use."""
        return self._policy

    def checksum(self) -> str:
        """The checksum of the weights in use, the same in all samplers."""
        states = {answer(one.ready.remote(), self.config.sampler.timeout_s, "sampler") for one in self.actors}
        if len(states) != 1:
            raise ActorLost(f"samplers differ in their weights: {sorted(states)}")
        return str(states.pop()[1])

    def close(self) -> None:
        """Ends the samplers."""
        for actor in self.actors:
            ray.kill(actor)
        self.actors = []
