"""The forms of TRL's preference data sets: texts, or conversations of messages with `role` and `content`.

A prompt is explicit (a column) or implicit: the turns before the assistant's in `chosen` and `rejected`.
"""

from typing import Any


class FormError(ValueError):
    """A value in none of the forms."""


def report_of(value: Any) -> str:
    """The report: a text, or the last turn of a conversation, which must be the assistant's, without blanks around it.

    Raises FormError for other values and for a conversation with an assistant's turn before the last.
    """
    if isinstance(value, str):
        return value.strip()
    *before, last = _messages(value)
    if last[0] != "assistant" or any(role == "assistant" for role, _ in before):
        raise FormError("a conversation must end in the assistant's report, and have no other turn of the assistant")
    return last[1].strip()


def prompt_of(value: Any) -> str:
    """The prompt: a text, or the one turn of the user.

    Raises FormError for other values, and for further turns: the policy's own chat template frames one question.
    """
    if isinstance(value, str):
        return value.strip()
    messages = _messages(value)
    if len(messages) != 1 or messages[0][0] != "user":
        turns = ", ".join(role for role, _ in messages)
        raise FormError(f"a prompt is one turn of the user, not {turns}")
    return messages[0][1].strip()


def implicit_prompt(chosen: Any, rejected: Any) -> str | None:
    """The turns before the report, which both conversations share; None for texts and reports alone."""
    if isinstance(chosen, str) or isinstance(rejected, str):
        return None
    (*before, _), (*other, _) = _messages(chosen), _messages(rejected)
    if before != other:
        raise FormError("chosen and rejected begin with other turns: they must answer the same prompt")
    return prompt_of([{"role": role, "content": text} for role, text in before]) if before else None


def _messages(value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, list) or not value:
        raise FormError(f"neither a text nor a conversation, but {_shown(value)}")
    messages = []
    for one in value:
        if not isinstance(one, dict) or not isinstance(one.get("role"), str):
            raise FormError(f"a message needs role and content, and is {_shown(one)}")
        messages.append((one["role"], _content(one.get("content"))))
    return messages


def _content(content: Any) -> str:
    """The words of a message; of parts, those of its text parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise FormError(f"a message's content is a text or a list of parts, not {_shown(content)}")
    texts = [part.get("text") for part in content if part.get("type", "text") == "text"]
    if not all(isinstance(text, str) for text in texts):
        raise FormError("a text part of a message has no text")
    return " ".join(str(text) for text in texts)


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
