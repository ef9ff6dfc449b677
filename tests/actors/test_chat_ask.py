"""Asking a real server on the loopback address: whatever it does, there is a reply or a named failure."""

import asyncio
import json
import logging
import os
import pickle
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import chat_server as served
import httpx2
import pytest
from chat_server import Behaviour, ChatServer

from actors.api_key import ApiKey, JudgeMisconfigured, read_key
from actors.chat_ask import ChatAsk
from actors.cluster_limits import LimitsLost
from actors.guarded_http import Blocked, GuardedTransport, guarded_client
from actors.kept_ask import KeptAsk, reply_key
from actors.leases import Settlement, Wish
from actors.service_limits import ServiceLimits
from rlaif.judges.asking import Message, NotAnswered, Question, Reply
from rlaif.judges.settings import Gpt4JudgeSettings
from rlaif.judges.verdict import Usage

KEY = "sk-abcd0123456789efghijKLMNOPqrstuvwxYZ98"
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer"}},
    "required": ["score"],
    "additionalProperties": False,
}
QUESTION = Question(
    (Message("system", "You judge."), Message("user", "A nodule.")), 64, "Write Score: N.", "Fill in score.", SCHEMA
)
PLAIN = Question((Message("user", "A nodule."),), 64)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)


def settings(url: str, **changes: Any) -> Gpt4JudgeSettings:
    given: dict[str, Any] = {
        "kind": "gpt4",
        "name": "gpt4",
        "threshold": 3,
        "base_url": url,
        "model": "m",
        "prompt": "gpt4-1",
        "attempts": 2,
        "request_timeout_s": 5.0,
        "concurrency": 8,
        **changes,
    }
    return Gpt4JudgeSettings(**given)


def done(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def asked(server: ChatServer, question: Question = PLAIN, **changes: Any) -> Reply:
    """One question to the server."""

    async def ask() -> Reply:
        return await ChatAsk(settings(server.url, **changes), "run", limits=ServiceLimits())(question)

    return done(ask())


def failed(server: ChatServer, **changes: Any) -> NotAnswered:
    with pytest.raises(NotAnswered) as caught:
        asked(server, **changes)
    return caught.value


def test_a_reply_comes_with_its_tokens_and_its_cost(chat_server: ChatServer) -> None:
    chat_server.latency_s = 0.1
    prices = {"usd_per_million_prompt_tokens": 2.5, "usd_per_million_completion_tokens": 10.0}
    reply = asked(chat_server, **prices)
    assert (reply.text, reply.finish_reason, reply.refused, reply.structured) == ("Score: 4", "stop", False, False)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.cached) == (100, 10, False)
    assert reply.usage.cost_usd == pytest.approx(100 * 2.5e-6 + 10 * 1e-5)
    assert 0.1 <= reply.usage.latency_s < 1
    sent = chat_server.requests[0]
    assert sent.path == "/v1/chat/completions"
    assert sent.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "A nodule."}],
        "temperature": 0.0,
        "max_tokens": 64,
    }


