"""The fleet: samplers, judges and learners of a run, each started when it is first needed.

The engines are imported then, too: a job that goes on from what is done, or ends in an error, waits for none of them.
"""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from actors.judge import JudgeActor
from actors.learner_group import LearnerGroup
from actors.outages import Outages
from actors.placement import Placement, anywhere
from actors.remote import Actor
from actors.sampler_group import SamplerGroup, engine_environment
from rlaif.config import Config
from rlaif.judges.settings import GreenJudgeSettings, LeafJudge

if TYPE_CHECKING:
    from rlaif.vision import Vision

# How often a judge actor that died by itself is started again.
JUDGE_RESTARTS = 2


@dataclass(frozen=True)
class JudgePool:
    """One judge and the actors that hold it."""

    settings: LeafJudge
    actors: list[Actor]
    further: Callable[[], Actor]
    """Starts one beside them, which is not started again when it dies."""
    processes: dict[Actor, str] = field(default_factory=dict)
    """By actor, the process that answered last: another one was started in the place of one that died."""

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


class Fleet:
    """Starts actors on demand and ends them together."""

    def __init__(self, config: Config, vision: "Vision | None", outages: Outages | None = None) -> None:
        self.config, self.vision = config, vision
        self.outages, self._placement = outages or Outages(), Placement(config)
        self._learners: LearnerGroup | None = None
        self._judges: dict[str, JudgePool] = {}
        self._samplers = SamplerGroup(config, vision, self._placement, self.outages)

    @property
    def learners(self) -> LearnerGroup:
        """The learner group."""
        if self._learners is None:
            self._learners = LearnerGroup(self.config, self.vision, self._placement, self.outages)
        return self._learners

    def judge(self, settings: LeafJudge) -> JudgePool:
        """The actors of a judge."""
        if settings.name not in self._judges:
            environment = {}
            if isinstance(settings, GreenJudgeSettings):
                environment = engine_environment(settings.kv_cache_gib, settings.threads)
            options = {
                # Calls wait for each other in an asynchronous actor only where it is told of fewer than come.
                "max_concurrency": settings.calls + 2,
                "runtime_env": {"env_vars": environment},
            }
            arguments = (
                settings,
                payer(self.config, settings.name),
                self.config.cache.root / "replies",
                self.config.run.seed,
            )
            role = f"judge {settings.name}"
            # A judge that died is started again with its calls: what it was answered is kept.
            again = {"max_restarts": JUDGE_RESTARTS, "max_task_retries": JUDGE_RESTARTS}
            actors = [
                JudgeActor.options(**options, **again, **self._placement.options(role, number, settings)).remote(
                    *arguments
                )
                for number in range(settings.actors)
            ]
            further = partial(JudgeActor.options(**options, **anywhere(settings)).remote, *arguments)
            self._judges[settings.name] = JudgePool(settings, actors, further)
        return self._judges[settings.name]

    def samplers(self, policy: Path, version: int) -> SamplerGroup:
        """The samplers with the weights of a policy folder: started with them, or synced and proved."""
        standing = self._samplers.actors and self._samplers.policy != (policy, version)
        self._samplers.use(policy, version, self.learners if standing else None)
        return self._samplers

    def close(self) -> None:
        """Ends every actor, gives their places back, and notes the nodes that were lost."""
        with ExitStack() as ending:
            # The last one first, and all of them, whatever one raises.
            ending.callback(self.outages.note_nodes)
            ending.callback(self._placement.close)
            for pool in self._judges.values():
                for actor in pool.actors:
                    ending.callback(ray.kill, actor)
            if self._learners is not None:
                ending.callback(self._learners.close)
            ending.callback(self._samplers.close)
