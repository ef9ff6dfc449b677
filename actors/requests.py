"""What is put to the samplers: apart from them, so that whoever asks need not import their engines."""

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rlaif.records import Case


@dataclass(frozen=True)
class Request:
    """What to sample for one case: how many candidates, at which temperature, from whose features."""

    case: Case
    feature_key: str | None
    n: int
    temperature: float

    @property
    def key(self) -> tuple[str, str | None]:
        """What tells it from the other requests of a stage: the case, and whose features."""
        return self.case.case_id, self.feature_key


_stages = itertools.count()


def new_stage() -> int:
    """The number of a stage that begins now: higher than all before it in this process."""
    return next(_stages)


class Feed:
    """Requests of one stage that reach a sampler while it writes: one thread puts them in, another takes them out.

    Stages are numbered upward. Whatever comes for an earlier one than the newest that was heard of is dropped.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stage = -1
        self._requests: deque[Request] = deque()
        self._ended = False

    def put(self, stage: int, requests: Sequence[Request], *, end: bool = False) -> None:
        """Adds requests to a stage, or ends it."""
        with self._changed:
            self._turn_to(stage)
            if stage == self._stage:
                self._requests.extend(requests)
                self._ended |= end
                self._changed.notify_all()

    def take(self, stage: int, wait_s: float) -> list[Request] | None:
        """All that came for a stage, waited for where there is nothing yet; None once the stage is over."""
        with self._changed:
            self._turn_to(stage)
            self._changed.wait_for(lambda: self._requests or self._ended or self._stage != stage, wait_s)
            if self._ended or self._stage != stage:
                return None
            taken = list(self._requests)
            self._requests.clear()
            return taken

    def _turn_to(self, stage: int) -> None:
        if stage > self._stage:
            self._stage, self._ended = stage, False
            self._requests.clear()
            self._changed.notify_all()