def test_no_more_than_needed_is_said_of_this_machine(chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: 12")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    asked(chat_server)
    needed = {"host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent"}
    assert set(chat_server.requests[0].headers) <= needed
    assert chat_server.requests[0].headers["accept-encoding"] == "identity"


def test_tokens_that_the_server_does_not_say_are_estimated(chat_server: ChatServer) -> None:
    for usage in (None, {"prompt_tokens": "many"}, [1], {"prompt_tokens": -1, "completion_tokens": 2}, 7):
        chat_server.script(served.say("Score: 4", usage=usage))
        reply = asked(chat_server)
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (len("A nodule.") // 4, 2)


def test_a_schema_is_sent_with_its_form(chat_server: ChatServer) -> None:
    chat_server.default = served.say('{"score": 4}')
    reply = asked(chat_server, QUESTION)
    assert reply.structured
    body = chat_server.requests[0].body
    assert body["response_format"]["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": True}
    assert body["messages"][-1]["content"] == "A nodule.\n\nFill in score."
    chat_server.default = served.say("Score: 4")
    reply = asked(chat_server, QUESTION, structured="off")
    assert not reply.structured and "response_format" not in chat_server.requests[1].body
    assert chat_server.requests[1].words == "A nodule.\n\nWrite Score: N."


def no_schemas(exchange: Any) -> None:
    if "response_format" in exchange.asked.body:
        served.status(400, "response_format of type json_schema is not supported")(exchange)
    else:
        served.say("Score: 4")(exchange)


def test_a_server_without_schemas_is_asked_without_and_that_is_remembered(chat_server: ChatServer) -> None:
    chat_server.default = no_schemas

    async def ask() -> None:
        limits = ServiceLimits()
        for number in range(3):
            client = ChatAsk(settings(chat_server.url, attempts=1), "run", limits=limits)
            reply = await client(QUESTION)
            assert (reply.text, reply.structured, len(chat_server.requests)) == ("Score: 4", False, 2 + number)

    done(ask())
    with pytest.raises(JudgeMisconfigured, match=r"set judge\.structured=auto"):
        asked(chat_server, QUESTION, structured="on")


def test_a_model_that_knows_no_max_tokens_is_asked_with_its_new_name(chat_server: ChatServer) -> None:
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    chat_server.script(served.status(400, message, param="max_tokens", code="unsupported_parameter"))
    assert asked(chat_server, attempts=1).text == "Score: 4"
    assert chat_server.requests[1].body["max_completion_tokens"] == 64
    assert "max_tokens" not in chat_server.requests[1].body


AGAIN: list[Any] = [
    served.status(408),
    served.status(409),
    served.status(429),
    served.status(500),
    served.status(502),
    served.status(503),
    served.status(529),
    served.body(b"<html>Bad gateway</html>", 502, {"Content-Type": "text/html"}),
    served.half_body,
    served.reset,
    served.body(b""),
    served.body(b"<html>Welcome</html>", headers={"Content-Type": "text/html"}),
    served.body(b"null"),
    served.body(b"[]"),
    served.body(b"3"),
    served.body(b'{"choices": []}'),
    served.body(b'{"choices": "yes"}'),
    served.body(b'{"choices": [null]}'),
    served.body(b'{"choices": [{"message": null}]}'),
    served.body(b'{"choices": [{"message": "text"}]}'),
    served.body(b'{"error": {"message": "overloaded"}}'),
    served.body(b'{"choices": [{"message": {"content": "\xff"}}]}'),
    served.body(b'{"choices": [{"message": {"content": "\\ud800"}}]}'),
    served.body(b"[" * 100_000),
    served.say(None),
    served.say(4),
    served.say(["Score: 4"]),
    served.say([{"type": "text", "text": "Score: 4"}]),
    served.say({"score": 4}),
    served.say(True),
]


@pytest.mark.parametrize("behaviour", AGAIN)
def test_what_may_go_well_a_second_time_is_asked_again(chat_server: ChatServer, behaviour: Behaviour) -> None:
    chat_server.script(behaviour)
    assert asked(chat_server).text == "Score: 4"
    assert len(chat_server.requests) == 2


@pytest.mark.parametrize(
    ("behaviour", "failure", "says"),
    [
        (served.status(429, "slow down"), "rate_limit", "status 429: slow down"),
        (served.status(500), "transport", "status 500"),
        (served.status(503), "transport", "status 503"),
        (served.status(504), "timeout", "status 504"),
        (served.status(409), "transport", "status 409"),
        (served.half_body, "transport", "the connection broke"),
        (served.reset, "transport", "the connection broke"),
        (served.body(b""), "transport", "no chat completion"),
        (served.body(b"<html>"), "transport", "no chat completion"),
        (served.say(None), "transport", "no content"),
        (served.say(4), "transport", "content: Input should be a valid string"),
    ],
)
def test_attempts_are_bounded_and_the_failure_has_a_name(
    chat_server: ChatServer, behaviour: Behaviour, failure: str, says: str
) -> None:
    chat_server.default = behaviour
    error = failed(chat_server)
    assert error.failure == failure
    assert says in error.detail and error.detail.endswith("(asked 2 times)")
    assert len(chat_server.requests) == 2


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (served.status(413), "status 413"),
        (served.status(418), "status 418"),
        (served.status(422, "wrong"), "status 422: wrong"),
        (served.body(b'{"detail": "wrong"}', 422), "status 422: wrong"),
        (served.body(b'{"error": "wrong"}', 400), "status 400: wrong"),
        (served.body(b'{"error": {"message": ["a"], "param": 4, "code": {}}}', 400), "status 400"),
        (served.body(b"[" * 10_000, 400), "status 400"),
        (served.body(b"", 400), "status 400"),
        (served.huge, "larger than 4 MiB"),
        (served.gzip_bomb, "compressed (gzip)"),
    ],
)
def test_what_would_fail_again_is_asked_once(chat_server: ChatServer, behaviour: Behaviour, says: str) -> None:
    chat_server.default = behaviour
    error = failed(chat_server, attempts=5)
    assert error.failure == "transport"
    assert says in error.detail and len(error.detail) < 500
    assert len(chat_server.requests) == 1
    chat_server.default = served.say("Score: 4")
    assert asked(chat_server).text == "Score: 4"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("the prompt is too long", "context_length_exceeded"),
        ("This model's maximum context length is 2048 tokens. However, you requested 4000 tokens", None),
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is 2048",
            None,
        ),
        ("The decoder prompt (length 9000) is longer than the maximum model length of 2048.", None),
    ],
)
def test_a_question_without_room_is_a_candidate_that_cannot_be_judged(
    chat_server: ChatServer, message: str, code: str | None
) -> None:
    chat_server.default = served.status(400, message, code=code)
    error = failed(chat_server, attempts=5)
    assert error.failure == "invalid_candidate" and message in error.detail
    assert len(chat_server.requests) == 1


