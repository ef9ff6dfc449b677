"""A journal of the calls in flight: what was asked before a kill and has to be asked again."""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from rlaif.files import Guard, RunError, make_folder, sync_folder


class Journal:
    """An append-only file with one JSON line for each batch of calls, durable before the calls go out.

    A torn last line is no line: its calls never went out, since `started` had not returned.
    Appends happen inside `guard()`. Raises RunError for a damaged line that is not the last.
    """

    def __init__(self, path: Path, attempt: int = 0, guard: Guard = nullcontext) -> None:
        self.path = path
        self._attempt = attempt
        self._guard = guard
        self._lock = threading.Lock()
        self._mended = False

    def started(self, ids: Sequence[str]) -> None:
        """Note that these calls are about to go out; they may once this returns."""
        if not ids:
            return
        line = json.dumps({"attempt": self._attempt, "ids": list(ids)}) + "\n"
        with self._lock, self._guard():
            self._mend()
            with self.path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())

    def ids(self) -> set[str]:
        """Every call that was ever started."""
        return {name for _, names in self._lines() for name in names}

    def repeated(self) -> int:
        """How many calls were started again by a later attempt, over all attempts."""
        attempts: dict[str, set[int]] = {}
        for attempt, names in self._lines():
            for name in names:
                attempts.setdefault(name, set()).add(attempt)
        return sum(len(numbers) - 1 for numbers in attempts.values())

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        for number, line in enumerate(content.split(b"\n")[:-1], start=1):
            try:
                entry = json.loads(line)
                yield int(entry["attempt"]), [str(name) for name in entry["ids"]]
            except (ValueError, TypeError, KeyError) as error:
                raise RunError(
                    f"{self.path}, line {number}, is damaged; remove it to go on without the count of repeated calls"
                ) from error

    def _mend(self) -> None:
        """Cut off a torn last line once, so that the next one does not continue it."""
        if self._mended:
            return
        make_folder(self.path.parent)
        with self.path.open("ab+") as file:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
            os.fsync(file.fileno())
        self.path.chmod(0o600)
        sync_folder(self.path.parent)
        self._mended = True
