"""What is in flight between samplers, judges and the controller; it is bounded, whatever the number of cases."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import ray

from actors.fleet import JudgePool
from actors.judge import Judged
from actors.remote import Actor, ActorLost, answer
from actors.requests import Request
from actors.sampler_group import SamplerGroup
from rlaif.config import Config
from rlaif.judges.case import JudgedCase
from rlaif.records import Candidate

# Requests of one call to a sampler, and such calls in its queue.
REQUESTS_A_CALL = 512
CALLS_AHEAD = 2
# Batches that wait for a judge before samplers are waited for no longer: what they have written stays with them.
WAITING_BATCHES = 64


class AllSampled:
    """Says that every sampler has ended."""


Result: TypeAlias = list[Candidate] | Judged | AllSampled


@dataclass(frozen=True)
class _Call:
    """A call in flight: at which actor of which judge."""

    pool: JudgePool
    number: int


class Flow:
    """Candidates from the samplers and judgements from the judges, as they come; bounds what is in flight."""

    def __init__(
        self,
        config: Config,
        pools: Sequence[JudgePool],
        samplers: SamplerGroup | None,
        requests: Sequence[Request],
        round_: int,
    ) -> None:
        self.timeout_s, self.round = config.sampler.timeout_s, round_
        standing: list[Actor] = samplers.actors if samplers is not None else []
        chunk = max(1, min(REQUESTS_A_CALL, -(-len(requests) // max(1, len(standing)))))
        self._chunks = deque(requests[i : i + chunk] for i in range(0, len(requests), chunk))
        self._streams: dict[Any, Any] = {}
        self._judging: dict[Any, _Call] = {}
        self._waiting: dict[str, deque[list[JudgedCase]]] = {pool.name: deque() for pool in pools}
        self._pools = {pool.name: pool for pool in pools}
        for _ in range(CALLS_AHEAD):
            for sampler in standing:
                self._ask(sampler)

    def _ask(self, sampler: Any) -> None:
        if self._chunks:
            self._streams[sampler.sample.remote(self._chunks.popleft(), self.round)] = sampler

    def judge(self, judge: str, batch: list[JudgedCase]) -> None:
        """Sends a batch to the least busy actor of a judge, or keeps it until one is free."""
        self._waiting[judge].append(batch)
        self._dispatch(self._pools[judge])

    def _dispatch(self, pool: JudgePool) -> None:
        load = Counter(call.number for call in self._judging.values() if call.pool is pool)
        waiting = self._waiting[pool.name]
        while waiting:
            number = min(range(len(pool.actors)), key=lambda one: load[one])
            if load[number] >= pool.settings.calls:
                return
            call = pool.actors[number].judge.remote(waiting.popleft(), self.round)
            self._judging[call] = _Call(pool, number)
            load[number] += 1

    def results(self) -> Iterator[Result]:
        """Yields a case's candidates, what a judge made of a batch, and once that every sampler has ended."""
        told = not self._streams
        while self._streams or self._judging or any(self._waiting.values()):
            full = max((len(one) for one in self._waiting.values()), default=0) >= WAITING_BATCHES
            streams = [] if full else [*self._streams]
            timeout_s = max([self.timeout_s, *(call.pool.call_timeout_s for call in self._judging.values())])
            ready, _ = ray.wait([*self._judging, *streams], timeout=timeout_s, fetch_local=False)
            if not ready:
                raise ActorLost(f"neither sampler nor judge gave anything in {timeout_s:g} s")
            one: Any = ready[0]
            if one in self._judging:
                pool = self._judging.pop(one).pool
                yield answer(one, pool.call_timeout_s, f"judge {pool.name}")
                self._dispatch(pool)
                continue
            try:
                reference = next(one)
            except StopIteration:
                self._ask(self._streams.pop(one))
                if not self._streams and not told:
                    told = True
                    yield AllSampled()
                continue
            yield answer(reference, self.timeout_s, "sampler")
