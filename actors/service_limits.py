"""What all who ask a service share, over the whole cluster: its pace, and what each run spends on each judge.

One detached actor holds it, so that jobs share it too. It ends itself when nobody has called for a while, and whoever
asks next starts another; a lost one costs what it had learnt of the pace, and no more of a run's spending than what
nobody who asks knew.
"""

import asyncio
import bisect
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import ray

from actors.leases import Answer, Closed, Later, Lease, OverBudget, Settlement, Wish
from rlaif.judges.pacing import Pacing
from rlaif.judges.spending import Account
from rlaif.records import Failure

# Part of the actor's name: jobs of another release, which might not understand each other, have limits of their own.
FORMAT = 2
NAME, NAMESPACE = f"service-limits-{FORMAT}", "rlaif"
POLL_S = 20.0
"""How long an asker waits in one call: the dead hold no place in the queue for longer."""
IDLE_S = 900.0
"""With no call for so long, and nothing lent, the actor ends."""
CALL_TIMEOUT_S = 60.0
"""Longest wait for the actor; a call takes milliseconds, but for POLL_S of waiting."""


@dataclass(order=True)
class _Waiting:
    ticket: int
    wish: Wish = field(compare=False)
    answer: asyncio.Future[Answer] = field(compare=False)


class _Address:
    def __init__(self, now: float) -> None:
        self.pacing = Pacing(now)
        self.waiting: list[_Waiting] = []
        self.without: frozenset[str] = frozenset()
        self.trouble: Failure | None = None
        self.closed_until = now
        self.timer: asyncio.TimerHandle | None = None


@dataclass
class _Lent:
    wish: Wish
    number: int
    expiry: asyncio.TimerHandle


