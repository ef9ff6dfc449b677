"""A reply as the judge cache keeps it, and the line of JSON that it is on disk, which begins with a checksum."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from rlaif.judges.asking import Reply
from rlaif.judges.verdict import Usage

MAX_CHARACTERS = 4 * 2**20
# A character beyond U+FFFF takes twelve bytes of ASCII.
MAX_LINE_BYTES = 12 * MAX_CHARACTERS + 2**16
MAX_NAME = 200
MAX_TOKENS = 2**53
MAX_AMOUNT = 1e9
_KEY = re.compile(r"[0-9a-f]{64}")
_OPENING = b'{"check":"'
_CHECK_BYTES = 16
_BODY_AT = len(_OPENING) + 2 * _CHECK_BYTES + 2


@dataclass(frozen=True)
class StoredReply:
    """A reply under its key (64 hexadecimal digits), with the name of the run that paid for it.

    Raises ValueError for what the store does not hold: another key, a text of more than 4 Mi characters, values of
    other types, negative or infinite amounts.
    """

    key: str
    run: str
    reply: Reply

    def __post_init__(self) -> None:
        reply, usage = self.reply, self.reply.usage
        check_key(self.key)
        for name, text, most in (
            ("run", self.run, MAX_NAME),
            ("finish_reason", reply.finish_reason, MAX_NAME),
            ("text", reply.text, MAX_CHARACTERS),
        ):
            if type(text) is not str or len(text) > most:
                raise ValueError(f"{name} of a reply must be a string of at most {most} characters")
        if not self.run:
            raise ValueError("run of a reply must not be empty")
        if any(type(flag) is not bool for flag in (reply.structured, reply.refused, usage.cached)):
            raise ValueError("structured, refused and cached of a reply must be true or false")
        for tokens in (usage.prompt_tokens, usage.completion_tokens):
            if type(tokens) is not int or not 0 <= tokens <= MAX_TOKENS:
                raise ValueError("tokens of a reply must be a whole number from 0")
        for amount in (usage.cost_usd, usage.latency_s):
            if type(amount) not in (int, float) or not 0 <= amount <= MAX_AMOUNT:
                raise ValueError("cost_usd and latency_s of a reply must be numbers from 0 to 1e9")


def check_key(key: str) -> int:
    """The number that a key's 64 hexadecimal digits stand for; raises ValueError for any other key."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError("a key of the judge cache has 64 digits of 0-9 and a-f")
    return int(key, 16)


def encoded(one: StoredReply) -> bytes:
    """The line of a reply."""
    # ASCII holds every string that Python has, half a surrogate pair too.
    body = json.dumps({"key": one.key, "run": one.run, "reply": asdict(one.reply)}, separators=(",", ":"))
    rest = body[1:].encode("ascii")
    return b"".join((_OPENING, _check(rest), b'",', rest, b"\n"))


def decoded(line: bytes | None) -> StoredReply:
    """What a line holds; raises ValueError for one that is damaged or no line of the store."""
    if line is None or not (line.startswith(_OPENING) and line.endswith(b"}\n")):
        raise ValueError("no line of the store")
    body = line[_BODY_AT:-1]
    if line[len(_OPENING) : _BODY_AT] != _check(body) + b'",':
        raise ValueError("a damaged line")
    try:
        entry: dict[str, Any] = json.loads(b"{" + body)
        fields = dict(entry["reply"])
        usage = Usage(**fields.pop("usage"))
        return StoredReply(entry["key"], entry["run"], Reply(**fields, usage=usage))
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError("a line with another form") from error


def _check(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK_BYTES).hexdigest().encode()


def lines_of(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Every ended line with its length; None stands for one that is too long. A torn last line is no line."""
    while piece := file.readline(MAX_LINE_BYTES):
        length, line = len(piece), piece if piece.endswith(b"\n") else None
        while not piece.endswith(b"\n"):
            piece = file.readline(MAX_LINE_BYTES)
            if not piece:
                return
            length += len(piece)
        yield length, line
