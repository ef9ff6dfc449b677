"""The batches of one judge on their way through its actors: each goes to the least busy one, or waits until one is."""

from collections import Counter, deque
from typing import Any

import ray

from actors.fleet import JudgePool
from actors.judge import Judged
from actors.losses import Losses
from actors.remote import Actor, ActorDied, answer
from rlaif.judges.case import JudgedCase


class JudgeQueue:
    """What one judge is asked in one stage. While batches wait, further actors are started, up to `max_actors`."""

    def __init__(self, pool: JudgePool, round_: int, losses: Losses) -> None:
        self._pool, self._round, self._losses = pool, round_, losses
        self._actors = list(pool.actors)
        self._further: list[Actor] = []
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
        """What came of a call, None where it was the start of a further actor; with `last`, no batch will be put any
        more. Raises ActorLost where an actor died too often, or is late.
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
        room = (settings.max_actors or settings.actors) - len(self._actors) - len(self._starting)
        wanted = -(-len(self._waiting) // settings.calls) - len(self._starting)
        for _ in range(min(room, wanted)):
            actor = self._pool.new()
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
        except ActorDied as reason:
            self._losses.note("judge", f"a further judge {self._pool.name}", str(reason))
            return
        self._further.append(actor)
        self._actors.append(actor)

    def _read(self, call: Any) -> Judged:
        actor, batch = self._calls.pop(call)
        judged: Judged = answer(call, self.timeout_s, f"judge {self._pool.name}")
        if self._pool.processes.setdefault(actor, judged.process) != judged.process:
            # Ray started it again, with every call that it had not answered.
            self._pool.processes[actor] = judged.process
            asked = [batch, *(other for where, other in self._calls.values() if where == actor)]
            repeated = sum(len(case.reports) for one in asked for case in one)
            reason = "its process ended, and was started again with the calls that it had not answered"
            self._losses.note("judge", f"judge {self._pool.name}", reason, repeated=repeated, unit="reports")
        return judged
