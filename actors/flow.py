"""What is in flight between samplers, judges and the controller; it is bounded, whatever the number of cases."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import ray

from actors.fleet import JudgePool
from actors.judge import Judged
from actors.judge_queue import JudgeQueue
from actors.outages import Outages
from actors.remote import ActorLost
from actors.requests import Request
from actors.sampler_group import SamplerGroup
from actors.sampler_queue import SamplerQueue
from rlaif.config import Config
from rlaif.judges.case import JudgedCase
from rlaif.records import Candidate

# Batches that wait for a judge before samplers are waited for no longer: what they have written stays with them.
WAITING_BATCHES = 64


class AllSampled:
    """Says that every candidate has been written."""


Result: TypeAlias = list[Candidate] | Judged | AllSampled


class Flow:
    """Candidates from the samplers and judgements from the judges, as they come; bounds what is in flight."""

    def __init__(
        self,
        config: Config,
        pools: Sequence[JudgePool],
        samplers: SamplerGroup | None,
        requests: Sequence[Request],
        round_: int,
        outages: Outages | None = None,
    ) -> None:
        self._timeout_s = config.sampler.timeout_s
        self._sampling = SamplerQueue(config, samplers, requests, round_) if samplers else None
        self._judging = {pool.name: JudgeQueue(pool, round_, outages or Outages()) for pool in pools}

    def judge(self, judge: str, batch: list[JudgedCase]) -> None:
        """Sends a batch to the least busy actor of a judge, or keeps it until one is free."""
        self._judging[judge].put(batch)

    def results(self) -> Iterator[Result]:
        """Yields a case's candidates, what a judge made of a batch, and once that all candidates are written."""
        try:
            while self._unanswered or any(queue.busy for queue in self._judging.values()):
                one = self._next()
                queue = next((queue for queue in self._judging.values() if one in queue.calls), None)
                if queue is not None:
                    judged = queue.take(one, last=not self._unanswered)
                    if judged is not None:
                        yield judged
                    continue
                assert self._sampling is not None
                candidates = self._sampling.take(one)
                if candidates:
                    yield candidates
                    if not self._unanswered:
                        yield AllSampled()
        finally:
            if self._sampling is not None:
                self._sampling.end()
            for queue in self._judging.values():
                queue.end()

    @property
    def _unanswered(self) -> int:
        return self._sampling.unanswered if self._sampling is not None else 0

    def _next(self) -> Any:
        """The stream, start or call that has something."""
        calls = [call for queue in self._judging.values() for call in queue.calls]
        full = max((queue.waiting for queue in self._judging.values()), default=0) >= WAITING_BATCHES
        sampling = self._sampling
        written = [] if sampling is None else [*sampling.starts, *([] if full else sampling.streams)]
        timeout_s = max([self._timeout_s, *(queue.timeout_s for queue in self._judging.values() if queue.busy)])
        ready, _ = ray.wait([*calls, *written], timeout=timeout_s, fetch_local=False)
        if not ready:
            starting = f"; {len(sampling.starts)} samplers wait for a place" if sampling and sampling.starts else ""
            raise ActorLost(f"neither sampler nor judge gave anything in {timeout_s:g} s{starting}")
        return ready[0]
