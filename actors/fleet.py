"""The fleet: samplers, judges and learners of a run, each started when it is first needed.

The engines are imported then, too: a job that goes on from what is done, or ends in an error, waits for none of them.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from actors.judge import JudgeActor
from rlaif.config import Config
from rlaif.judges.settings import GreenJudgeSettings, LeafJudge

if TYPE_CHECKING:
    from rlaif.vision import Vision

# A handle's methods are called through `.remote`, which its own types do not know.
Actor: TypeAlias = Any


# How often a judge actor that died by itself is started again.
JUDGE_RESTARTS = 2


class ActorLost(RuntimeError):
    """An actor that died or gave no answer in time."""


class LearnerGroup:
    """The learners as one: every call goes to all ranks, the answers come from rank 0."""

    def __init__(self, config: Config, vision: "Vision | None") -> None:
        from actors.learner import LearnerActor

        settings = config.learner
        environment = {"OMP_NUM_THREADS": str(settings.threads)}
        if not settings.gpus:
            environment["DS_ACCELERATOR"] = "cpu"
        options = {"num_cpus": settings.cpus, "num_gpus": settings.gpus, "runtime_env": {"env_vars": environment}}
        self.timeout_s = settings.timeout_s
        self.ranks: list[Actor] = [
            LearnerActor.options(**options).remote(rank, settings, vision, config.run.seed)
            for rank in range(settings.ranks)
        ]
        host, port = answer(self.ranks[0].address.remote(), self.timeout_s, "learner 0")
        self._all("connect", host, port)

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        calls = [getattr(rank, method).remote(*arguments) for rank in self.ranks]
        return [answer(call, self.timeout_s, f"learner {number} in {method}") for number, call in enumerate(calls)]

    def train(self, method: str, *arguments: Any) -> Iterator[dict[str, float]]:
        """Runs `train_sft` or `train_dpo` on all ranks and yields rank 0's steps; ends when all have ended."""
        streams = [getattr(rank, method).remote(*arguments) for rank in self.ranks]
        yield from steps_of(streams[0], self.timeout_s, f"learner 0 in {method}")
        for number, stream in enumerate(streams[1:], 1):
            for _ in steps_of(stream, self.timeout_s, f"learner {number} in {method}"):
                pass

    def logprob_gap(self, *arguments: Any) -> dict[str, float]:
        """Rank 0's `logprob_gap`."""
        return answer(self.ranks[0].logprob_gap.remote(*arguments), self.timeout_s, "learner 0 in logprob_gap")

    def weights(self, folder: Path, version: int) -> Any:
        """A reference to a policy folder's weights: the tensors go from rank 0 to the samplers."""
        return self.ranks[0].weights.remote(str(folder), version)


@dataclass(frozen=True)
class JudgePool:
    """One judge and the actors that hold it."""

    settings: LeafJudge
    actors: list[Actor]

    @property
    def name(self) -> str:
        """The judge's name."""
        return self.settings.name

    @property
    def call_timeout_s(self) -> float:
        """Longest wait for a call: its questions, one after another, fail by themselves before that."""
        return (self.settings.longest_chain(self.settings.batch) + 1) * self.settings.timeout_s


def payer(config: Config, judge: str) -> str:
    """Who pays for a judge's questions: a run, told from those of the same name elsewhere, and the judge."""
    folder = config.run.root / config.run.name
    return f"{config.run.name[:80]}-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}#{judge[:80]}"


def engine_environment(kv_cache_gib: int, threads: int) -> dict[str, str]:
    """What a vLLM engine within an actor's own process needs to find in its environment."""
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
    }


