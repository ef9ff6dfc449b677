"""What is in flight between samplers, judges and the controller; it is bounded, whatever the number of cases."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import ray

from actors.fleet import JudgePool
from actors.judge import Judged
from actors.remote import Actor, ActorDied, ActorLost, answer
from actors.requests import Request, new_stage
from actors.sampler_group import SamplerGroup
from rlaif.config import Config
from rlaif.judges.case import JudgedCase
from rlaif.records import Candidate

# Candidates that a sampler is asked for at a time, in those that its engine writes at once: some are being written,
# whole cases wait for their last one, and the next ones must be there when a place becomes free.
ASKED_AHEAD = 2
# Requests are sent in batches of at least this part of them, except for the last.
FEEDS_A_FILLING = 8
# Batches that wait for a judge before samplers are waited for no longer: what they have written stays with them.
WAITING_BATCHES = 64


class AllSampled:
    """Says that every candidate has been written."""


Result: TypeAlias = list[Candidate] | Judged | AllSampled


@dataclass(frozen=True)
class _Call:
    """A call in flight: at which actor of which judge."""

    pool: JudgePool
    number: int


@dataclass
class _Sampler:
    """One of the samplers, its stream of candidates, and the requests that it has not answered."""

    number: int
    actor: Actor
    stream: Any = None
    asked: dict[tuple[str, str | None], Request] = field(default_factory=dict)


class Flow:
    """Candidates from the samplers and judgements from the judges, as they come; bounds what is in flight.

    A sampler that dies is replaced; what it had not answered is asked again, and comes out the same, for a
    candidate's seed does not depend on who writes it.
    """

    def __init__(
        self,
        config: Config,
        pools: Sequence[JudgePool],
        samplers: SamplerGroup | None,
        requests: Sequence[Request],
        round_: int,
    ) -> None:
        self.timeout_s, self.round, self._stage = config.sampler.timeout_s, round_, new_stage()
        self._asked_ahead = ASKED_AHEAD * config.sampler.max_sequences
        self._group, self._requests, self._sent = samplers, requests, 0
        self._again: deque[Request] = deque()
        self._samplers = [_Sampler(number, one) for number, one in enumerate(samplers.actors if samplers else ())]
        self._judging: dict[Any, _Call] = {}
        self._waiting: dict[str, deque[list[JudgedCase]]] = {pool.name: deque() for pool in pools}
        self._pools = {pool.name: pool for pool in pools}
        self._feed()

    def _left(self) -> int:
        """Requests that no sampler has."""
        return len(self._requests) - self._sent + len(self._again) if self._samplers else 0

    def _unanswered(self) -> int:
        return self._left() + sum(len(one.asked) for one in self._samplers)

    def _feed(self) -> None:
        """Sends every sampler what it has room for, and no more than its share, so that all end at the same time."""
        for sampler in sorted(self._samplers, key=lambda one: len(one.asked)):
            if not self._left():
                return
            room = self._asked_ahead - sum(one.n for one in sampler.asked.values())
            if sampler.asked and room < self._asked_ahead / FEEDS_A_FILLING:
                continue
            share = -(-self._unanswered() // len(self._samplers)) - len(sampler.asked)
            batch: list[Request] = []
            while self._left() and len(batch) < share and (room > 0 or not (batch or sampler.asked)):
                batch.append(self._take())
                room -= batch[-1].n
            if batch:
                self._ask(sampler, batch)

    def _take(self) -> Request:
        if self._again:
            return self._again.popleft()
        self._sent += 1
        return self._requests[self._sent - 1]

    def _ask(self, sampler: _Sampler, batch: list[Request]) -> None:
        sampler.asked |= {one.key: one for one in batch}
        sampler.actor.feed.remote(self._stage, batch)
        if sampler.stream is None:
            sampler.stream = sampler.actor.sample.remote([], self.round, self._stage)

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
        """Yields a case's candidates, what a judge made of a batch, and once that all candidates are written."""
        try:
            while self._unanswered() or self._judging or any(self._waiting.values()):
                one = self._next()
                if one in self._judging:
                    pool = self._judging.pop(one).pool
                    yield answer(one, pool.call_timeout_s, f"judge {pool.name}")
                    self._dispatch(pool)
                    continue
                sampler = next(sampler for sampler in self._samplers if sampler.stream is one)
                candidates = self._candidates(sampler)
                self._feed()
                if candidates:
                    yield candidates
                    if not self._unanswered():
                        yield AllSampled()
        finally:
            for sampler in self._samplers:
                sampler.actor.feed.remote(self._stage, [], end=True)

    def _next(self) -> Any:
        """The stream or call that has something."""
        full = max((len(one) for one in self._waiting.values()), default=0) >= WAITING_BATCHES
        streams = [] if full else [one.stream for one in self._samplers if one.asked]
        timeout_s = max([self.timeout_s, *(call.pool.call_timeout_s for call in self._judging.values())])
        ready, _ = ray.wait([*self._judging, *streams], timeout=timeout_s, fetch_local=False)
        if not ready:
            raise ActorLost(f"neither sampler nor judge gave anything in {timeout_s:g} s")
        return ready[0]

    def _candidates(self, sampler: _Sampler) -> list[Candidate]:
        """A case's candidates; none where the sampler had nothing to do for long, or was lost and is replaced."""
        try:
            candidates: list[Candidate] = answer(next(sampler.stream), self.timeout_s, f"sampler {sampler.number}")
        except StopIteration:
            sampler.stream = sampler.actor.sample.remote([], self.round, self._stage)
            return []
        except ActorDied as reason:
            assert self._group is not None
            sampler.actor = self._group.replace(sampler.number, sampler.actor, reason)
            self._again.extend(sampler.asked.values())
            sampler.asked, sampler.stream = {}, None
            return []
        del sampler.asked[candidates[0].case_id, candidates[0].feature_key]
        return candidates
