"""A question on its way to a service: how long it may still take, and what it fails by."""

import time
from dataclasses import dataclass

from actors.chat_reply import Fault
from rlaif.judges.asking import NotAnswered
from rlaif.records import Failure


@dataclass
class Course:
    """A question on its way: until when, how often it failed, and by what the last time."""

    until: float
    failed: int = 0
    last: Fault | None = None

    @property
    def left_s(self) -> float:
        """Seconds that are left to it."""
        return self.until - time.monotonic()

    def ended(self) -> NotAnswered:
        """What the question fails by."""
        assert self.last is not None
        times = f" (asked {self.failed} times)" if self.failed > 1 else ""
        return NotAnswered(self.last.failure, f"{self.last.detail}{times}")

    def late(self, failure: Failure, detail: str) -> NotAnswered:
        """What it fails by where its time is over: its own last failure, or where it had none, the given one."""
        return self.ended() if self.last else NotAnswered(failure, detail)
