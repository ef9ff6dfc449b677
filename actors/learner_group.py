"""The learners of a run as one: every rank is called at once, and where one is lost all start again."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import ray
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, RayError, RayTaskError

from actors.learner_faults import LearnerOutOfMemory, LearningFailed, PeerLost, memory_advice
from actors.outages import Outages
from actors.placement import Placement
from actors.remote import Actor, ActorLost, StartFailed, answer
from rlaif.config import Config
from rlaif.models.settings import PolicyError

if TYPE_CHECKING:
    from rlaif.vision import Vision

# When a rank failed, how long the others may take to end by themselves.
GRACE_S = 15.0
_DEAD = (RayActorError, OutOfMemoryError, ObjectLostError)


class LearnerGroup:
    """The learners as one: every call goes to all ranks, the answers come from rank 0.

    A rank that died takes the whole group with it: all are started again, at most `learner.restarts` times in a run,
    and the stage is done again from the folder that it began with. Errors that a rank raised are not retried.
    """

    def __init__(self, config: Config, vision: "Vision | None", placement: Placement, outages: Outages) -> None:
        self.config, self.vision, self.placement, self.outages = config, vision, placement, outages
        self.timeout_s = config.learner.timeout_s
        self.ranks: list[Actor] = []
        self.restarted = 0
        self._start()

    def train(self, method: str, *arguments: Any) -> Iterator[dict[str, float]]:
        """Runs one of the learner's trainings on all ranks and yields rank 0's steps; ends when all have ended.

        After a restart the steps begin at 0 again: those before it belong to no policy. Raises ActorLost where the
        restarts are used up, and whatever a rank raised.
        """
        # What is no step is a sign of life.
        return (told for told in self._told(method, arguments) if "step" in told)

    def logprob_gap(self, *arguments: Any) -> dict[str, float]:
        """`Learner.logprob_gap` on all ranks; where one is lost, the group starts again and is asked once more.

        Raises as `train`.
        """
        *_, gap = self._told("logprob_gap", arguments)
        return gap

    def weights(self, policy: str, version: int) -> Any:
        """A reference to rank 0's `weights`, once they are made; where it is lost, the group starts again and is asked
        once more.
        """
        while True:
            begun = time.monotonic()
            if not self.ranks:
                self._start()
            made: Any = self.ranks[0].weights.remote(policy, version)
            try:
                if not ray.wait([made], timeout=self.timeout_s, fetch_local=False)[0]:
                    raise ActorLost(f"learner 0 in weights gave no answer in {self.timeout_s:g} s")
                # A word alone, which fails as the weights did: they themselves stay where they are.
                answer(self.ranks[0].ready.remote(made), self.timeout_s, "learner 0 in weights")
                return made
            except ActorLost as lost:
                self._begin_again(lost, begun)

    def settle(self) -> bool:
        """Whether a rank had died, so that all were started again; raises as `train`."""
        begun = time.monotonic()
        try:
            for number, rank in enumerate(self.ranks):
                answer(rank.ready.remote(None), self.timeout_s, f"learner {number} between two stages")
        except ActorLost as lost:
            self._begin_again(lost, begun)
            return True
        return False

    def close(self) -> None:
        """Ends all ranks."""
        for rank in self.ranks:
            ray.kill(rank)
        self.ranks = []

    def _start(self) -> None:
        begun = time.monotonic()
        try:
            self._meet()
        except ActorLost as lost:
            self._begin_again(lost, begun)

    def _meet(self) -> None:
        """Starts the ranks and has them find each other."""
        from actors.learner import LearnerActor

        settings = self.config.learner
        environment = {"OMP_NUM_THREADS": str(settings.threads)}
        if not settings.gpus:
            environment["DS_ACCELERATOR"] = "cpu"
        environment_of = {"runtime_env": {"env_vars": environment}}
        self.ranks = [
            LearnerActor.options(**self.placement.options("learner", rank, settings), **environment_of).remote(
                rank, settings, self.vision, self.config.run.seed
            )
            for rank in range(settings.ranks)
        ]
        host, port = answer(self.ranks[0].address.remote(), self.timeout_s, "learner 0 at its start")
        calls = {rank.connect.remote(host, port): number for number, rank in enumerate(self.ranks)}
        while calls:
            # The first that is ready: the others would wait for a rank that died for as long as they may.
            ready, _ = ray.wait([*calls], timeout=self.timeout_s)
            if not ready:
                raise ActorLost(f"the learners did not find each other in {self.timeout_s:g} s")
            number = calls.pop(ready[0])
            try:
                answer(ready[0], self.timeout_s, f"learner {number} at its start")
            except PeerLost as error:
                raise ActorLost(_cause(error)) from error

    def _begin_again(self, lost: ActorLost, begun: float, steps: int = 0) -> None:
        """Ends what is left of the group, and starts it again if it may; what began at `begun` (by the monotonic
        clock) is done again, and so are its `steps`.
        """
        allowed = self.config.learner.restarts
        while True:
            self.close()
            if isinstance(lost, StartFailed):
                raise lost
            if self.restarted >= allowed:
                self._note(lost, begun, steps)
                raise ActorLost(
                    f"{lost}; learner.restarts={allowed} is used up: the same command goes on from the last checkpoint"
                ) from lost
            self.restarted += 1
            print(
                f"{lost}: all learners start again and repeat the stage from its checkpoint "
                f"(restart {self.restarted} of learner.restarts={allowed})",
                flush=True,
            )
            try:
                self._meet()
            except ActorLost as again:
                self._note(lost, begun, steps)
                lost, begun, steps = again, time.monotonic(), 0
            else:
                self._note(lost, begun, steps)
                return

    def _note(self, lost: ActorLost, begun: float, steps: int) -> None:
        seconds = time.monotonic() - begun
        self.outages.note("learners", "the learners", str(lost), repeated=steps, unit="steps", seconds=seconds)

    def _told(self, method: str, arguments: tuple[Any, ...]) -> Iterator[dict[str, float]]:
        """What rank 0 gives while all ranks run a method, begun again where one is lost; ends when all have ended."""
        while True:
            if not self.ranks:
                self._start()
            begun, steps = time.monotonic(), 0
            try:
                for told in self._attempt(method, arguments):
                    steps += "step" in told
                    yield told
                return
            except ActorLost as lost:
                self._begin_again(lost, begun, steps)

    def _attempt(self, method: str, arguments: tuple[Any, ...]) -> Iterator[dict[str, float]]:
        running = {number: getattr(rank, method).remote(*arguments) for number, rank in enumerate(self.ranks)}
        faults: dict[int, RayError] = {}
        # A rank that died explains whatever the others say; one that raised may not be the first.
        while running and not any(isinstance(one, _DEAD) for one in faults.values()):
            timeout = GRACE_S if faults else self.timeout_s
            ready, _ = ray.wait(list(running.values()), num_returns=1, timeout=timeout, fetch_local=False)
            if not ready and not faults:
                raise ActorLost(f"no learner gave anything in {method} within {self.timeout_s:g} s")
            if not ready:
                break
            number = next(number for number, stream in running.items() if stream is ready[0])
            try:
                step = ray.get(next(running[number]), timeout=self.timeout_s)
            except StopIteration:
                del running[number]
            except RayError as error:
                faults[number] = error
                del running[number]
            else:
                if number == 0 and not faults:
                    yield step
        if faults:
            self._fail(method, faults, waiting=bool(running))

    def _fail(self, method: str, faults: dict[int, RayError], *, waiting: bool) -> NoReturn:
        """Raises the fault that explains the others: ranks whose partner is gone fail after it, or wait for ever."""
        if waiting:
            self.close()
        ours = (LearningFailed, LearnerOutOfMemory, PolicyError)
        for error in faults.values():
            if isinstance(error, ours):
                raise error
        for number, error in sorted(faults.items()):
            if isinstance(error, _DEAD):
                if isinstance(error, OutOfMemoryError) or "low on memory" in str(error):
                    self.close()
                    raise LearnerOutOfMemory(
                        f"learner {number} was ended in {method}, as its node ran out of memory: "
                        f"{memory_advice(self.config.learner)}"
                    ) from error
                raise ActorLost(f"learner {number} died in {method}: {_reason(error)}") from error
        for error in faults.values():
            if not isinstance(error, PeerLost):
                raise error
        number, error = min(faults.items())
        raise ActorLost(f"{_cause(error)} in {method}") from error


def _cause(error: BaseException) -> str:
    """What a rank itself said, without what Ray wraps around it."""
    return str(error.cause if isinstance(error, RayTaskError) else error)


def _reason(error: RayError) -> str:
    """Ray's lines on a dead actor as one, without its names for it."""
    known = ("class_name", "actor_id", "pid", "namespace", "ip", "name")
    lines = (line.strip() for line in str(error).splitlines())
    return " ".join(line for line in lines if line and line.partition(":")[0] not in known)
