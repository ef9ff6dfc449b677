"""The judge cache of a cluster: one actor for a folder writes it, and every judge asks through `ReplyCache`."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import ObjectLostError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlaif.files import RunError
from rlaif.judges.asking import Reply
from rlaif.judges.reply_store import ReplyStore
from rlaif.judges.stored_reply import Payment, StoredReply, check_key, check_run

Item = TypeVar("Item")
Result = TypeVar("Result")

NAMESPACE = "rlaif"
# Part of the actor's name: jobs of another release, which might not understand each other, have a writer of their own.
FORMAT = 2
IDLE_S = 300.0
REFRESH_S = 5.0
# Opening a folder of a million replies takes 20 seconds of one core, more on a busy machine.
TIMEOUT_S = 120.0
LOOK_AGAIN_S = 0.2
ITEMS_A_CALL = 64


@dataclass
class _Group(Generic[Item, Result]):
    items: list[Item] = field(default_factory=list)
    call: asyncio.Task[Sequence[Result]] | None = None


class Gathered(Generic[Item, Result]):
    """Many calls as few: what comes while one is out waits for it, and then goes out as one, at most `most` items.

    `call` gives a result for each item, in order; what it raises, all of its items meet. For one event loop.
    """

    def __init__(self, call: Callable[[list[Item]], Coroutine[Any, Any, Sequence[Result]]], most: int) -> None:
        self._call, self._most = call, most
        self._turn = asyncio.Lock()
        self._gathering: _Group[Item, Result] = _Group()

    async def __call__(self, item: Item) -> Result:
        if len(self._gathering.items) >= self._most:
            self._gathering = _Group()
        group, place = self._gathering, len(self._gathering.items)
        group.items.append(item)
        async with self._turn:
            if group.call is None:
                if self._gathering is group:
                    self._gathering = _Group()
                group.call = asyncio.create_task(self._call(group.items))
            # Whoever waits may be cancelled, and the others still need the answer.
            return (await asyncio.shield(group.call))[place]


class ReplyWriter:
    """The one writer of a folder in a cluster; ends itself after `idle_s` seconds without a call.

    The folder is opened by the first call, so that a failure reaches whoever calls, and the next call tries again.
    """

    def __init__(self, folder: str, idle_s: float) -> None:
        self._folder, self._idle_s = Path(folder), idle_s
        self._store: ReplyStore | None = None
        self._opening = asyncio.Lock()
        self._write: Gathered[list[StoredReply | Payment], None] = Gathered(self._write_all, ITEMS_A_CALL)
        self._calls = 0
        self._called = self._refreshed = time.monotonic()
        self._watch: asyncio.Task[None] | None = None

    async def get(self, keys: list[str]) -> list[Reply | None]:
        """The replies under keys; where some are missing, other writers' segments are looked through first."""
        return await self._counted(self._get(keys))

    async def put(self, paid: list[StoredReply | Payment]) -> None:
        """Keeps replies and payments; puts of one moment share one write and one fsync."""
        await self._counted(self._write(paid))

    async def spent(self, run: str) -> float:
        """US dollars that a run paid."""
        return await self._counted(self._spent(run))

    async def end(self) -> None:
        """Ends the actor where it is still idle."""
        if not self._calls and time.monotonic() - self._called >= self._idle_s:
            ray.actor.exit_actor()

    async def _get(self, keys: list[str]) -> list[Reply | None]:
        store = await self._opened()
        replies = await asyncio.to_thread(store.get_many, keys)
        if None in replies and await self._refresh(store):
            replies = await asyncio.to_thread(store.get_many, keys)
        return replies

    async def _spent(self, run: str) -> float:
        store = await self._opened()
        await self._refresh(store)
        return store.spent(run)

    async def _write_all(self, groups: list[list[StoredReply | Payment]]) -> list[None]:
        store = await self._opened()
        await asyncio.to_thread(store.put_many, [one for group in groups for one in group])
        return [None] * len(groups)

    async def _refresh(self, store: ReplyStore) -> bool:
        """Whether other writers' segments were looked through; not more often than every few seconds."""
        if time.monotonic() - self._refreshed < REFRESH_S:
            return False
        self._refreshed = time.monotonic()
        await asyncio.to_thread(store.refresh)
        return True

    async def _opened(self) -> ReplyStore:
        async with self._opening:
            if self._store is None:
                self._store = await asyncio.to_thread(ReplyStore, self._folder)
                self._refreshed = time.monotonic()
        return self._store

    async def _counted(self, work: Awaitable[Result]) -> Result:
        if self._watch is None:
            self._watch = asyncio.create_task(self._end_when_idle(ray.get_runtime_context().current_actor))
        self._calls += 1
        try:
            return await work
        finally:
            self._calls -= 1
            self._called = time.monotonic()

    async def _end_when_idle(self, myself: Any) -> None:
        while True:
            await asyncio.sleep(self._idle_s / 4)
            # An actor can be ended only from one of its calls.
            await myself.end.remote()


