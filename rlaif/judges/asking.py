"""How judges ask a language model: a question goes to whatever `Ask` they are given, and a reply comes back.

The judges of this room know neither network nor engine; `actors/` puts an HTTP client or vLLM behind `Ask`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from rlaif.judges.verdict import Usage
from rlaif.records import Failure


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Question:
    """A chat to be continued by at most `max_tokens` tokens.

    `schema` is a JSON schema of the answer, for servers that can hold a model to one: these are given `messages` with
    `schema_form` as the last words, others with `text_form`. `attempt` parts a question that is put once more from
    its first putting, which would give the same reply.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    text_form: str = ""
    schema_form: str = ""
    schema: Mapping[str, Any] | None = None
    attempt: int = 0

    def put(self, *, structured: bool) -> tuple[Message, ...]:
        """The messages as they go to the model."""
        form = self.schema_form if structured else self.text_form
        if not form:
            return self.messages
        *before, last = self.messages
        return (*before, Message(last.role, f"{last.content}\n\n{form}"))


@dataclass(frozen=True)
class Reply:
    """What the model answered; `structured` where the server held it to the question's schema.

    `refused` where the server says that the model, or a filter before it, declined. `finish_reason` is `length` for a
    reply that was cut off.
    """

    text: str
    structured: bool = False
    refused: bool = False
    finish_reason: str = "stop"
    usage: Usage = field(default_factory=Usage)


class NotAnswered(Exception):
    """A question that got no reply, with the failure's name and what happened."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(failure, detail)
        self.failure = failure
        self.detail = detail


Ask: TypeAlias = Callable[[Question], Awaitable[Reply]]
