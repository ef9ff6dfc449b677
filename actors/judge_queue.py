"""The batches of one judge on their way through its actors: each goes to the least busy one, or waits until one is."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import ray

from actors.fleet import JudgePool
from actors.judge import Judged
from actors.outages import Outages
from actors.remote import Actor, ActorDied, ActorLost, StartFailed, answer
from rlaif.judges.case import JudgedCase

# With more further actors lost than that, no more are started in a stage.
FURTHER_LOST = 2
_UNIT = "reports"


class JudgeQueue:
    """What one judge is asked in one stage. While batches wait, further actors are started, up to `max_actors`."""

    def __init__(self, pool: JudgePool, round_: int, outages: Outages) -> None:
        self._pool, self._round, self._outages = pool, round_, outages
        self._actors = list(pool.actors)
        self._further: list[Actor] = []
        self._further_lost = 0
        self._answered: set[Actor] = set()
        self._starting: dict[Any, Actor] = {}
        self._waiting: deque[list[JudgedCase]] = deque()
        self._calls: dict[Any, tuple[Actor, list[JudgedCase]]] = {}

    @property
    def waiting(self) -> int:
        """Batches that no actor has."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a batch waits or is being judged."""
        return bool(self._calls or self._waiting)

    @property
    def calls(self) -> list[Any]:
        """What has something as soon as a batch is judged, or a further actor stands."""
        return [*self._calls, *self._starting]

    @property
    def timeout_s(self) -> float:
        """Longest wait for a batch."""
        return self._pool.call_timeout_s

    def put(self, batch: list[JudgedCase]) -> None:
        """Sends a batch to the judge, or keeps it until an actor is free."""
        self._waiting.append(batch)
        self._dispatch()

    def take(self, one: Any, *, last: bool) -> Judged | None:
        """What came of a call; None where it was the start of a further actor, or was lost with one. With `last`, no
        batch will be put any more. Raises ActorLost where an actor died too often, or is late.
        """
        judged = None
        if one in self._starting:
            self._stands(one)
        else:
            judged = self._read(one)
        self._dispatch()
        if last and not self._waiting:
            self._shrink()
        return judged

    def end(self) -> None:
        """Ends the further actors, and with them what they were asked."""
        for actor in (*self._further, *self._starting.values()):
            ray.kill(actor)
        self._further, self._starting, self._actors = [], {}, list(self._pool.actors)

    def _dispatch(self) -> None:
        load = Counter(actor for actor, _ in self._calls.values())
        while self._waiting:
            actor = min(self._actors, key=lambda one: load[one])
            if load[actor] >= self._pool.settings.calls:
                self._grow()
                return
            batch = self._waiting.popleft()
            self._calls[actor.judge.remote(batch, self._round)] = actor, batch
            load[actor] += 1

    def _grow(self) -> None:
        """Starts further actors: one for as many waiting batches as an actor takes."""
        settings = self._pool.settings
        if self._further_lost > FURTHER_LOST:
            return
        room = (settings.max_actors or settings.actors) - len(self._actors) - len(self._starting)
        wanted = -(-len(self._waiting) // settings.calls) - len(self._starting)
        for _ in range(min(room, wanted)):
            actor = self._pool.further()
            self._starting[actor.ready.remote()] = actor

    def _shrink(self) -> None:
        loaded = {actor for actor, _ in self._calls.values()}
        for actor in [one for one in self._further if one not in loaded]:
            self._further.remove(actor)
            self._actors.remove(actor)
            ray.kill(actor)
        for actor in self._starting.values():
            ray.kill(actor)
        self._starting = {}

    def _stands(self, start: Any) -> None:
        actor = self._starting.pop(start)
        try:
            answer(start, self.timeout_s, f"a further judge {self._pool.name}")
        except (ActorDied, StartFailed) as reason:
            self._lose(actor, reason)
            return
        self._further.append(actor)
        self._actors.append(actor)

    def _read(self, call: Any) -> Judged | None:
        """What a batch was judged as; None where a further actor was lost with it, and another is asked."""
        actor, batch = self._calls.pop(call)
        try:
            judged: Judged = answer(call, self.timeout_s, f"judge {self._pool.name}")
        except ActorDied as reason:
            if actor not in self._further:
                raise
            # Its other calls fail as this one did.
            lost = [one for one, (where, _) in self._calls.items() if where == actor]
            again = [batch, *(self._calls.pop(one)[1] for one in lost)]
            self._waiting.extendleft(again)
            self._further.remove(actor)
            self._actors.remove(actor)
            self._lose(actor, reason, again)
            return None
        if actor not in self._further:
            self._compare(actor, batch, judged.process)
        return judged

    def _lose(self, actor: Actor, reason: ActorLost, again: Sequence[list[JudgedCase]] = ()) -> None:
        """Takes note of a lost further actor, and of what it was asked."""
        ray.kill(actor)
        self._further_lost += 1
        name = f"a further judge {self._pool.name}"
        self._outages.note("judge", name, str(reason), repeated=_reports(again), unit=_UNIT)

    def _compare(self, actor: Actor, batch: list[JudgedCase], process: str) -> None:
        """Takes note where Ray started an actor again, with every call that it had not answered."""
        before = self._pool.processes.get(actor, process)
        self._pool.processes[actor] = process
        if before != process:
            # One that died between two stages was asked nothing.
            known = actor in self._answered
            asked = [batch, *(other for where, other in self._calls.values() if where == actor)]
            reason = "its process ended and was started again"
            name, repeated = f"judge {self._pool.name}", _reports(asked) if known else None
            self._outages.note("judge", name, reason, repeated=repeated, unit=_UNIT)
        self._answered.add(actor)


def _reports(batches: Sequence[list[JudgedCase]]) -> int:
    return sum(len(case.reports) for batch in batches for case in batch)
