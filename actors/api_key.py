"""The key of a judge's service: read where the actor runs, kept out of whatever is written."""

import os
import re
import stat
from pathlib import Path
from typing import NoReturn

from rlaif.judges.settings import LOOPBACK, ChatJudgeSection

LONGEST_KEY = 4096
RUN = 8
"""So many characters of a key in a row are taken out of a text; a shorter key is no secret."""
SHOWN = 4
"""Services show a key's first and last characters around stars or dots."""
PRINTABLE = re.compile(r"[\x21-\x7e]+")


class JudgeMisconfigured(RuntimeError):
    """A judge that cannot judge anything as it is set: the whole run stops, with what to set."""


class ApiKey:
    """A key that shows itself to nobody who does not call `revealed`, and that leaves its process in no pickle."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._runs = frozenset(key[at : at + RUN] for at in range(len(key) - RUN + 1))

    def revealed(self) -> str:
        """The key itself."""
        return self._key

    def scrubbed(self, text: str) -> str:
        """The text without the key, eight or more of its characters in a row, or a masked form such as `sk-a**wxyz`."""
        if any(run in text for run in self._runs):
            text = self._without_runs(text)
        return " ".join("[key]" if self._masked(word) else word for word in text.split(" "))

    def _without_runs(self, text: str) -> str:
        hidden = bytearray(len(text))
        for at in range(len(text) - RUN + 1):
            if text[at : at + RUN] in self._runs:
                hidden[at : at + RUN] = b"\x01" * RUN
        starts = {at for at, hide in enumerate(hidden) if hide and not (at and hidden[at - 1])}
        return "".join("[key]" * (at in starts) if hide else text[at] for at, hide in enumerate(hidden))

    def _masked(self, word: str) -> bool:
        shown = self._key[:SHOWN] in word or self._key[-SHOWN:] in word
        return bool(self._runs) and shown and any(mask in word for mask in ("**", "..", "…"))

    def __repr__(self) -> str:
        return "ApiKey([key])"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key does not leave the process that read it")


def read_key(settings: ChatJudgeSection) -> ApiKey | None:
    """The key from the environment, or from the file that the environment names; None where a loopback host needs none.

    Raises JudgeMisconfigured where there is none for another host, or where it can be read by others or is no key.
    """
    variable = settings.key_variable
    if key := os.environ.get(variable, "").strip():
        return checked(key, variable)
    if path := os.environ.get(f"{variable}_FILE", ""):
        return checked(read_owned(Path(path), f"{variable}_FILE"), f"{variable}_FILE")
    if settings.host in LOOPBACK:
        return None
    raise JudgeMisconfigured(
        f"judge {settings.name} has no key for {settings.host}: put {variable} into the environment where `ray start` "
        f"runs (a job does not see the submitting shell's), or {variable}_FILE with the path of a file of mode 0600"
    )


def checked(key: str, source: str) -> ApiKey:
    """A key that may stand in a header."""
    if not PRINTABLE.fullmatch(key) or len(key) > LONGEST_KEY:
        raise JudgeMisconfigured(
            f"{source} holds no key: it must be one word of printable ASCII of at most {LONGEST_KEY} characters"
        )
    return ApiKey(key)


def read_owned(path: Path, variable: str) -> str:
    """The text of a regular file that only its owner, us, may read."""
    try:
        # Without waiting for a writer, should the path be a pipe.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no path"
        # The path is not shown: somebody may have put the key itself there.
        raise JudgeMisconfigured(f"{variable} names a file that cannot be read: {reason}") from None
    try:
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode):
            raise JudgeMisconfigured(f"{variable} names something that is no regular file")
        if state.st_uid != os.geteuid() or state.st_mode & 0o077:
            raise JudgeMisconfigured(
                f"{variable} names a file that others may read: make it yours alone (chown, and chmod 600)"
            )
        return os.read(file, LONGEST_KEY + 2).decode("utf-8", errors="replace").strip()
    finally:
        os.close(file)