def failures_of(server: ChatServer, count: int, **changes: Any) -> tuple[list[NotAnswered | Reply], float]:
    """What so many questions at once come to, and the seconds that they took."""

    async def ask() -> list[Any]:
        client = ChatAsk(settings(server.url, attempts=1000, **changes), "run", limits=ServiceLimits())
        return await asyncio.gather(*(client(PLAIN) for _ in range(count)), return_exceptions=True)

    started = time.monotonic()
    given = done(ask())
    assert all(isinstance(one, NotAnswered | Reply) for one in given), given
    return given, time.monotonic() - started


@pytest.mark.parametrize(
    ("behaviour", "failure", "held_up"),
    [
        (served.hang, "timeout", "the service gave those before it no reply in time"),
        (served.status(429), "rate_limit", "the service pushed back those before it"),
        (served.reset, "transport", "the service failed those before it or could not be reached"),
    ],
)
def test_every_question_ends_by_its_deadline_and_those_without_a_turn_say_why(
    chat_server: ChatServer, behaviour: Behaviour, failure: str, held_up: str
) -> None:
    chat_server.default = behaviour
    given, seconds = failures_of(chat_server, 6, timeout_s=1.5, request_timeout_s=0.4, concurrency=2)
    assert {one.failure for one in given if isinstance(one, NotAnswered)} == {failure} and len(given) == 6
    assert seconds < 3
    unasked = [one.detail for one in given if isinstance(one, NotAnswered) and "no turn" in one.detail]
    assert unasked in ([], *([f"no turn in 1.5 s: {held_up}"] * count for count in range(1, 6)))


def test_a_turn_that_a_slow_service_or_our_own_pace_keeps_is_no_rate_limit(chat_server: ChatServer) -> None:
    waited = "no turn in 1.5 s: those before it took as long"
    chat_server.latency_s = 0.4
    given, seconds = failures_of(chat_server, 10, timeout_s=1.5, concurrency=1)
    late = [one for one in given if isinstance(one, NotAnswered)]
    # Three can be answered in their time, and the fourth is cut off.
    assert 7 <= len(late) < 10 and {one.failure for one in late} == {"timeout"} and seconds < 3
    assert sum(one.detail == waited for one in late) >= len(late) - 1
    chat_server.latency_s = 0.0
    given, seconds = failures_of(chat_server, 8, timeout_s=1.5, requests_per_minute=60)
    late = [one for one in given if isinstance(one, NotAnswered)]
    assert 6 <= len(late) < 8 and {(one.failure, one.detail) for one in late} == {("timeout", waited)} and seconds < 3


