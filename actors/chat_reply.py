"""What a chat service answered: a completion as it should be, or what a reply of another kind means."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx2
from openai import APIConnectionError, APIStatusError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.guarded_http import Blocked, UnsafeReply
from actors.leases import Settlement
from rlaif.judges.pacing import Outcome, retry_after_s
from rlaif.records import Failure

LONGEST_DETAIL = 300
AGAIN = (408, 409, 429)
"""Of the 4xx, what may go well a second time; of the 5xx, all may."""
OVERLOADED = (408, 429, 503, 504, 529)
"""What says that less should be asked."""
MISCONFIGURED = (401, 402, 403, 404)
"""What every other question would be answered, too."""
REFUSALS = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
FIELDS = {
    "response_format": ("response_format", "json_schema", "structured output", "guided"),
    "max_tokens": ("max_completion_tokens",),
}
"""Fields that some services do not take, and by what in a 400 that is known."""
TOO_LONG = ("maximum context length", "context_length_exceeded", "maximum model length", "context window")
"""What a 400 says of a question that the model has no room for: that is the candidate's failure."""


@dataclass(frozen=True)
class Fault:
    """A request without a usable reply: its failure, what happened, how it is settled, and whether to send it again."""

    failure: Failure
    detail: str
    settlement: Settlement
    again: bool = False
    misconfigured: bool = False
    refused: bool = False


class _Lenient(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Message(_Lenient):
    content: str | None = None
    refusal: str | None = None


class _Choice(_Lenient):
    message: _Message
    finish_reason: str | None = None


class _Completion(_Lenient):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: Any = None


class _Usage(_Lenient):
    prompt_tokens: int = Field(ge=0, le=10**8)
    completion_tokens: int = Field(ge=0, le=10**8)


@dataclass(frozen=True)
class Completion:
    """A completion; `tokens` of prompt and answer where the service said them."""

    text: str
    refused: bool
    finish_reason: str
    tokens: tuple[int, int] | None


def completion(body: bytes) -> Completion | Fault:
    """Reads the body of a reply with status 200."""
    try:
        given = _Completion.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return broken(f"the reply is no chat completion: {where or 'body'}: {first['msg']}")
    choice = given.choices[0]
    reason = choice.finish_reason or "stop"
    refused = reason == "content_filter" or bool(choice.message.refusal)
    text = choice.message.content
    if text is None and reason == "length":
        text = ""
    if text is None and refused:
        text = choice.message.refusal or ""
    if text is None:
        return broken("the reply is no chat completion: its message has no content")
    try:
        usage = _Usage.model_validate(given.usage)
    except ValidationError:
        return Completion(text, refused, reason, None)
    return Completion(text, refused, reason, (usage.prompt_tokens, usage.completion_tokens))


def broken(detail: str, outcome: Outcome = "failed") -> Fault:
    """A reply that came broken, for which payment may still be asked."""
    return Fault("transport", detail, Settlement(outcome, lost=True), again=True)


def fault_of(error: APIStatusError, sent: frozenset[str]) -> Fault:
    """What a reply with a status other than 200 means; `sent` are the fields of the request."""
    status, headers = error.status_code, error.response.headers
    body = error.body
    said = body.get("message") or body.get("detail") if isinstance(body, dict) else body
    message = " ".join(str(said or "").split())[:LONGEST_DETAIL]
    detail = f"status {status}: {message}" if message else f"status {status}"
    if status in (400, 422):
        return fault_of_request(error, message, detail, sent)
    outcome: Outcome = "pushed_back" if status in OVERLOADED else "failed"
    pause = retry_after_s(headers.get("retry-after"), datetime.now(UTC))
    failure: Failure = "rate_limit" if status == 429 else "timeout" if status in (408, 504) else "transport"
    out_of_credit = status == 429 and error.code == "insufficient_quota"
    return Fault(
        failure,
        f"{detail} (to {headers.get('location', '')[:100]})" if 300 <= status < 400 else detail,
        Settlement(outcome, pause if status in AGAIN or status >= 500 else None, lost=status == 504),
        again=status in AGAIN or status >= 500,
        misconfigured=status in MISCONFIGURED or out_of_credit,
    )


def fault_of_request(error: APIStatusError, message: str, detail: str, sent: frozenset[str]) -> Fault:
    """What a 400 says of a request: no room, a field that is not taken, a filter that declined, or this question."""
    words = " ".join([message, *(one for one in (error.param, error.code) if isinstance(one, str))]).lower()
    # First: such a message may name max_completion_tokens, too.
    if any(sign in words for sign in TOO_LONG):
        return Fault("invalid_candidate", detail, Settlement("failed"))
    for name, signs in FIELDS.items():
        if name in sent and any(sign in words for sign in signs):
            return Fault("transport", detail, Settlement("failed", without=name))
    return Fault(
        "transport",
        detail,
        Settlement("failed"),
        misconfigured=isinstance(error.param, str) and error.param == "temperature",
        refused=error.code in REFUSALS,
    )


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
