"""The limits that all askers share: in one process, and as the cluster's actor."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from chat_server import ChatServer, say, status

from actors.chat_ask import ChatAsk
from actors.cluster_limits import ClusterLimits, LimitsLost
from actors.leases import Closed, Later, Lease, OverBudget, Settlement, Wish
from actors.service_limits import NAME, NAMESPACE, ServiceLimits, SharedServiceLimits, accounts_of, shared_actor
from rlaif.judges.asking import Message, Question
from rlaif.judges.settings import Gpt4JudgeSettings

ANSWERED = Settlement("answered", paid=True, prompt_tokens=90, completion_tokens=10, cost_usd=0.5)


def wish(**changes: Any) -> Wish:
    given: dict[str, Any] = {
        "address": "http://127.0.0.1:1/v1 m",
        "concurrency": 2,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "run": "run",
        "judge": "gpt4",
        "tokens": 100,
        "cost_usd": 1.0,
        "cap_usd": None,
        "spent_usd": 0.0,
        "lease_s": 60.0,
        "wait_s": 60.0,
        "patience_s": 60.0,
        **changes,
    }
    return Wish(**given)


async def lent(limits: ServiceLimits, wanted: Wish) -> Lease:
    answer = await limits.acquire(wanted)
    assert isinstance(answer, Lease)
    return answer


def test_no_more_than_the_limit_is_lent_and_the_queue_keeps_its_order() -> None:
    async def play() -> None:
        limits = ServiceLimits(poll_s=0.1)
        first, second = await lent(limits, wish()), await lent(limits, wish())
        third, fourth = await asyncio.gather(limits.acquire(wish()), limits.acquire(wish()))
        assert isinstance(third, Later) and isinstance(fourth, Later) and third.ticket < fourth.ticket
        assert (await limits.state(wish().address)) == {"limit": 24.0, "in_flight": 2, "waiting": 0}
        # The later comer asks again first, and still stands behind.
        behind = asyncio.create_task(limits.acquire(wish(), fourth.ticket))
        await asyncio.sleep(0)
        before = asyncio.create_task(limits.acquire(wish(), third.ticket))
        await asyncio.sleep(0)
        await limits.release(first.lease_id, wish(), ANSWERED)
        assert isinstance(await before, Lease)
        assert isinstance(await behind, Later)
        await limits.release(second.lease_id, wish(), ANSWERED)
        assert (await limits.state(wish().address))["in_flight"] == 1

    asyncio.run(play())


def test_addresses_do_not_wait_for_each_other() -> None:
    async def play() -> None:
        limits = ServiceLimits(poll_s=0.1)
        await lent(limits, wish(concurrency=1))
        assert isinstance(await limits.acquire(wish(concurrency=1)), Later)
        await lent(limits, wish(concurrency=1, address="http://127.0.0.1:2/v1 m"))

    asyncio.run(play())


def test_a_pause_ends_by_itself() -> None:
    async def play() -> None:
        limits = ServiceLimits()
        lease = await lent(limits, wish())
        await limits.release(lease.lease_id, wish(), Settlement("pushed_back", retry_after_s=0.3))
        started = time.monotonic()
        await lent(limits, wish())
        assert 0.25 < time.monotonic() - started < 1

    asyncio.run(play())


def test_a_pause_that_is_longer_than_the_patience_closes_the_address_for_those_alone() -> None:
    async def play() -> None:
        limits = ServiceLimits()
        lease = await lent(limits, wish())
        patient = asyncio.create_task(limits.acquire(wish(concurrency=1)))
        waiting = asyncio.create_task(limits.acquire(wish(concurrency=1, patience_s=0.1)))
        await asyncio.sleep(0)
        await limits.release(lease.lease_id, wish(), Settlement("pushed_back", retry_after_s=0.5))
        closed = await waiting
        assert isinstance(closed, Closed) and closed.pause_s == pytest.approx(0.5, abs=0.05)
        assert isinstance(await limits.acquire(wish(patience_s=0.1)), Closed)
        assert isinstance(await patient, Lease)
        assert not isinstance(await limits.acquire(wish(patience_s=0.1, wait_s=0.1)), Closed)

    asyncio.run(play())


def test_who_waits_in_vain_is_told_by_what_the_address_holds_up() -> None:
    async def play() -> None:
        limits = ServiceLimits()
        one = wish(concurrency=1)
        lease = await lent(limits, one)
        started = time.monotonic()
        assert await limits.acquire(wish(wait_s=0.1)) == Later(2)
        assert time.monotonic() - started < 1
        await limits.release(lease.lease_id, one, Settlement("pushed_back", 0.2, trouble="rate_limit"))
        assert await limits.acquire(wish(wait_s=0.1)) == Later(3, "rate_limit")
        lease = await lent(limits, one)
        assert await limits.acquire(wish(wait_s=0.1)) == Later(5, "rate_limit")
        await limits.release(lease.lease_id, one, ANSWERED)
        await lent(limits, one)
        assert await limits.acquire(wish(wait_s=0.1)) == Later(7)

    asyncio.run(play())


def test_a_lease_that_nobody_gives_back_expires_and_its_cost_counts() -> None:
    async def play() -> None:
        limits = ServiceLimits()
        wanted = wish(concurrency=1, lease_s=0.2)
        lost = await lent(limits, wanted)
        await lent(limits, wanted)
        account = (await limits.accounts("run"))["gpt4"]
        assert (account["lost_usd"], account["cost_usd"], account["requests"]) == (1.0, 0.0, 2)
        # It comes back late: what it paid counts, and nothing is freed twice.
        assert await limits.release(lost.lease_id, wanted, ANSWERED) == 1.5
        assert (await limits.state(wanted.address))["in_flight"] == 1

    asyncio.run(play())


def test_the_cap_holds_for_what_is_in_flight_and_waits_for_what_it_turns_out_to_cost() -> None:
    async def play() -> None:
        limits = ServiceLimits(poll_s=0.1)
        wanted = wish(cap_usd=2.5, concurrency=10)
        first, second = await lent(limits, wanted), await lent(limits, wanted)
        later = await limits.acquire(wanted)
        assert isinstance(later, Later)
        # Another run's judge is not held up.
        await lent(limits, wish(run="other", cap_usd=2.5, concurrency=10))
        assert await limits.release(first.lease_id, wanted, ANSWERED) == 0.5
        third = await limits.acquire(wanted, later.ticket)
        assert isinstance(third, Lease)
        await limits.release(second.lease_id, wanted, Settlement("failed", lost=True))
        await limits.release(third.lease_id, wanted, ANSWERED)
        # 2 are spent, 0.5 of them by replies and 1 by a reply that never came: a question may cost 1.
        assert await limits.acquire(wanted) == OverBudget(2.0)
        account = (await limits.accounts("run"))["gpt4"]
        assert (account["cost_usd"], account["lost_usd"], account["settled_usd"]) == (1.0, 1.0, 2.0)

    asyncio.run(play())


def test_those_who_wait_are_told_when_nothing_is_left() -> None:
    async def play() -> None:
        limits = ServiceLimits()
        wanted = wish(cap_usd=1.0, concurrency=10)
        lease = await lent(limits, wanted)
        waiting = asyncio.create_task(limits.acquire(wanted))
        await asyncio.sleep(0)
        await limits.release(lease.lease_id, wanted, ANSWERED)
        assert await waiting == OverBudget(0.5)

    asyncio.run(play())


def test_what_an_asker_knows_to_be_spent_outlives_the_limits() -> None:
    async def play() -> None:
        limits = ServiceLimits()
        assert await limits.acquire(wish(cap_usd=5.0, spent_usd=4.5)) == OverBudget(4.5)
        # Who knows less changes nothing; a lease of the limits before these settles what it paid.
        assert await limits.release("of before", wish(), ANSWERED) == 5.0
        assert await limits.acquire(wish(cap_usd=6.5, spent_usd=1.0, cost_usd=2.0)) == OverBudget(5.0)

    asyncio.run(play())


def test_accounts_are_kept_for_each_judge_of_a_run() -> None:
    async def play() -> None:
        limits = ServiceLimits()
        for changes in ({}, {"retry": True}, {"judge": "llm_parser"}, {"run": "other"}):
            lease = await lent(limits, wish(**changes))
            await limits.release(lease.lease_id, wish(**changes), ANSWERED)
        lease = await lent(limits, wish())
        await limits.release(lease.lease_id, wish(), Settlement("pushed_back"))
        accounts = await limits.accounts("run")
        assert accounts["gpt4"] == {
            "requests": 3,
            "retries": 1,
            "throttles": 1,
            "replies": 2,
            "prompt_tokens": 180,
            "completion_tokens": 20,
            "estimated": 0,
            "cost_usd": 1.0,
            "lost_usd": 0.0,
            "settled_usd": 1.0,
        }
        assert set(accounts) == {"gpt4", "llm_parser"} and accounts["llm_parser"]["requests"] == 1
        assert await limits.accounts("nobody") == {}

    asyncio.run(play())


def settings(server: ChatServer, **changes: Any) -> Gpt4JudgeSettings:
    given: dict[str, Any] = {
        "kind": "gpt4",
        "name": "gpt4",
        "threshold": 3,
        "base_url": server.url,
        "model": "m",
        "prompt": "gpt4-1",
        "request_timeout_s": 2.0,
        **changes,
    }
    return Gpt4JudgeSettings(**given)


def questions(count: int) -> list[Question]:
    return [Question((Message("user", f"Report {number}"),), 8) for number in range(count)]


@pytest.fixture
def new_limits(cluster: None) -> Iterator[None]:
    """No actor of limits yet: whoever asks first in a test starts it."""
    end_limits()
    yield
    end_limits()


def end_limits() -> None:
    try:
        ray.kill(ray.get_actor(NAME, namespace=NAMESPACE))
    except ValueError:
        return
    wait_for(lambda: not alive())


def alive() -> bool:
    try:
        ray.get_actor(NAME, namespace=NAMESPACE)
    except ValueError:
        return False
    return True


def wait_for(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def asker() -> Any:
    """An actor that asks a server, as a judge does."""

    # Within a function, so that it goes to its process by value: this module cannot be imported there.
    class Asker:
        def __init__(self, settings: Gpt4JudgeSettings, run: str) -> None:
            self.ask = ChatAsk(settings, run)

        async def answers(self, asked: list[Question]) -> list[str]:
            replies = await asyncio.gather(*(self.ask(question) for question in asked))
            return [one.text for one in replies]

        async def failures(self, asked: list[Question]) -> list[str]:
            replies = await asyncio.gather(*(self.ask(question) for question in asked), return_exceptions=True)
            return [getattr(one, "failure", "") for one in replies]

    return ray.remote(Asker).options(num_cpus=0, max_concurrency=8)


@pytest.mark.slow
def test_two_actors_share_what_the_server_takes(new_limits: None, chat_server: ChatServer) -> None:
    chat_server.latency_s, chat_server.limit = 0.1, 4
    both = [asker().remote(settings(chat_server, concurrency=6), "run") for _ in range(2)]
    given = ray.get([one.answers.remote(questions(30)) for one in both], timeout=60)
    assert given == [["Score: 4"] * 30] * 2
    # Each alone would have six in flight: together they learnt of four.
    assert chat_server.most_in_flight == 4
    account = accounts_of("run")["gpt4"]
    assert account["replies"] == 60 and account["throttles"] == chat_server.refused <= 30
    assert account["requests"] == len(chat_server.requests) == 60 + chat_server.refused
    state = ray.get(shared_actor().state.remote(f"{chat_server.url} m"), timeout=20)
    assert state["in_flight"] == 0 and state["limit"] < 6
    for one in both:
        ray.kill(one)


@pytest.mark.slow
def test_a_cap_holds_over_two_actors(new_limits: None, chat_server: ChatServer) -> None:
    # A reply costs 0.0002 US dollars, and could cost 0.00036: after nine of them nothing more may be asked.
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0, "max_cost_usd": 0.002}
    both = [asker().remote(settings(chat_server, **prices), "run") for _ in range(2)]
    given = ray.get([one.failures.remote(questions(20)) for one in both], timeout=60)
    failures = given[0] + given[1]
    assert set(failures) == {"", "budget"}
    assert failures.count("") == len(chat_server.requests) == 9
    assert accounts_of("run")["gpt4"]["cost_usd"] == pytest.approx(0.0018)
    for one in both:
        ray.kill(one)


@pytest.mark.slow
def test_the_leases_of_a_killed_actor_come_free(new_limits: None, chat_server: ChatServer) -> None:
    chat_server.latency_s = 30
    changes = {"concurrency": 1, "request_timeout_s": 0.5}
    one = asker().remote(settings(chat_server, **changes), "run")
    one.answers.remote(questions(1))
    wait_for(lambda: bool(chat_server.requests))
    ray.kill(one)
    chat_server.latency_s = 0
    other = asker().remote(settings(chat_server, **changes), "run")
    started = time.monotonic()
    assert ray.get(other.answers.remote(questions(2)), timeout=60) == ["Score: 4"] * 2
    # The time-out and the margin of a lease.
    assert time.monotonic() - started < 25
    ray.kill(other)


@pytest.mark.slow
def test_limits_that_died_are_started_again_and_know_what_was_spent(new_limits: None, chat_server: ChatServer) -> None:
    async def play() -> None:
        limits = ClusterLimits()
        wanted = wish(cap_usd=2.0)
        lease = await limits.acquire(wanted)
        assert isinstance(lease, Lease)
        ray.kill(shared_actor())
        # Given back to others than it came from; 0.5 was paid.
        assert await limits.release(lease.lease_id, wanted, ANSWERED) == 0.5
        assert await limits.acquire(wish(cap_usd=2.0, spent_usd=1.5)) == OverBudget(1.5)

    asyncio.run(play())


@pytest.mark.slow
def test_limits_that_cannot_be_kept_alive_are_named(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dies:
        async def acquire(self, *_: Any) -> None:
            ray.actor.exit_actor()

    monkeypatch.setattr("actors.cluster_limits.shared_actor", lambda: ray.remote(Dies).options(num_cpus=0).remote())
    monkeypatch.setattr("actors.cluster_limits.LOOKUPS", 2)
    with pytest.raises(LimitsLost, match="died 2 times in a row"):
        asyncio.run(ClusterLimits().acquire(wish()))


@pytest.mark.slow
def test_idle_limits_end_themselves(cluster: None) -> None:
    end_limits()
    options: dict[str, Any] = {"name": NAME, "namespace": NAMESPACE, "lifetime": "detached", "num_cpus": 0}
    actor = ray.remote(SharedServiceLimits).options(**options, max_concurrency=100).remote(idle_s=1.0)
    lease = ray.get(actor.acquire.remote(wish()), timeout=30)
    time.sleep(2)
    assert alive(), "what is lent keeps it"
    ray.get(actor.release.remote(lease.lease_id, wish(), ANSWERED), timeout=20)
    wait_for(lambda: not alive(), 10)


@pytest.mark.slow
def test_a_key_is_in_no_log_and_in_nothing_that_ray_keeps(
    new_limits: None, chat_server: ChatServer, tmp_path: Path
) -> None:
    key = "sk-of-this-test-0123456789"
    (tmp_path / "key").write_text(key, encoding="utf-8")
    (tmp_path / "key").chmod(0o600)

    class Keyed:
        """Has its key from its environment, which a test cannot set for the head that runs already."""

        async def text(self, settings: Gpt4JudgeSettings, question: Question, file: str) -> str:
            os.environ.pop("OPENAI_API_KEY", None)
            os.environ["OPENAI_API_KEY_FILE"] = file
            logging.basicConfig(level=logging.DEBUG, force=True)
            ask = ChatAsk(settings, "run")
            print(ask, vars(ask))
            reply = await ask(question)
            print(reply, vars(ask))
            return reply.text

    one = ray.remote(Keyed).options(num_cpus=0).remote()
    said = []
    for behaviour in (say(f"It is {key}"), status(500, key), status(401, f"{key} has expired")):
        chat_server.default = behaviour
        call = one.text.remote(settings(chat_server, attempts=1), questions(1)[0], str(tmp_path / "key"))
        try:
            said.append(ray.get(call, timeout=30))
        except ray.exceptions.RayTaskError as error:
            said.extend((str(error), repr(error), str(error.cause)))
    assert {asked.headers["authorization"] for asked in chat_server.requests} == {f"Bearer {key}"}
    assert "It is [key]" in said[0] and "[key] has expired" in said[-1]
    ray.kill(one)
    kept = [*said, str(ray.get_runtime_context().runtime_env), str(accounts_of("run"))]
    logs = Path(ray._private.worker.global_worker.node.get_logs_dir_path())
    wait_for(lambda: any("It is [key]" in log for log in texts(logs)))
    assert not [text for text in [*kept, *texts(logs)] if key in text or key[:12] in text]


def texts(folder: Path) -> list[str]:
    return [path.read_text(encoding="utf-8", errors="replace") for path in folder.rglob("*") if path.is_file()]
