"""The requests of one stage on their way through the samplers: each is asked for what it has room for, and no more.

A sampler that dies is replaced, and what it had not answered is asked again; it comes out the same, for a candidate's
seed does not depend on who writes it. While the replacement starts, the others go on.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.remote import Actor, ActorDied, ActorLost, StartFailed, answer
from actors.requests import Request, new_stage
from actors.sampler_group import SamplerGroup
from rlaif.config import Config
from rlaif.records import Candidate

# Candidates that a sampler is asked for at a time, in those that its engine writes at once: some are being written,
# whole cases wait for their last one, and the next ones must be there when a place becomes free.
ASKED_AHEAD = 2
# Requests are sent in batches of at least this part of them, except for the last.
FEEDS_A_FILLING = 8


@dataclass(eq=False)
class _Sampler:
    """One of the samplers, its stream of candidates, and the requests that it has not answered.

    `number` is its place in the group; None for one beyond those that stand for the whole run.
    """

    number: int | None
    actor: Actor
    stream: Any = None
    asked: dict[tuple[str, str | None], Request] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "a further sampler" if self.number is None else f"sampler {self.number}"


class SamplerQueue:
    """What the samplers of a group are asked for in one stage, and what they answer."""

    def __init__(self, config: Config, group: SamplerGroup, requests: Sequence[Request], round_: int) -> None:
        self.timeout_s, self.round, self._stage = config.sampler.timeout_s, round_, new_stage()
        self._asked_ahead = ASKED_AHEAD * config.sampler.max_sequences
        self._group, self._requests, self._sent = group, requests, 0
        self._again: deque[Request] = deque()
        self._standing = [_Sampler(number, one) for number, one in enumerate(group.actors)]
        self._starting: dict[Any, _Sampler] = {}
        self._feed()

    @property
    def unanswered(self) -> int:
        """Requests whose candidates have not come yet."""
        return self._left + sum(len(one.asked) for one in self._standing)

    @property
    def streams(self) -> list[Any]:
        """What has something as soon as a sampler has written a case."""
        return [one.stream for one in self._standing if one.asked]

    @property
    def starts(self) -> list[Any]:
        """What has something as soon as a further or a replaced sampler stands."""
        return [*self._starting]

    def take(self, one: Any) -> list[Candidate]:
        """What came of a stream or start that has something: a case's candidates, or none.

        Raises ActorLost where a sampler is late or may not be replaced.
        """
        candidates: list[Candidate] = []
        if one in self._starting:
            self._stands(one)
        else:
            candidates = self._read(next(sampler for sampler in self._standing if sampler.stream is one))
        self._feed()
        return candidates

    def end(self) -> None:
        """Ends the stage; what is still being written is dropped, and further samplers end."""
        for sampler in (*self._standing, *self._starting.values()):
            sampler.actor.feed.remote(self._stage, [], end=True)
        self._group.end_further()

    @property
    def _left(self) -> int:
        """Requests that no sampler has."""
        return len(self._requests) - self._sent + len(self._again)

    def _feed(self) -> None:
        """Sends every sampler what it has room for, and no more than its share, so that all end at the same time."""
        for sampler in sorted(self._standing, key=lambda one: len(one.asked)):
            if not self._left:
                break
            room = self._asked_ahead - sum(one.n for one in sampler.asked.values())
            if sampler.asked and room < self._asked_ahead / FEEDS_A_FILLING:
                continue
            share = -(-self.unanswered // len(self._standing)) - len(sampler.asked)
            batch: list[Request] = []
            while self._left and len(batch) < share and (room > 0 or not (batch or sampler.asked)):
                batch.append(self._next())
                room -= batch[-1].n
            if batch:
                self._ask(sampler, batch)
        if self._left:
            self._grow()
        else:
            self._shrink()

    def _next(self) -> Request:
        if self._again:
            return self._again.popleft()
        self._sent += 1
        return self._requests[self._sent - 1]

    def _ask(self, sampler: _Sampler, batch: list[Request]) -> None:
        sampler.asked |= {one.key: one for one in batch}
        sampler.actor.feed.remote(self._stage, batch)
        if sampler.stream is None:
            sampler.stream = sampler.actor.sample.remote([], self.round, self._stage)

    def _grow(self) -> None:
        """Starts further samplers: one for each filling that no sampler has."""
        fillings = self._left * self._requests[-1].n // self._asked_ahead
        for _ in range(fillings - len(self._starting)):
            actor = self._group.further()
            if actor is None:
                return
            self._start(_Sampler(None, actor))

    def _shrink(self) -> None:
        """Ends further samplers that have nothing to do, or do not stand yet: nothing more will come for them."""
        idle = {start: one for start, one in self._starting.items() if one.number is None}
        for one in (*(one for one in self._standing if one.number is None and not one.asked), *idle.values()):
            self._group.end_further(one.actor)
        self._standing = [one for one in self._standing if one.number is not None or one.asked]
        self._starting = {start: one for start, one in self._starting.items() if start not in idle}

    def _start(self, sampler: _Sampler) -> None:
        self._starting[sampler.actor.ready.remote()] = sampler

    def _stands(self, start: Any) -> None:
        sampler = self._starting.pop(start)
        try:
            answer(start, self.timeout_s, f"{sampler.name} at its start")
        except ActorDied as reason:
            self._lose(sampler, reason)
            return
        except StartFailed as reason:
            # Those that stand for the whole run do without it.
            if sampler.number is not None:
                raise
            self._lose(sampler, reason)
            return
        if sampler.number is not None:
            self._group.stands(sampler.number)
        self._standing.append(sampler)

    def _read(self, sampler: _Sampler) -> list[Candidate]:
        """A case's candidates; none where the sampler had nothing to do for long, or was lost."""
        try:
            candidates: list[Candidate] = answer(next(sampler.stream), self.timeout_s, sampler.name)
        except StopIteration:
            sampler.stream = sampler.actor.sample.remote([], self.round, self._stage)
            return []
        except ActorDied as reason:
            self._standing.remove(sampler)
            self._lose(sampler, reason)
            return []
        del sampler.asked[candidates[0].case_id, candidates[0].feature_key]
        return candidates

    def _lose(self, sampler: _Sampler, reason: ActorLost) -> None:
        """Has what a lost sampler did not answer asked again, and starts another where it stood for the whole run."""
        repeated = sum(one.n for one in sampler.asked.values())
        self._again.extend(sampler.asked.values())
        if sampler.number is None:
            self._group.lose_further(sampler.actor, reason, repeated)
            return
        actor = self._group.replace(sampler.number, sampler.actor, reason, repeated)
        self._start(_Sampler(sampler.number, actor))
