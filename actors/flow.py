"""What is in flight between samplers, judges and the controller; it is bounded, whatever the number of cases."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import ray

from actors.fleet import ActorLost, answer
from actors.judge import ToJudge
from actors.requests import Request
from rlaif.config import Config

# Requests of one call to a sampler, and such calls in its queue or in a judge's.
REQUESTS_A_CALL = 512
CALLS_AHEAD = 2


class Flow:
    """Candidates from the samplers and judgements from the judges, as they come; bounds what is in flight."""

    def __init__(
        self, config: Config, judges: Sequence[Any], samplers: Sequence[Any], requests: Sequence[Request], round_: int
    ) -> None:
        self.timeout_s, self.judges, self.round = config.sampler.timeout_s, judges, round_
        chunk = max(1, min(REQUESTS_A_CALL, -(-len(requests) // max(1, len(samplers)))))
        self._chunks = deque(requests[i : i + chunk] for i in range(0, len(requests), chunk))
        self._streams: dict[Any, Any] = {}
        self._judging: dict[Any, int] = {}
        self._waiting: deque[list[ToJudge]] = deque()
        for _ in range(CALLS_AHEAD):
            for sampler in samplers:
                self._ask(sampler)

    def _ask(self, sampler: Any) -> None:
        if self._chunks:
            self._streams[sampler.sample.remote(self._chunks.popleft(), self.round)] = sampler

    def judge(self, batch: list[ToJudge]) -> None:
        """Sends a batch to the least busy judge, or keeps it until one is free."""
        self._waiting.append(batch)
        self._dispatch()

    def _dispatch(self) -> None:
        load = Counter(self._judging.values())
        while self._waiting:
            number = min(range(len(self.judges)), key=lambda judge: load[judge])
            if load[number] >= CALLS_AHEAD:
                return
            self._judging[self.judges[number].judge.remote(self._waiting.popleft())] = number
            load[number] += 1

    def results(self) -> Iterator[tuple[Literal["candidates", "judgements", "sampled"], list[Any]]]:
        """Yields ("candidates", …), ("judgements", …) and, once every sampler has ended, ("sampled", [])."""
        told = not self._streams
        while self._streams or self._judging or self._waiting:
            ready, _ = ray.wait([*self._judging, *self._streams], timeout=self.timeout_s, fetch_local=False)
            if not ready:
                raise ActorLost(f"neither sampler nor judge gave anything in {self.timeout_s:g} s")
            one: Any = ready[0]
            if one in self._judging:
                del self._judging[one]
                yield "judgements", answer(one, self.timeout_s, "judge")
                self._dispatch()
                continue
            try:
                reference = next(one)
            except StopIteration:
                self._ask(self._streams.pop(one))
                if not self._streams and not told:
                    told = True
                    yield "sampled", []
                continue
            yield "candidates", answer(reference, self.timeout_s, "sampler")
