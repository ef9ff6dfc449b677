"""Asking a chat model behind an OpenAI-compatible address: the network's side of a judge."""

import asyncio
import json
import logging
import random
import time
from dataclasses import replace
from typing import Any

import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI

from actors.api_key import ApiKey, JudgeMisconfigured, read_key
from actors.chat_reply import Completion, Fault, broken, completion, fault_of
from actors.guarded_http import Blocked, UnsafeReply, guarded_client
from actors.service_limits import ClusterLimits, Lease, Limits, OverBudget, Settlement, Wish
from rlaif.judges.asking import NotAnswered, Question, Reply
from rlaif.judges.settings import ChatJudgeSection
from rlaif.judges.verdict import Usage

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
SAYING_MUCH = ("openai", "httpx2", "httpcore2")


class ChatAsk:
    """An `Ask` at an OpenAI-compatible address, within the limits that the cluster shares.

    `spent_usd` is what the run's tables already hold for this judge. Raises NotAnswered for a question that failed, and
    JudgeMisconfigured for what would fail every question.
    """

    def __init__(
        self,
        settings: ChatJudgeSection,
        run: str,
        *,
        limits: Limits | None = None,
        spent_usd: float = 0.0,
    ) -> None:
        self.settings, self.run = settings, run
        self._limits: Limits = limits or ClusterLimits()
        self._spent_usd = spent_usd
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._client: AsyncOpenAI | None = None
        self._key: ApiKey | None = None
        self._without: frozenset[str] = frozenset()
        self._stopped: str | None = None
        # Their lower levels hold whole requests, with report text in them, whatever the environment sets.
        for name in SAYING_MUCH:
            logging.getLogger(name).setLevel(logging.WARNING)

    async def __call__(self, question: Question) -> Reply:
        """The reply to a question, asked for as often as the settings say."""
        failed = 0
        while True:
            async with self._slots:
                given = await self._tried(question, retry=failed > 0)
            if isinstance(given, Reply):
                return given
            if given.settlement.without:
                continue
            failed += 1
            if not given.again or failed >= self.settings.attempts:
                times = f" (asked {failed} times)" if failed > 1 else ""
                raise NotAnswered(given.failure, f"{given.detail}{times}")
            if not given.settlement.retry_after_s:
                longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failed - 1, 10))
                await asyncio.sleep(random.uniform(0, longest))

    @property
    def identity(self) -> str:
        """All that a reply depends on beside its question: two addresses may have two models of one name."""
        settings = self.settings
        given = settings.prompt, settings.model, settings.address, settings.temperature, settings.structured
        return json.dumps(given)

    async def close(self) -> None:
        """Closes the connections."""
        if self._client:
            await self._client.close()

    async def _tried(self, question: Question, *, retry: bool) -> Reply | Fault:
        """One request, from its lease to its settlement."""
        self._go_on()
        self._connect()
        wish = self._wish(question, retry=retry)
        lease = await self._lease(wish)
        self._without |= lease.without
        settlement = Settlement("failed", lost=self._stopped is None)
        try:
            self._go_on()
            given, settlement = await self._exchanged(question)
        finally:
            self._spent_usd = max(self._spent_usd, await self._limits.release(lease.lease_id, wish, settlement))
        if isinstance(given, Reply):
            return given
        given = replace(given, detail=self._scrubbed(given.detail))
        if given.settlement.without:
            self._do_without(given.settlement.without, given.detail)
        if given.misconfigured:
            self._stop(given.detail)
        return Reply(given.detail, refused=True, finish_reason="content_filter") if given.refused else given

    async def _lease(self, wish: Wish) -> Lease:
        until = time.monotonic() + self.settings.timeout_s
        answer = await self._limits.acquire(wish)
        while not isinstance(answer, Lease):
            if isinstance(answer, OverBudget):
                spent = f"{answer.settled_usd:.4f} US dollars of max_cost_usd={self.settings.max_cost_usd:g} are spent"
                raise NotAnswered("budget", f"{spent}: nothing more is asked")
            if time.monotonic() > until:
                raise NotAnswered("rate_limit", f"the service took no question for {self.settings.timeout_s:g} s")
            answer = await self._limits.acquire(wish, answer.ticket)
        return answer

    async def _exchanged(self, question: Question) -> tuple[Reply | Fault, Settlement]:
        structured = self._structured(question)
        body = self._body(question, structured=structured)
        started = time.monotonic()
        given = await self._sent(body)
        if isinstance(given, Fault):
            return given, given.settlement
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

    async def _sent(self, body: dict[str, Any]) -> Completion | Fault:
        assert self._client is not None
        seconds = self.settings.request_timeout_s
        try:
            # The client's own time-outs are for each read: a reply that trickles would outlive them.
            async with asyncio.timeout(seconds):
                raw = await self._client.chat.completions.with_raw_response.create(**body)
        except TimeoutError:
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
            address=f"{settings.base_url} {settings.model}",
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
        return self._key.scrubbed(text) if self._key else text


def late(seconds: float) -> Fault:
    """No reply in time, though the question may have been answered and have to be paid for."""
    return Fault("timeout", f"no reply in {seconds:g} s", Settlement("pushed_back", lost=True), again=True)


def fault_of_connection(error: APIConnectionError, seconds: float) -> Fault:
    """What a request without any whole reply means."""
    cause = error.__cause__
    detail = " ".join(f"{type(cause).__name__}: {cause}".split())[:200]
    if isinstance(cause, Blocked):
        return Fault("blocked", str(cause), Settlement("failed"))
    if isinstance(cause, UnsafeReply):
        return Fault("transport", str(cause), Settlement("failed", lost=True))
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        return Fault("transport", detail, Settlement("unreachable"), again=True)
    if isinstance(cause, httpx2.TimeoutException):
        return late(seconds)
    return broken(f"the connection broke: {detail}", "unreachable")