def test_at_the_deadline_a_question_fails_by_what_really_happened(chat_server: ChatServer) -> None:
    chat_server.script(served.status(500, "broken"))
    chat_server.default = served.hang
    (error,), seconds = failures_of(chat_server, 1, timeout_s=1.5, request_timeout_s=60.0)
    assert isinstance(error, NotAnswered) and (error.failure, error.detail) == ("transport", "status 500: broken")
    assert 1.4 < seconds < 3
    # The deadline holds for a reply that a longer time-out would wait for.
    (error,), seconds = failures_of(chat_server, 1, timeout_s=0.5, request_timeout_s=60.0)
    assert isinstance(error, NotAnswered) and error.failure == "timeout" and seconds < 2


def test_a_long_retry_after_fails_everybody_at_once_as_a_rate_limit(chat_server: ChatServer) -> None:
    chat_server.default = served.status(503, headers={"Retry-After": "300"})
    given, seconds = failures_of(chat_server, 20, timeout_s=40.0, concurrency=2)
    assert {one.failure for one in given if isinstance(one, NotAnswered)} == {"rate_limit"} and len(given) == 20
    assert seconds < 8 and len(chat_server.requests) <= 2
    assert "a pause of 300 s, and no question waits more than 10 s for it" in str(given[0])


class Forgetful(ServiceLimits):
    """Limits whose actor is lost whenever a request comes back."""

    async def release(self, lease_id: str, wish: Wish, settlement: Settlement) -> float:
        await super().release(lease_id, wish, settlement)
        raise LimitsLost("the actor died")


def test_a_reply_that_was_paid_for_outlives_the_limits(chat_server: ChatServer) -> None:
    kept = Kept()
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0}

    async def ask() -> Reply:
        client = ChatAsk(settings(chat_server.url, **prices), "run", limits=Forgetful())
        reply = await KeptAsk(client, kept, "run", client.identity)(PLAIN)
        assert client._spent_usd == pytest.approx(0.0002)
        return reply

    assert done(ask()).text == "Score: 4" and len(kept.replies) == 1


@pytest.mark.parametrize("behaviour", [served.hang, served.trickle])
def test_a_reply_that_does_not_end_is_a_time_out(chat_server: ChatServer, behaviour: Behaviour) -> None:
    chat_server.default = behaviour
    started = time.monotonic()
    error = failed(chat_server, request_timeout_s=0.4)
    assert (error.failure, len(chat_server.requests)) == ("timeout", 2)
    assert "no reply in 0.4 s" in error.detail
    assert time.monotonic() - started < 3


def test_a_server_that_is_not_there_is_a_transport_failure(chat_server: ChatServer) -> None:
    chat_server.close()
    error = failed(chat_server)
    assert error.failure == "transport" and "ConnectError" in error.detail


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(chat_server: ChatServer, code: int) -> None:
    elsewhere = ChatServer()
    chat_server.default = served.status(code, headers={"Location": f"{elsewhere.url}/chat/completions"})
    error = failed(chat_server)
    assert error.failure == "transport" and f"status {code}" in error.detail
    assert (len(chat_server.requests), len(elsewhere.requests)) == (1, 0)
    elsewhere.close()


def test_retry_after_is_waited_for(chat_server: ChatServer) -> None:
    chat_server.script(served.status(429, headers={"Retry-After": "1"}))
    reply = asked(chat_server)
    first, second = chat_server.requests
    assert 0.95 < second.at - first.at < 2
    assert reply.usage.latency_s < 0.5


def test_retry_after_holds_for_everybody_at_the_address(chat_server: ChatServer) -> None:
    chat_server.script(served.status(429, headers={"Retry-After": "2"}))

    async def ask() -> None:
        limits = ServiceLimits()
        one, other = (ChatAsk(settings(chat_server.url), run, limits=limits) for run in ("one", "other"))
        first = asyncio.create_task(one(PLAIN))
        await asyncio.sleep(0.7)
        assert len(chat_server.requests) == 1
        await asyncio.gather(first, other(PLAIN))

    done(ask())
    first, *others = chat_server.requests
    assert len(others) == 2 and min(one.at for one in others) - first.at > 1.95


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        (served.say(None, refusal="I cannot judge this."), "I cannot judge this."),
        (served.say("", finish_reason="content_filter"), ""),
        (served.say(None, finish_reason="content_filter"), ""),
        (served.status(400, "filtered", code="content_filter"), "status 400: filtered"),
    ],
)
def test_a_refusal_is_a_reply(chat_server: ChatServer, behaviour: Behaviour, text: str) -> None:
    chat_server.default = behaviour
    reply = asked(chat_server)
    assert (reply.refused, reply.text, len(chat_server.requests)) == (True, text, 1)


