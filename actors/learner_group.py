"""The learners of a run as one: every rank is called at once."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from actors.remote import Actor, answer, steps_of
from rlaif.config import Config

if TYPE_CHECKING:
    from rlaif.vision import Vision


class LearnerGroup:
    """The learners as one: every call goes to all ranks, the answers come from rank 0."""

    def __init__(self, config: Config, vision: "Vision | None") -> None:
        from actors.learner import LearnerActor

        settings = config.learner
        environment = {"OMP_NUM_THREADS": str(settings.threads)}
        if not settings.gpus:
            environment["DS_ACCELERATOR"] = "cpu"
        options = {"num_cpus": settings.cpus, "num_gpus": settings.gpus, "runtime_env": {"env_vars": environment}}
        self.timeout_s = settings.timeout_s
        self.ranks: list[Actor] = [
            LearnerActor.options(**options).remote(rank, settings, vision, config.run.seed)
            for rank in range(settings.ranks)
        ]
        host, port = answer(self.ranks[0].address.remote(), self.timeout_s, "learner 0")
        self._all("connect", host, port)

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        calls = [getattr(rank, method).remote(*arguments) for rank in self.ranks]
        return [answer(call, self.timeout_s, f"learner {number} in {method}") for number, call in enumerate(calls)]

    def train(self, method: str, *arguments: Any) -> Iterator[dict[str, float]]:
        """Runs `train_sft` or `train_dpo` on all ranks and yields rank 0's steps; ends when all have ended."""
        streams = [getattr(rank, method).remote(*arguments) for rank in self.ranks]
        yield from steps_of(streams[0], self.timeout_s, f"learner 0 in {method}")
        for number, stream in enumerate(streams[1:], 1):
            for _ in steps_of(stream, self.timeout_s, f"learner {number} in {method}"):
                pass

    def logprob_gap(self, *arguments: Any) -> dict[str, float]:
        """Rank 0's `logprob_gap`."""
        return answer(self.ranks[0].logprob_gap.remote(*arguments), self.timeout_s, "learner 0 in logprob_gap")
