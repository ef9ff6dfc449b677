"""Waiting for actors: no wait is without a timeout, and whoever died or is late is named."""

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import ray
from ray.exceptions import (
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)

# A handle's methods are called through `.remote`, which its own types do not know.
Actor: TypeAlias = Any


class ActorLost(RuntimeError):
    """An actor that died or gave no answer in time."""


class ActorDied(ActorLost):
    """An actor or a task whose process ended, or whose node was lost with what it had answered."""


class StartFailed(ActorLost):
    """An actor whose start raised an error: another start would raise it again."""


def answer(reference: Any, timeout_s: float, who: str) -> Any:
    """The result of a remote call.

    Raises ActorLost where the time ran out, ActorDied where the actor died, and StartFailed where it never stood.
    """
    try:
        return ray.get(reference, timeout=timeout_s)
    except GetTimeoutError as error:
        raise ActorLost(f"{who} gave no answer in {timeout_s:g} s") from error
    except RayActorError as error:
        if error.actor_init_failed:
            raise StartFailed(f"{who} failed: {_own_words(str(error))}") from error
        raise ActorDied(f"{who} died: {error}") from error
    except (ObjectLostError, OutOfMemoryError, WorkerCrashedError, NodeDiedError) as error:
        raise ActorDied(f"{who} died: {error}") from error


def _own_words(told: str) -> str:
    """The last error of a traceback: from the line that names it to the end."""
    return re.split(r"\n(?=[A-Za-z_][\w.]*: )", told.strip())[-1]


def steps_of(stream: Any, timeout_s: float, who: str) -> Iterator[Any]:
    """The items of a remote generator, each within the timeout."""
    while True:
        ready, _ = ray.wait([stream], timeout=timeout_s, fetch_local=False)
        if not ready:
            raise ActorLost(f"{who} gave nothing in {timeout_s:g} s")
        try:
            reference = next(stream)
        except StopIteration:
            return
        yield answer(reference, timeout_s, who)