def test_an_answer_that_was_cut_off_says_so(chat_server: ChatServer) -> None:
    for text in ("Score:", None):
        chat_server.script(served.say(text, finish_reason="length"))
        reply = asked(chat_server)
        assert (reply.text, reply.finish_reason) == (text or "", "length")


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (
            served.status(404, "The model `m` does not exist"),
            r"m at http://127.*status 404: The model `m` does not exist",
        ),
        (served.status(401, "expired"), r"no key \(OPENAI_API_KEY is not set\): status 401: expired"),
        (served.status(402), "status 402"),
        (served.status(403, "not for you"), "status 403: not for you"),
        (served.status(429, "no credit", code="insufficient_quota"), "status 429: no credit"),
        (served.status(400, "only 1 is supported", param="temperature"), r"judge\.temperature as the service has"),
    ],
)
def test_what_fails_every_question_stops_the_run(chat_server: ChatServer, behaviour: Behaviour, says: str) -> None:
    chat_server.default = behaviour

    async def ask() -> None:
        client = ChatAsk(settings(chat_server.url, concurrency=2), "run", limits=ServiceLimits())
        results = await asyncio.gather(*(client(PLAIN) for _ in range(40)), return_exceptions=True)
        assert {type(one) for one in results} == {JudgeMisconfigured}
        assert len(chat_server.requests) <= 2

    done(ask())
    with pytest.raises(JudgeMisconfigured, match=says):
        asked(chat_server)


def test_proxies_of_the_environment_are_not_used(chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = ChatServer()
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{proxy.port}")
    asked(chat_server)
    assert (len(chat_server.requests), len(proxy.requests)) == (1, 0)
    asked(chat_server, environment_proxy=True)
    assert (len(chat_server.requests), len(proxy.requests)) == (1, 1)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked(chat_server, environment_proxy=True)
    assert (len(chat_server.requests), len(proxy.requests)) == (2, 1)
    proxy.close()


def test_other_hosts_are_never_reached(chat_server: ChatServer) -> None:
    # The settings refuse such a host already: this is the second wall.
    elsewhere = settings(chat_server.url).model_copy(update={"allowed_hosts": ("example.org",)})

    async def ask() -> None:
        await ChatAsk(elsewhere, "run", limits=ServiceLimits())(PLAIN)

    with pytest.raises(NotAnswered, match=r"127\.0\.0\.1 is not in allowed_hosts \(example\.org\)") as caught:
        done(ask())
    assert caught.value.failure == "blocked" and not chat_server.requests


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "localhost.",
        "127.0.0.1.",
        "127.0.0.1.nip.io",
    ],
)
def test_other_spellings_of_a_host_are_other_hosts(chat_server: ChatServer, host: str) -> None:
    with pytest.raises(ValueError, match="allowed_hosts"):
        settings(f"http://{host}:{chat_server.port}/v1")

    async def send() -> None:
        async with guarded_client(settings(chat_server.url), None) as client:
            await client.post(f"http://{host}:{chat_server.port}/v1/chat/completions", json={})

    with pytest.raises(Blocked):
        done(send())
    assert not chat_server.requests


