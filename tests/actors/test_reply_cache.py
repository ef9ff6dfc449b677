"""The judge cache of a cluster: shared, durable, and there again after its actor died."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from actors.reply_cache import NAMESPACE, Gathered, ReplyCache, spent_of
from rlaif.files import RunError
from rlaif.judges.asking import Reply
from rlaif.judges.reply_store import ReplyStore
from rlaif.judges.verdict import Usage

Result = TypeVar("Result")


def key_of(name: object) -> str:
    return sha256(str(name).encode()).hexdigest()


def reply_of(text: str, cost: float = 0.0) -> Reply:
    return Reply(text, usage=Usage(1200, 80, cost, 0.75))


def within(seconds: float, work: Awaitable[Result]) -> Result:
    return asyncio.run(asyncio.wait_for(work, seconds))  # type: ignore[arg-type]


@pytest.fixture
def folder(cluster: None, tmp_path: Path) -> Iterator[Path]:
    """A cache folder whose actor ends with the test."""
    import ray

    yield tmp_path / "cache"
    for one in ray.util.list_named_actors(all_namespaces=True):
        if one["namespace"] == NAMESPACE:
            ray.kill(ray.get_actor(one["name"], namespace=NAMESPACE))


@pytest.fixture
def writers(ray_head: Any) -> Callable[[], list[psutil.Process]]:
    """The processes of the caches' actors below the tests' head, and of no other."""

    def found() -> list[psutil.Process]:
        below = psutil.Process(ray_head.pid).children(recursive=True)
        return [one for one in below if name_of(one).startswith("ray::ReplyWriter")]

    return found


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_what_is_put_at_once_comes_back_and_is_on_disk(folder: Path) -> None:
    replies = {key_of(number): reply_of(f"Score: {number}\n\0é🫁 \ud83e", 0.01) for number in range(300)}

    async def work() -> None:
        cache = ReplyCache(folder)
        assert await cache.get(key_of("none")) is None
        await asyncio.gather(*(cache.put(key, reply, "run") for key, reply in replies.items()))
        await cache.put(key_of(0), reply_of("too late", 5.0), "twice")
        await asyncio.gather(cache.pay("lost", 0.5), cache.pay("lost", 0.5))
        got = await asyncio.gather(*(cache.get(key) for key in (*replies, key_of("none"), key_of(0))))
        assert got == [*replies.values(), None, replies[key_of(0)]]
        assert await cache.spent("run") == 3.0 and await cache.spent("other") == 0.0
        big = reply_of("\0" * 4 * 2**20)
        await cache.put(key_of("big"), big, "run")
        assert await cache.get(key_of("big")) == big

    within(90, work())
    store = ReplyStore(folder)
    assert store.get_many(list(replies)) == list(replies.values())
    # What a second reply under a key cost, and what may have been paid for none, is spent all the same.
    for spent in (store.spent, partial(spent_of, folder)):
        assert [spent(run) for run in ("run", "twice", "lost", "other")] == [3.0, 5.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="must have a name of 1 to 200 characters"):
        spent_of(folder, "/a/long/path" * 20)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.slow
def test_two_clients_share_one_actor_and_see_what_another_cluster_wrote(
    folder: Path, writers: Callable[[], list[psutil.Process]]
) -> None:
    async def work() -> None:
        first, second = ReplyCache(folder), ReplyCache(folder.parent / "." / "elsewhere" / ".." / "cache")
        gets = [second.get(key_of(1)) for _ in range(20)]
        await asyncio.gather(first.put(key_of(1), reply_of("one", 0.5), "a"), *gets)
        assert await second.get(key_of(1)) == reply_of("one", 0.5)
        assert await second.spent("a") == 0.5
        assert len(writers()) == 1
        ReplyStore(folder).put(key_of(2), reply_of("from elsewhere", 0.25), "b")
        for _ in range(40):
            if found := await first.get(key_of(2)):
                break
            await asyncio.sleep(0.25)
        assert found == reply_of("from elsewhere", 0.25) and await second.spent("b") == 0.25

    within(90, work())


@pytest.mark.slow
def test_an_actor_that_is_killed_is_started_again_and_no_acknowledged_reply_is_lost(
    folder: Path, writers: Callable[[], list[psutil.Process]]
) -> None:
    acknowledged: list[int] = []

    async def put_all(cache: ReplyCache, first: int) -> None:
        for number in range(first, first + 60):
            await cache.put(key_of(number), reply_of(f"text {number}", 0.01), "run")
            acknowledged.append(number)
            if len(acknowledged) in (20, 200):
                for process in writers():
                    os.kill(process.pid, signal.SIGKILL)

    async def work() -> None:
        caches = ReplyCache(folder), ReplyCache(folder)
        await asyncio.gather(*(put_all(caches[n % 2], 1000 * n) for n in range(8)))
        assert await caches[0].spent("run") == 4.8
        got = await asyncio.gather(*(caches[1].get(key_of(number)) for number in acknowledged))
        assert got == [reply_of(f"text {number}", 0.01) for number in acknowledged]

    within(120, work())
    assert len(acknowledged) == 480 and len(ReplyStore(folder)) == 480
    assert 2 <= len(list(folder.iterdir())) <= 3


@pytest.mark.slow
def test_an_idle_actor_ends_itself_and_the_next_call_finds_everything(
    folder: Path, writers: Callable[[], list[psutil.Process]]
) -> None:
    async def work() -> None:
        cache = ReplyCache(folder, idle_s=1.0)
        await cache.put(key_of(1), reply_of("one", 0.5), "run")
        (writer,) = writers()
        await asyncio.to_thread(writer.wait, 30)
        assert await cache.get(key_of(1)) == reply_of("one", 0.5) and await cache.spent("run") == 0.5
        assert [one.pid for one in writers()] != [writer.pid]

    within(90, work())


def test_a_folder_that_fails_is_told_in_one_clear_error_and_tried_again(folder: Path) -> None:
    folder.write_text("mine", encoding="utf-8")

    async def work() -> None:
        cache = ReplyCache(folder)
        calls: list[Any] = [cache.get(key_of(1)), cache.put(key_of(1), reply_of("one"), "run"), cache.spent("run")]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert type(error) is RunError
            assert str(error) == f"cannot make the folder {folder}: a file of that name is in the way; move it"
        await asyncio.to_thread(folder.unlink)
        await cache.put(key_of(1), reply_of("one"), "run")
        assert await cache.get(key_of(1)) == reply_of("one")

    within(90, work())


def test_an_actor_that_hangs_is_not_waited_for_for_ever(
    folder: Path, writers: Callable[[], list[psutil.Process]]
) -> None:
    async def work() -> None:
        cache = ReplyCache(folder, timeout_s=30)
        await cache.put(key_of(1), reply_of("one"), "run")
        cache.timeout_s = 1.0
        (writer,) = writers()
        writer.suspend()
        try:
            calls = [cache.get(key_of(number % 3)) for number in range(50)]
            for error in await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10):
                assert type(error) is RunError and f"{folder} did not answer in 1 s" in str(error)
        finally:
            writer.resume()
        cache.timeout_s = 30
        assert await cache.get(key_of(1)) == reply_of("one")

    within(90, work())


def test_keys_and_replies_that_the_cache_does_not_hold_are_refused_alone(folder: Path) -> None:
    async def work() -> None:
        cache = ReplyCache(folder)
        good = [cache.put(key_of(number), reply_of("good"), "run") for number in range(5)]
        bad: list[Any] = [
            cache.put(key_of(9), reply_of("x", -1.0), "run"),
            cache.put("../" * 21 + "a", reply_of(""), "r"),
        ]
        results = await asyncio.gather(*good, *bad, cache.get("a" * 63), return_exceptions=True)
        assert results[:5] == [None] * 5 and all(type(error) is ValueError for error in results[5:])
        assert await cache.get(key_of(4)) == reply_of("good")

    within(90, work())


def test_calls_gather_while_one_is_out_and_outlive_a_cancelled_one() -> None:
    groups: list[list[int]] = []

    async def double(items: list[int]) -> list[int]:
        groups.append(items)
        await asyncio.sleep(0.02)
        if 13 in items:
            raise RunError("thirteen")
        return [2 * item for item in items]

    async def work() -> None:
        gathered = Gathered(double, 4)
        tasks = [asyncio.create_task(gathered(item)) for item in range(10)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError) and results[1:] == [2 * item for item in range(1, 10)]
        assert groups == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]
        failed = await asyncio.gather(*(gathered(item) for item in (12, 13, 14)), return_exceptions=True)
        assert [str(one) for one in failed] == ["24", "thirteen", "thirteen"]
        assert await gathered(14) == 28

    within(10, work())
