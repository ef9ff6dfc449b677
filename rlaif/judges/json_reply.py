"""A reply that should be one JSON object, read strictly."""

import json
from collections.abc import Collection

_FENCE = "```"


def read_object(text: str, keys: Collection[str], most_characters: int) -> dict[str, object] | None:
    """The object that a reply is, in a fence of three backticks or not; None unless it has just these keys, each once.

    Texts longer than `most_characters` are not read, and none that holds what is no JSON (NaN) or no Unicode.
    """
    if len(text) > most_characters:
        return None
    try:
        reply = json.loads(_without_fence(text), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(reply, dict) or set(reply) != set(keys):
        return None
    texts = [value for value in reply.values() if isinstance(value, str)]
    # A lone surrogate can be escaped in JSON, and written to no table.
    return None if any("\ud800" <= character <= "\udfff" for one in texts for character in one) else reply


def _without_fence(text: str) -> str:
    """The inside of the fence that holds the whole text; a text with no such fence as it is."""
    stripped = text.strip()
    if len(stripped) >= 2 * len(_FENCE) and stripped.startswith(_FENCE) and stripped.endswith(_FENCE):
        return stripped[len(_FENCE) : -len(_FENCE)].removeprefix("json")
    return stripped


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key stands twice in an object")
    return dict(pairs)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")