def test_other_ports_and_ipv6_of_an_allowed_host_are_reached() -> None:
    seen = []

    class Inner(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            seen.append(str(request.url))
            return httpx2.Response(200, stream=httpx2.ByteStream(b"{}"))

    async def send() -> None:
        transport = GuardedTransport(Inner(), settings("http://[::1]:80/v1").allowed_hosts, None)
        async with httpx2.AsyncClient(transport=transport) as client:
            for url in ("http://[::1]:8000/v1", "http://LOCALHOST:81/v1", "http://127.0.0.1:9/v1"):
                await client.post(url)

    done(send())
    assert seen == ["http://[::1]:8000/v1", "http://localhost:81/v1", "http://127.0.0.1:9/v1"]


class Kept:
    """A store of replies in memory."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}

    async def get(self, key: str) -> Reply | None:
        return self.replies.get(key)

    async def put(self, key: str, reply: Reply, run: str) -> None:
        assert run == "run"
        self.replies[key] = reply


def test_a_stored_reply_asks_nobody(chat_server: ChatServer) -> None:
    kept = Kept()
    prices = {"usd_per_million_prompt_tokens": 2.5, "usd_per_million_completion_tokens": 10.0}

    async def ask() -> tuple[Reply, Reply]:
        client = ChatAsk(settings(chat_server.url, **prices), "run", limits=ServiceLimits())
        first = await KeptAsk(client, kept, "run", client.identity)(QUESTION)
        assert list(kept.replies.values()) == [first]
        # Nor is anything needed of the service, which is gone.
        chat_server.close()
        again = ChatAsk(settings(chat_server.url, **prices, key_variable="ANOTHER"), "run", limits=ServiceLimits())
        return first, await KeptAsk(again, kept, "run", again.identity)(QUESTION)

    first, again = done(ask())
    assert len(chat_server.requests) == 1
    assert (again.text, again.structured) == (first.text, first.structured)
    assert again.usage == Usage(cached=True)


def test_failures_are_not_stored(chat_server: ChatServer) -> None:
    kept = Kept()
    chat_server.default = served.status(500)

    async def ask() -> None:
        client = ChatAsk(settings(chat_server.url), "run", limits=ServiceLimits())
        await KeptAsk(client, kept, "run", client.identity)(PLAIN)

    with pytest.raises(NotAnswered):
        done(ask())
    assert not kept.replies


def test_a_reply_is_stored_by_all_that_it_depends_on() -> None:
    def key(question: Question = QUESTION, url: str = "http://127.0.0.1:80/v1", **changes: Any) -> str:
        return reply_key(ChatAsk(settings(url, **changes), "run", limits=ServiceLimits()).identity, question)

    changed = {"prompt": "gpt4-2", "model": "n", "temperature": 0.5, "structured": "off"}
    keys = {key(**{name: value}) for name, value in changed.items()}
    other = [
        Question(QUESTION.messages, 65, QUESTION.text_form, QUESTION.schema_form, SCHEMA),
        Question(QUESTION.messages[:1], 64, QUESTION.text_form, QUESTION.schema_form, SCHEMA),
        Question(QUESTION.messages, 64, "Score", QUESTION.schema_form, SCHEMA),
        Question(QUESTION.messages, 64, QUESTION.text_form, "score", SCHEMA),
        Question(QUESTION.messages, 64, QUESTION.text_form, QUESTION.schema_form, None),
        Question(QUESTION.messages, 64, QUESTION.text_form, QUESTION.schema_form, SCHEMA, attempt=1),
    ]
    keys |= {key(question) for question in other}
    # Another host, port, path or scheme may have another model of this name.
    urls = ("http://localhost/v1", "http://127.0.0.1:81/v1", "http://127.0.0.1/b/v1", "https://127.0.0.1/v1")
    keys |= {key(url=url) for url in urls}
    keys.add(key())
    assert len(keys) == 15
    assert key(url="http://127.0.0.1/v1/", concurrency=3, name="other") == key()


def test_a_cap_stops_asking_before_it_is_passed(chat_server: ChatServer) -> None:
    # 100 prompt tokens and 10 of an answer are 0.0002 US dollars; the most that a question can cost is more.
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0, "max_cost_usd": 0.002}
    limits = ServiceLimits()

    async def ask() -> list[Any]:
        client = ChatAsk(settings(chat_server.url, **prices), "run", limits=limits)
        return await asyncio.gather(*(client(PLAIN) for _ in range(30)), return_exceptions=True)

    replies = done(ask())
    failures = [one for one in replies if isinstance(one, NotAnswered)]
    assert {one.failure for one in failures} == {"budget"}
    assert "of max_cost_usd=0.002 are spent" in failures[0].detail
    answered = len(replies) - len(failures)
    assert answered == len(chat_server.requests)
    # All that is left is less than a question can cost: 9 + 16 + 256 tokens and 64 of an answer, 0.00093.
    assert 0.002 - 0.00093 < answered * 0.0002 <= 0.002
    account = done(limits.accounts("run"))["gpt4"]
    assert account["cost_usd"] == pytest.approx(answered * 0.0002)
    assert (account["requests"], account["prompt_tokens"]) == (answered, answered * 100)


def test_what_was_spent_before_counts(chat_server: ChatServer) -> None:
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0, "max_cost_usd": 0.002}

    async def ask() -> None:
        await ChatAsk(settings(chat_server.url, **prices), "run", limits=ServiceLimits(), spent_usd=0.0019)(PLAIN)

    with pytest.raises(NotAnswered) as caught:
        done(ask())
    assert caught.value.failure == "budget" and not chat_server.requests


def test_replies_that_never_came_count_against_the_cap(chat_server: ChatServer) -> None:
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0, "max_cost_usd": 0.001}
    chat_server.default = served.half_body
    error = failed(chat_server, attempts=5, **prices)
    assert error.failure == "budget" and len(chat_server.requests) == 1


def test_replies_that_never_came_are_told_with_what_they_may_have_cost(chat_server: ChatServer) -> None:
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0, "attempts": 5}
    chat_server.script(served.half_body, served.status(500), served.say(None), served.status(429))
    lost: list[float] = []

    async def note(cost_usd: float) -> None:
        lost.append(cost_usd)

    async def ask() -> float:
        limits = ServiceLimits()
        client = ChatAsk(settings(chat_server.url, **prices), "run", limits=limits, lost=note)
        assert (await client(PLAIN)).text == "Score: 4"
        return (await limits.accounts("run"))["gpt4"]["lost_usd"]

    # 256 + 9 + 2 x 16 tokens of a question and 64 of an answer at most, twice: nobody said what was taken.
    assert done(ask()) == pytest.approx(sum(lost)) and lost == pytest.approx([0.000937] * 2)


def test_an_ask_that_is_cancelled_gives_its_lease_back(chat_server: ChatServer) -> None:
    chat_server.default = served.hang
    limits = ServiceLimits()

    async def ask() -> dict[str, float]:
        client = ChatAsk(settings(chat_server.url), "run", limits=limits)
        task = asyncio.create_task(client(PLAIN))
        for _ in range(400):
            if chat_server.requests:
                break
            await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await limits.state(f"{chat_server.url} m")

    assert done(ask())["in_flight"] == 0


def test_text_without_utf8_is_sent_with_a_question_mark(chat_server: ChatServer) -> None:
    assert asked(chat_server, Question((Message("user", "a\ud800b"),), 4)).text == "Score: 4"
    assert chat_server.requests[0].words == "a?b"


def test_the_key_goes_to_the_server_and_nowhere_else(
    chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_LOG", "debug")
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []

    async def ask(behaviour: Behaviour) -> None:
        chat_server.default = behaviour
        client = ChatAsk(settings(chat_server.url), "run", limits=ServiceLimits())
        try:
            reply = await client(PLAIN)
            seen.append(repr(reply))
        except (NotAnswered, JudgeMisconfigured) as error:
            seen.extend((repr(error), str(error), repr(error.__context__), repr(error.__cause__)))
            raised = error.__context__
            while raised is not None:
                seen.extend((repr(raised), repr(vars(raised))))
                request = getattr(raised, "request", None)
                seen.append(repr(request.headers.raw) if request is not None else "")
                raised = raised.__context__
        openai = client._client
        assert openai is not None
        seen.extend((repr(vars(client)), repr(vars(openai)), openai.api_key))

    masked = f"Incorrect API key provided: {KEY[:8]}*****{KEY[-4:]}."
    for behaviour in (
        served.say(f"The key is {KEY}."),
        served.say('{"explanation": "' + "".join(f"\\u{ord(one):04x}" for one in KEY) + '", "score": 4}'),
        served.say(f"Half of it is {KEY[:20]}, the rest {KEY[20:]}"),
        served.status(401, f"Incorrect API key provided: {KEY}. Masked: sk-a...YZ98"),
        served.status(401, masked),
        served.status(500, f"{KEY} again", headers={"X-Key": KEY}),
        served.body(f"<html>Bearer {KEY}</html>".encode(), 400),
        served.status(302, headers={"Location": f"http://127.0.0.1:1/?key={KEY}"}),
        served.half_body,
    ):
        done(ask(behaviour))
    assert all(one.headers["authorization"] == f"Bearer {KEY}" for one in chat_server.requests)
    whole = "\n".join([*seen, caplog.text, *capfd.readouterr()])
    assert "[key]" in whole
    for at in range(len(KEY) - 7):
        assert KEY[at : at + 8] not in whole
        assert "".join(f"\\u{ord(one):04x}" for one in KEY[at : at + 8]) not in whole
    assert "YZ98" not in whole
    assert "A nodule." not in caplog.text


def test_a_key_shows_itself_to_nobody() -> None:
    key = ApiKey(KEY)
    assert KEY not in repr(key) + str(key) + f"{key}"
    with pytest.raises(TypeError, match="does not leave the process"):
        pickle.dumps(key)
    assert key.scrubbed(f"a {KEY} b {KEY[3:12]}c") == "a [key] b [key]c"
    assert key.scrubbed("nothing of it, sk-abcd") == "nothing of it, sk-abcd"
    assert ApiKey("none").scrubbed("explanation: none") == "explanation: none"


def test_a_key_comes_from_the_environment_or_an_owned_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = settings("http://127.0.0.1:80/v1")
    assert read_key(local) is None
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n", encoding="utf-8")
    file.chmod(0o600)
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(file))
    key = read_key(local)
    assert key is not None and key.revealed() == KEY
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    key = read_key(local)
    assert key is not None and key.revealed() == "from-the-environment"
    other = settings("http://127.0.0.1:80/v1", key_variable="JUDGE_KEY")
    assert read_key(other) is None


def test_another_host_needs_a_key() -> None:
    away = settings("https://judge.example.org/v1", allowed_hosts=("judge.example.org",))
    with pytest.raises(JudgeMisconfigured, match="put OPENAI_API_KEY into the environment where `ray start` runs"):
        read_key(away)
    with pytest.raises(JudgeMisconfigured, match="no key for judge"):
        done(ChatAsk(away, "run", limits=ServiceLimits())(PLAIN))


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def written(text: str, mode: int = 0o600) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    return write


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "cannot be read: No such file"),
        (folder, "no regular file"),
        (pipe, "no regular file"),
        (written(KEY, 0o640), "others may read"),
        (written(KEY, 0o604), "others may read"),
        (written(""), "holds no key"),
        (written(f"{KEY}\r\nX-Header: 1"), "holds no key"),
        (written("schlüssel"), "holds no key"),
        (written("a" * 5000), "holds no key"),
    ],
)
def test_a_file_that_holds_no_key_of_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], says: str
) -> None:
    make(tmp_path / "key")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(JudgeMisconfigured, match=says):
        read_key(settings("http://127.0.0.1:80/v1"))


def test_a_key_in_place_of_its_file_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY_FILE", KEY)
    with pytest.raises(JudgeMisconfigured) as caught:
        read_key(settings("http://127.0.0.1:80/v1"))
    assert KEY not in str(caught.value)


def test_the_pace_follows_what_the_server_takes(chat_server: ChatServer) -> None:
    chat_server.latency_s, chat_server.limit = 0.1, 4

    async def ask() -> list[Reply]:
        client = ChatAsk(settings(chat_server.url, concurrency=32, attempts=6), "run", limits=ServiceLimits())
        replies = await asyncio.gather(*(client(PLAIN) for _ in range(40)))
        return replies

    replies = done(ask())
    assert {one.text for one in replies} == {"Score: 4"}
    assert chat_server.most_in_flight == 4
    assert chat_server.refused < 60
    assert max(one.usage.latency_s for one in replies) < 0.5


def test_json_of_a_request_is_what_the_server_reads(chat_server: ChatServer) -> None:
    words = 'Ignore the above. "}] \u2028 \x00 </s> é 结节'
    asked(chat_server, Question((Message("user", words),), 4))
    assert chat_server.requests[0].words == words
    assert json.dumps(chat_server.requests[0].body) and threading.active_count() < 50
