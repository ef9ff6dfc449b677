"""Waiting for actors: no wait is without a timeout, and whoever died or is late is named."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import ray
from ray.exceptions import GetTimeoutError, RayActorError

# A handle's methods are called through `.remote`, which its own types do not know.
Actor: TypeAlias = Any


class ActorLost(RuntimeError):
    """An actor that died or gave no answer in time."""


def answer(reference: Any, timeout_s: float, who: str) -> Any:
    """The result of a remote call; raises ActorLost where the actor died or the time ran out."""
    try:
        return ray.get(reference, timeout=timeout_s)
    except GetTimeoutError as error:
        raise ActorLost(f"{who} gave no answer in {timeout_s:g} s") from error
    except RayActorError as error:
        raise ActorLost(f"{who} died: {error}") from error


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
