"""What the judge cache keeps, a reply or a payment without one: a line of JSON that begins with a checksum."""

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
            ("finish_reason", reply.finish_reason, MAX_NAME),
            ("text", reply.text, MAX_CHARACTERS),
        ):
            if type(text) is not str or len(text) > most:
                raise ValueError(f"{name} of a reply must be a string of at most {most} characters")
        check_run(self.run)
        if any(type(flag) is not bool for flag in (reply.structured, reply.refused, usage.cached)):
            raise ValueError("structured, refused and cached of a reply must be true or false")
        for tokens in (usage.prompt_tokens, usage.completion_tokens):
            if type(tokens) is not int or not 0 <= tokens <= MAX_TOKENS:
                raise ValueError("tokens of a reply must be a whole number from 0")
        for amount in (usage.cost_usd, usage.latency_s):
            if type(amount) not in (int, float) or not 0 <= amount <= MAX_AMOUNT:
                raise ValueError("cost_usd and latency_s of a reply must be numbers from 0 to 1e9")


@dataclass(frozen=True)
class Payment:
    """US dollars that a run paid for no reply that is kept: it never came, or another one stood under its key already.

    `key`, of 64 hexadecimal digits, tells it from other payments. Raises ValueError as StoredReply does.
    """

    key: str
    run: str
    cost_usd: float

    def __post_init__(self) -> None:
        check_key(self.key)
        check_run(self.run)
        if type(self.cost_usd) not in (int, float) or not 0 <= self.cost_usd <= MAX_AMOUNT:
            raise ValueError("cost_usd of a payment must be a number from 0 to 1e9")


def check_run(run: str) -> None:
    """Raises ValueError for a name by which nobody can pay."""
    if type(run) is not str or not 0 < len(run) <= MAX_NAME:
        raise ValueError(
            f"the run that pays for replies must have a name of 1 to {MAX_NAME} characters, not {run!r:.80}"
        )


def check_key(key: str) -> int:
    """The number that a key's 64 hexadecimal digits stand for; raises ValueError for any other key."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError("a key of the judge cache has 64 digits of 0-9 and a-f")
    return int(key, 16)


def payment_of(one: StoredReply) -> Payment:
    """What a reply cost that is not kept: the same for the same reply, however often it is handed in."""
    return Payment(hashlib.sha256(encoded(one)).hexdigest(), one.run, one.reply.usage.cost_usd)


def encoded(one: StoredReply | Payment) -> bytes:
    """The line of a reply or a payment."""
    if isinstance(one, Payment):
        entry: dict[str, Any] = {"payment": one.key, "run": one.run, "cost_usd": one.cost_usd}
    else:
        entry = {"key": one.key, "run": one.run, "reply": asdict(one.reply)}
    # ASCII holds every string that Python has, half a surrogate pair too.
    rest = json.dumps(entry, separators=(",", ":"))[1:].encode("ascii")
    return b"".join((_OPENING, _check(rest), b'",', rest, b"\n"))


def decoded(line: bytes | None) -> StoredReply | Payment:
    """What a line holds; raises ValueError for one that is damaged or no line of the store."""
    if line is None or not (line.startswith(_OPENING) and line.endswith(b"}\n")):
        raise ValueError("no line of the store")
    body = line[_BODY_AT:-1]
    if line[len(_OPENING) : _BODY_AT] != _check(body) + b'",':
        raise ValueError("a damaged line")
    try:
        entry: dict[str, Any] = json.loads(b"{" + body)
        if "payment" in entry:
            return Payment(entry["payment"], entry["run"], entry["cost_usd"])
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