class Fleet:
    """Starts actors on demand and ends them together."""

    def __init__(self, config: Config, vision: "Vision | None") -> None:
        self.config, self.vision = config, vision
        self._learners: LearnerGroup | None = None
        self._judges: dict[str, JudgePool] = {}
        self._samplers: list[Actor] = []
        self._policy: tuple[Path, int] | None = None

    @property
    def learners(self) -> LearnerGroup:
        """The learner group."""
        if self._learners is None:
            self._learners = LearnerGroup(self.config, self.vision)
        return self._learners

    def judge(self, settings: LeafJudge) -> JudgePool:
        """The actors of a judge."""
        if settings.name not in self._judges:
            environment = {}
            if isinstance(settings, GreenJudgeSettings):
                environment = engine_environment(settings.kv_cache_gib, settings.threads)
            options = {
                "num_cpus": settings.cpus,
                "num_gpus": settings.gpus,
                # Calls wait for each other in an asynchronous actor only where it is told of fewer than come.
                "max_concurrency": settings.calls + 2,
                # A judge that died is started again with its calls: what it was answered is kept.
                "max_restarts": JUDGE_RESTARTS,
                "max_task_retries": JUDGE_RESTARTS,
                "runtime_env": {"env_vars": environment},
            }
            replies = self.config.cache.root / "replies"
            actors = [
                JudgeActor.options(**options).remote(
                    settings, payer(self.config, settings.name), replies, self.config.run.seed
                )
                for _ in range(settings.actors)
            ]
            self._judges[settings.name] = JudgePool(settings, actors)
        return self._judges[settings.name]

    def samplers(self, policy: Path, version: int) -> list[Actor]:
        """The samplers with the weights of a policy folder: started with them, or synced and proved."""
        if not self._samplers:
            self._start_samplers(policy, version)
        elif self._policy != (policy, version):
            self._sync(policy, version)
        self._policy = (policy, version)
        return self._samplers

    def _start_samplers(self, policy: Path, version: int) -> None:
        from actors.sampler import SamplerActor

        settings = self.config.sampler
        environment = engine_environment(settings.kv_cache_gib, settings.threads)
        options = {"num_cpus": settings.cpus, "num_gpus": settings.gpus, "runtime_env": {"env_vars": environment}}
        self._samplers = [
            SamplerActor.options(**options).remote(str(policy), version, self.vision, settings, self.config.run.seed)
            for _ in range(settings.actors)
        ]
        for number, sampler in enumerate(self._samplers):
            answer(sampler.ready.remote(), settings.timeout_s, f"sampler {number} at its start")

    def _sync(self, policy: Path, version: int) -> None:
        weights = self.learners.weights(policy, version)
        loads: list[Any] = [sampler.load.remote(weights) for sampler in self._samplers]
        for number, load in enumerate(loads):
            in_use = answer(load, self.config.sampler.timeout_s, f"sampler {number} in a weight update")
            if in_use[0] != version:
                raise ActorLost(f"sampler {number} uses weights version {in_use[0]} where {version} was sent")

    def checksum(self) -> str:
        """The checksum of the weights in use, the same in all samplers."""
        states = {answer(one.ready.remote(), self.config.sampler.timeout_s, "sampler") for one in self._samplers}
        if len(states) != 1:
            raise ActorLost(f"samplers differ in their weights: {sorted(states)}")
        return str(states.pop()[1])

    def close(self) -> None:
        """Ends every actor."""
        ranks = self._learners.ranks if self._learners else []
        judges = [actor for pool in self._judges.values() for actor in pool.actors]
        for actor in [*self._samplers, *judges, *ranks]:
            ray.kill(actor)


def answer(reference: Any, timeout_s: float, who: str) -> Any:
    """The result of a remote call; raises ActorLost where the actor died or the time ran out."""
    try:
        return ray.get(reference, timeout=timeout_s)
    except GetTimeoutError as error:
        raise ActorLost(f"{who} gave no answer in {timeout_s:g} s") from error
    except RayActorError as error:
        raise ActorLost(f"{who} died: {error}") from error


def steps_of(stream: Any, timeout_s: float, who: str) -> Iterator[Any]:
    """The items of a remote generator, each within the timeout."""
    while True:
        ready, _ = ray.wait([stream], timeout=timeout_s, fetch_local=False)
        if not ready:
            raise ActorLost(f"{who} gave nothing in {timeout_s:g} s")
        try:
            reference = next(stream)
        except StopIteration:
            return
        yield answer(reference, timeout_s, who)
