"""Live progress on the terminal and in a job's log: stage, done of total, rate, time left."""

import sys
import time


class Progress:
    """Prints a stage's progress at most every few seconds, and its end always."""

    def __init__(self, stage: str, total: int, *, every_s: float = 3.0) -> None:
        self.stage, self.total, self.every_s = stage, total, every_s
        self.started = self._printed = time.monotonic()
        self.done = self._first = 0
        print(f"{stage}: {total} to do", flush=True) if total else None

    def skip(self, done: int) -> None:
        """Counts what an earlier attempt has done; it takes no part in the rate."""
        self.done = self._first = done

    def advance(self, by: int = 1) -> None:
        """Counts what is done now."""
        self.at(self.done + by)

    def at(self, done: int, note: str = "") -> None:
        """Says how much is done in all."""
        self.done = done
        now = time.monotonic()
        if now - self._printed < self.every_s and done < self.total:
            return
        self._printed = now
        seconds = max(now - self.started, 1e-9)
        rate = (done - self._first) / seconds
        left = (self.total - done) / rate if rate > 0 else 0.0
        share = f"{done}/{self.total}"
        line = f"{self.stage}: {share:>11}  {rate:7.1f}/s  {_clock(seconds)} gone, {_clock(left)} left"
        print(f"{line}  {note}".rstrip(), file=sys.stdout, flush=True)

    @property
    def seconds(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self.started


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
