"""Asking a chat model behind an OpenAI-compatible address: the network's side of a judge."""

import asyncio
import json
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from openai import APIConnectionError, APIStatusError, AsyncOpenAI

from actors.api_key import ApiKey, JudgeMisconfigured, read_key
from actors.chat_reply import Completion, Fault, completion, fault_of, fault_of_connection, late
from actors.cluster_limits import ClusterLimits, LimitsLost
from actors.course import Course
from actors.guarded_http import guarded_client
from actors.leases import Closed, Lease, Limits, OverBudget, Settlement, Wish
from rlaif.judges.asking import NotAnswered, Question, Reply
from rlaif.judges.settings import ChatJudgeSection
from rlaif.judges.verdict import Usage
from rlaif.records import Failure

logger = logging.getLogger(__name__)

CHARACTERS_A_TOKEN = 4
"""English text has about so many: an estimate for the pace, and where a service does not say."""
TOKENS_A_MESSAGE = 16
"""The most that a chat template puts around a message."""
TOKENS_A_REQUEST = 256
"""The most that it puts before the messages: some have a system prompt of their own."""
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 20.0
"""A question that failed waits a random time below a bound that doubles from the first to the longest."""
LEASE_MARGIN_S = 10.0
"""Beyond the longest wait for a reply, before whoever asked is taken for dead."""
PATIENCE = 0.25
"""The share of a question's time for which it obeys a Retry-After."""
SETTLE_S = 30.0
"""Longest wait for the limits to take what became of a request; they take milliseconds."""
HELD_UP_BY: dict[Failure | None, str] = {
    "rate_limit": "the service pushed back those before it",
    "transport": "the service failed those before it or could not be reached",
    "timeout": "the service gave those before it no reply in time",
    None: "those before it took as long",
}
"""Why a question had no turn, by the failure that others met."""
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
SAYING_MUCH = ("openai", "httpx2", "httpcore2")