class ReplyCache:
    """The judge cache in a folder, for the judges of a cluster that share it; for one event loop.

    All methods raise RunError where the folder fails or the actor behind them does not answer in `timeout_s` seconds,
    and ValueError for a key or a reply that the cache does not hold. An actor that died is started again.
    """

    def __init__(self, folder: Path, timeout_s: float = TIMEOUT_S, idle_s: float = IDLE_S) -> None:
        self.folder, self.timeout_s, self.idle_s = folder.resolve(), timeout_s, idle_s
        self._found: Any = None
        self._get: Gathered[str, Reply | None] = Gathered(self._get_all, ITEMS_A_CALL)
        self._put: Gathered[StoredReply | Payment, None] = Gathered(self._put_all, ITEMS_A_CALL)

    async def get(self, key: str) -> Reply | None:
        """The reply under a key of 64 hexadecimal digits; None where there is none."""
        check_key(key)
        return await self._get(key)

    async def put(self, key: str, reply: Reply, run: str) -> None:
        """Keeps a reply that `run` paid for, durably once this returns; of a second one under a key the cost alone."""
        await self._put(StoredReply(key, run, reply))

    async def pay(self, run: str, cost_usd: float) -> None:
        """Keeps what `run` may have paid for a reply that never came, durably once this returns."""
        # The key is made here: a call that is repeated because its actor died is no second payment.
        await self._put(Payment(secrets.token_hex(32), run, cost_usd))

    async def spent(self, run: str) -> float:
        """US dollars that a run paid, with and without a reply that is kept."""
        check_run(run)
        return float(await self._ask("spent", run))

    async def _get_all(self, keys: list[str]) -> list[Reply | None]:
        replies: list[Reply | None] = await self._ask("get", keys)
        return replies

    async def _put_all(self, paid: list[StoredReply | Payment]) -> list[None]:
        await self._ask("put", paid)
        return [None] * len(paid)

    async def _ask(self, method: str, argument: Any) -> Any:
        lost: RayActorError | ObjectLostError | None = None
        try:
            async with asyncio.timeout(self.timeout_s):
                while True:
                    try:
                        if self._found is None:
                            self._found = await asyncio.to_thread(self._writer)
                        if self._found is not None:
                            return await getattr(self._found, method).remote(argument)
                    except (RayActorError, ObjectLostError) as error:
                        # It ended itself or was killed: its name is free in a moment.
                        lost, self._found = error, None
                    await asyncio.sleep(LOOK_AGAIN_S)
        except TimeoutError as error:
            raise RunError(
                f"the judge cache {self.folder} did not answer in {self.timeout_s:g} s"
                f"{f' (its actor died: {lost})' if lost else ''}: check the cluster and the folder's file system, and "
                "start again; the replies that were kept are safe"
            ) from error
        except RunError as error:
            # Ray puts the actor's traceback into the message.
            raise RunError(*getattr(error, "cause", error).args) from None

    def _writer(self) -> Any:
        """The folder's actor, started where there is none; None where it came and went meanwhile."""
        name = f"replies-{FORMAT}-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:32]}"
        # Where the folder is no shared one, the actor stands beside the first who asked.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True, "num_cpus": 0}
        try:
            return ReplyWriterActor.options(**options, scheduling_strategy=here).remote(str(self.folder), self.idle_s)
        except ValueError:
            # Somebody else's took the name first, and has ended since.
            return None


def spent_of(folder: Path, payer: str) -> float:
    """US dollars that a payer has paid in all, by the judge cache in a folder; for a process without an event loop.

    Raises RunError as ReplyCache does, and ValueError for a name by which nobody can pay.
    """
    return asyncio.run(ReplyCache(folder).spent(payer))


ReplyWriterActor: Any = ray.remote(ReplyWriter)
