"""Work in processes of their own that take a step when they are told to, so that two sides can be timed in turn."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import Any

from actors.remote import ActorLost

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Step:
    """A step's seconds, those of a clock and those of its process's CPU time, and what it gave."""

    seconds: float
    cpu_seconds: float
    result: Any


class Turns:
    """A process's end of the work: waits for the word to go on, and tells what a step took and gave."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._started = perf_counter(), process_time()

    def wait(self) -> None:
        """Waits for the next turn; ends the process where there is none."""
        if not self._connection.recv():
            raise SystemExit(0)
        self._started = perf_counter(), process_time()

    def done(self, result: Any) -> None:
        """Ends the turn."""
        clock, cpu = self._started
        self._connection.send(Step(perf_counter() - clock, process_time() - cpu, result))


class Side:
    """One side: a task in a process of its own, called with its `Turns` and the arguments."""

    def __init__(self, name: str, task: Callable[..., None], arguments: tuple[Any, ...], timeout_s: float) -> None:
        self.name, self.timeout_s = name, timeout_s
        self._connection, other = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_work, args=(task, other, arguments), name=name)
        self._process.start()
        other.close()

    def step(self) -> Step:
        """One step. Raises ActorLost where the process died or is late."""
        try:
            self._connection.send(True)
            if not self._connection.poll(self.timeout_s):
                raise ActorLost(f"{self.name} took more than {self.timeout_s:g} s for a step")
            step: Step = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise ActorLost(f"{self.name} died: see what it wrote above") from error
        return step

    def close(self) -> None:
        """Ends the process."""
        with suppress(BrokenPipeError):
            self._connection.send(False)
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(timeout=10)


def _work(task: Callable[..., None], connection: Connection, arguments: tuple[Any, ...]) -> None:
    task(Turns(connection), *arguments)


@contextmanager
def side(name: str, task: Callable[..., None], *arguments: Any, timeout_s: float = 1200) -> Iterator[Side]:
    """A side that ends with the context."""
    one = Side(name, task, arguments, timeout_s)
    try:
        yield one
    finally:
        one.close()