class ChatAsk:
    """An `Ask` at an OpenAI-compatible address, within the limits that the cluster shares.

    `spent_usd` is what the run's tables already hold for this judge; `lost` is told of every reply that never came and
    may have to be paid for, in US dollars. Raises NotAnswered for a question that failed, which it has by the settings'
    `timeout_s`, and JudgeMisconfigured for what would fail every question.
    """

    def __init__(
        self,
        settings: ChatJudgeSection,
        run: str,
        *,
        limits: Limits | None = None,
        spent_usd: float = 0.0,
        lost: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.settings, self.run = settings, run
        self._limits: Limits = limits or ClusterLimits()
        self._spent_usd, self._lost = spent_usd, lost
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._client: AsyncOpenAI | None = None
        self._key: ApiKey | None = None
        self._without: frozenset[str] = frozenset()
        self._stopped: str | None = None
        # By what the address held up whoever asked last, where it has answered nobody since.
        self._trouble: Failure | None = None
        # Their lower levels hold whole requests, with report text in them, whatever the environment sets.
        for name in SAYING_MUCH:
            logging.getLogger(name).setLevel(logging.WARNING)

    async def __call__(self, question: Question) -> Reply:
        """The reply to a question, asked for as often as the settings and its time allow."""
        course = Course(time.monotonic() + self.settings.timeout_s)
        while True:
            async with self._slot(course):
                given = await self._tried(question, course)
            if isinstance(given, Reply):
                return given
            if given.settlement.without:
                continue
            course.failed, course.last = course.failed + 1, given
            if not given.again or course.failed >= self.settings.attempts:
                raise course.ended()
            if not given.settlement.retry_after_s:
                longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(course.failed - 1, 10))
                pause = random.uniform(0, longest)
                if pause > course.left_s:
                    raise course.ended()
                await asyncio.sleep(pause)

    @property
    def identity(self) -> str:
        """All that a reply depends on beside its question: two addresses may have two models of one name."""
        settings = self.settings
        given = settings.prompt, settings.model, settings.address, settings.temperature, settings.structured
        return json.dumps(given)

    @asynccontextmanager
    async def _slot(self, course: Course) -> AsyncIterator[None]:
        """A place among those of this process who ask."""
        try:
            async with asyncio.timeout(course.left_s):
                await self._slots.acquire()
        except TimeoutError:
            raise self._no_turn(course) from None
        try:
            yield
        finally:
            self._slots.release()

    async def _tried(self, question: Question, course: Course) -> Reply | Fault:
        """One request, from its lease to its settlement."""
        self._go_on()
        self._connect()
        wish = self._wish(question, retry=course.failed > 0)
        lease = await self._lease(wish, course)
        self._without |= lease.without
        settlement = Settlement("failed")
        try:
            self._go_on()
            if course.left_s <= 0:
                raise self._no_turn(course)
            settlement = Settlement("failed", lost=True)
            given, settlement = await self._exchanged(question, course)
        finally:
            await self._settle(lease, wish, settlement)
        self._trouble = settlement.trouble if isinstance(given, Fault) else None
        if isinstance(given, Reply):
            return given
        given = replace(given, detail=self._scrubbed(given.detail))
        if given.settlement.without:
            self._do_without(given.settlement.without, given.detail)
        if given.misconfigured:
            self._stop(given.detail)
        return Reply(given.detail, refused=True, finish_reason="content_filter") if given.refused else given

    async def _lease(self, wish: Wish, course: Course) -> Lease:
        ticket = None
        while course.left_s > 0:
            answer = await self._limits.acquire(replace(wish, wait_s=course.left_s), ticket)
            if isinstance(answer, Lease):
                return answer
            if isinstance(answer, OverBudget):
                spent = f"{answer.settled_usd:.4f} US dollars of max_cost_usd={self.settings.max_cost_usd:g} are spent"
                raise NotAnswered("budget", f"{spent}: nothing more is asked")
            if isinstance(answer, Closed):
                asked = f"the service asks for a pause of {answer.pause_s:.0f} s"
                raise NotAnswered(
                    "rate_limit", f"{asked}, and no question waits more than {wish.patience_s:g} s for it"
                )
            ticket, self._trouble = answer.ticket, answer.trouble
        raise self._no_turn(course)

    async def _settle(self, lease: Lease, wish: Wish, settlement: Settlement) -> None:
        cost_usd = wish.cost_usd if settlement.lost else settlement.cost_usd
        try:
            async with asyncio.timeout(SETTLE_S):
                spent_usd = await self._limits.release(lease.lease_id, wish, settlement)
        except (LimitsLost, TimeoutError) as error:
            # A reply that was paid for is not thrown away for this; the next lease says what is wrong.
            logger.warning("the limits were not told of a request of judge %s: %s", self.settings.name, error)
            spent_usd = self._spent_usd + cost_usd
        self._spent_usd = max(self._spent_usd, spent_usd)
        if self._lost is not None and settlement.lost and cost_usd:
            await self._lost(cost_usd)

    def _no_turn(self, course: Course) -> NotAnswered:
        why = HELD_UP_BY.get(self._trouble, HELD_UP_BY[None])
        return course.late(self._trouble or "timeout", f"no turn in {self.settings.timeout_s:g} s: {why}")

    async def _exchanged(self, question: Question, course: Course) -> tuple[Reply | Fault, Settlement]:
        structured = self._structured(question)
        body = self._body(question, structured=structured)
        started = time.monotonic()
        given = await self._sent(body, course)
        if isinstance(given, Fault):
            held_up = given.settlement.outcome in ("pushed_back", "unreachable")
            return given, replace(given.settlement, trouble=given.failure if held_up else None)
        usage = replace(self._usage(body, given), latency_s=time.monotonic() - started)
        settlement = Settlement(
            "answered",
            paid=True,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_usd=usage.cost_usd,
            estimated=given.tokens is None,
        )
        return Reply(self._scrubbed(given.text), structured, given.refused, given.finish_reason, usage), settlement

    async def _sent(self, body: dict[str, Any], course: Course) -> Completion | Fault:
        assert self._client is not None
        left_s, longest_s = course.left_s, self.settings.request_timeout_s
        seconds = min(left_s, longest_s)
        try:
            # The client's own time-outs are for each read: a reply that trickles would outlive them.
            async with asyncio.timeout(seconds):
                raw = await self._client.chat.completions.with_raw_response.create(**body)
        except TimeoutError:
            if left_s < longest_s:
                raise course.late("timeout", f"no reply in the {left_s:.1f} s that were left to it") from None
            return late(seconds)
        except APIStatusError as error:
            return fault_of(error, frozenset(body))
        except APIConnectionError as error:
            return fault_of_connection(error, seconds)
        return completion(raw.content)

    def _structured(self, question: Question) -> bool:
        wanted = question.schema is not None and self.settings.structured != "off"
        return wanted and "response_format" not in self._without

    def _body(self, question: Question, *, structured: bool) -> dict[str, Any]:
        put = question.put(structured=structured)
        # A lone surrogate in a model's text has no UTF-8.
        messages = [{"role": one.role, "content": one.content.encode("utf-8", "replace").decode()} for one in put]
        longest = "max_completion_tokens" if "max_tokens" in self._without else "max_tokens"
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": messages,
            "temperature": self.settings.temperature,
            longest: question.max_tokens,
        }
        if structured:
            schema = {"name": "answer", "schema": question.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _usage(self, body: dict[str, Any], given: Completion) -> Usage:
        asked = sum(len(message["content"]) for message in body["messages"])
        estimate = asked // CHARACTERS_A_TOKEN, -(-len(given.text) // CHARACTERS_A_TOKEN)
        prompt, completed = given.tokens or estimate
        return Usage(prompt, completed, self.settings.cost_usd(prompt, completed))

    def _wish(self, question: Question, *, retry: bool) -> Wish:
        settings = self.settings
        schema = json.dumps(question.schema) if question.schema else ""
        forms = [[one.content for one in question.put(structured=form)] + [schema] for form in (False, True)]
        # A token has at least a byte, so no service counts more of them.
        most = max(sum(len(text.encode("utf-8", "replace")) + TOKENS_A_MESSAGE for text in form) for form in forms)
        about = max(sum(map(len, form)) for form in forms) // CHARACTERS_A_TOKEN
        return Wish(
            address=f"{settings.address} {settings.model}",
            concurrency=settings.concurrency,
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
            run=self.run,
            judge=settings.name,
            tokens=about + question.max_tokens,
            cost_usd=settings.cost_usd(TOKENS_A_REQUEST + most, question.max_tokens),
            cap_usd=settings.max_cost_usd,
            spent_usd=self._spent_usd,
            lease_s=settings.request_timeout_s + LEASE_MARGIN_S,
            wait_s=settings.timeout_s,
            patience_s=PATIENCE * settings.timeout_s,
            retry=retry,
        )

    def _connect(self) -> None:
        if self._client is None:
            self._key = read_key(self.settings)
            http = guarded_client(self.settings, self._key)
            # The transport puts the key on: the client and what it raises never hold it.
            self._client = AsyncOpenAI(
                api_key="none",
                base_url=self.settings.base_url,
                timeout=http.timeout,
                max_retries=0,
                http_client=http,
            )

    def _do_without(self, name: str, detail: str) -> None:
        if name == "response_format" and self.settings.structured == "on":
            self._stop(f"{detail} (set judge.structured=auto for a server that holds no model to a schema)")
        self._without |= {name}

    def _go_on(self) -> None:
        if self._stopped:
            raise JudgeMisconfigured(self._stopped)

    def _stop(self, detail: str) -> None:
        """Raises JudgeMisconfigured, and lets every later question raise it unasked."""
        settings = self.settings
        key = f"the key of {settings.key_variable}" if self._key else f"no key ({settings.key_variable} is not set)"
        self._stopped = (
            f"judge {settings.name} cannot ask {settings.model} at {settings.base_url} with {key}: "
            f"{self._scrubbed(detail)}: set judge.model, judge.base_url or judge.temperature as the service has them, "
            f"or a valid {settings.key_variable} where `ray start` runs"
        )
        self._go_on()

    def _scrubbed(self, text: str) -> str:
        """The text without the key, also where it is written in JSON's escapes, which a reader would undo."""
        if self._key is None:
            return text
        plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
        if self._key.scrubbed(plain) == plain:
            return text
        return self._key.scrubbed(plain).encode(errors="replace").decode()