class ServiceLimits:
    """The limits, in one process and one event loop; `clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, poll_s: float = POLL_S) -> None:
        self._clock, self._poll_s = clock, poll_s
        self._addresses: dict[str, _Address] = {}
        self._accounts: dict[tuple[str, str], Account] = {}
        self._lent: dict[str, _Lent] = {}
        self._tickets = count(1)
        self._called = clock()

    async def acquire(self, wish: Wish, ticket: int | None = None) -> Answer:
        """Leave to send a request, as soon as there is any; after `poll_s` or the wish's `wait_s`, to ask again."""
        now = self._touch()
        place = self._addresses.setdefault(wish.address, _Address(now))
        place.pacing.bound(now, wish.concurrency, wish.requests_per_minute, wish.tokens_per_minute)
        self._account(wish).know(wish.cap_usd, wish.spent_usd)
        waiting = _Waiting(ticket or next(self._tickets), wish, asyncio.get_running_loop().create_future())
        bisect.insort(place.waiting, waiting)
        self._lend(place)
        # Unlike a time-out around it, this never cancels a future that was just given its answer.
        await asyncio.wait({waiting.answer}, timeout=min(self._poll_s, wish.wait_s))
        if waiting.answer.done():
            return waiting.answer.result()
        place.waiting.remove(waiting)
        return Later(waiting.ticket, place.trouble)

    async def release(self, lease_id: str, wish: Wish, settlement: Settlement) -> float:
        """Ends a request and gives what the run has now spent on the judge, in US dollars.

        A lease that nobody knows, of an earlier actor or given up, settles what was paid all the same.
        """
        self._touch()
        self._settle(self._lent.pop(lease_id, None), wish, settlement)
        return self._account(wish).settled_usd

    async def accounts(self, run: str) -> dict[str, dict[str, float]]:
        """The accounts of a run's judges, by their names, since this object began."""
        self._touch()
        return {judge: account.counts() for (of, judge), account in self._accounts.items() if of == run}

    async def state(self, address: str) -> dict[str, float]:
        """The pace at an address: its limit, and what is in flight and waits."""
        place = self._addresses.get(address) or _Address(self._clock())
        return {
            "limit": place.pacing.limit,
            "in_flight": place.pacing.in_flight,
            "waiting": len(place.waiting),
        }

    def _touch(self) -> float:
        self._called = self._clock()
        return self._called

    def _account(self, wish: Wish) -> Account:
        return self._accounts.setdefault((wish.run, wish.judge), Account())

    def _lend(self, place: _Address) -> None:
        if place.timer:
            place.timer.cancel()
            place.timer = None
        pause = place.closed_until - self._clock()
        for waiting in [one for one in place.waiting if pause > one.wish.patience_s]:
            place.waiting.remove(waiting)
            waiting.answer.set_result(Closed(pause))
        for waiting in tuple(place.waiting):
            account = self._account(waiting.wish)
            may = account.may_spend(waiting.wish.cost_usd)
            if may == "never":
                place.waiting.remove(waiting)
                waiting.answer.set_result(OverBudget(account.settled_usd))
                continue
            if may == "later":
                continue
            delay = place.pacing.delay_s(self._clock(), waiting.wish.tokens)
            if delay > 0:
                if math.isfinite(delay):
                    place.timer = asyncio.get_running_loop().call_later(delay, self._lend, place)
                return
            place.waiting.remove(waiting)
            waiting.answer.set_result(self._lease(place, waiting.wish, account))

    def _lease(self, place: _Address, wish: Wish, account: Account) -> Lease:
        number = place.pacing.begin(self._clock(), wish.tokens)
        account.begin(wish.cost_usd, retry=wish.retry)
        lease_id = uuid.uuid4().hex
        expiry = asyncio.get_running_loop().call_later(wish.lease_s, self._expire, lease_id)
        self._lent[lease_id] = _Lent(wish, number, expiry)
        return Lease(lease_id, place.without, account.settled_usd)

    def _expire(self, lease_id: str) -> None:
        lent = self._lent.pop(lease_id)
        self._settle(lent, lent.wish, Settlement("failed", lost=True))

    def _settle(self, lent: _Lent | None, wish: Wish, given: Settlement) -> None:
        account = self._account(wish)
        if given.paid:
            account.replies += 1
            account.paid_usd += given.cost_usd
            account.prompt_tokens += given.prompt_tokens
            account.completion_tokens += given.completion_tokens
            account.estimated += given.estimated
        account.throttles += given.outcome == "pushed_back"
        if lent is None:
            return
        lent.expiry.cancel()
        account.free(lent.wish.cost_usd)
        if given.lost:
            account.lost_usd += lent.wish.cost_usd
        place = self._addresses[wish.address]
        if given.without:
            place.without |= {given.without}
        now = self._clock()
        if given.outcome == "answered":
            place.trouble = None
        elif given.trouble:
            place.trouble = given.trouble
        if given.retry_after_s is not None:
            place.closed_until = max(place.closed_until, now + given.retry_after_s)
        excess = given.prompt_tokens + given.completion_tokens - wish.tokens if given.paid else 0
        place.pacing.end(now, lent.number, given.outcome, given.retry_after_s, excess)
        self._lend(place)


class SharedServiceLimits(ServiceLimits):
    """The limits as the cluster's one actor, which ends itself when it has been idle for `idle_s`."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        super().__init__()
        self._idle_s = idle_s
        self._watch: asyncio.TimerHandle | None = None

    def _touch(self) -> float:
        # Ray makes the object outside the event loop that its calls run in.
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(self._idle_s, self._end_where_idle)
        return super()._touch()

    def _end_where_idle(self) -> None:
        left = self._called + self._idle_s - self._clock()
        if left <= 0 and not self._lent:
            ray.kill(ray.get_runtime_context().current_actor)
        later = max(left, self._idle_s / 10)
        self._watch = asyncio.get_running_loop().call_later(later, self._end_where_idle)


def shared_actor() -> Any:
    """The cluster's actor of limits, started where there is none."""
    # Callers wait inside it: each takes one of the concurrent calls.
    options = {"name": NAME, "namespace": NAMESPACE, "get_if_exists": True, "lifetime": "detached"}
    return ray.remote(SharedServiceLimits).options(num_cpus=0, max_concurrency=10_000, **options).remote()


def accounts_of(run: str) -> dict[str, dict[str, float]]:
    """The accounts of a run's judges, by their names; empty where nothing was asked since the actor of limits began.

    Raises RayActorError and GetTimeoutError where it ends or hangs meanwhile.
    """
    try:
        actor = ray.get_actor(NAME, namespace=NAMESPACE)
    except ValueError:
        return {}
    counted: Any = ray.get(actor.accounts.remote(run), timeout=CALL_TIMEOUT_S)
    return dict(counted)
