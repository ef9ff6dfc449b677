"""Where the actors of a run stand: whole GPUs and parts of them on nodes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Actors:
    """Actors of one kind: how many, and the GPUs, the GPU's memory and the host's memory (bytes) of each."""

    name: str
    count: int
    gpus: float
    gpu_bytes: float = 0.0
    host_bytes: float = 0.0


@dataclass(frozen=True)
class Placement:
    """How many actors of each kind stand on each node, and a kind of which one found no room."""

    nodes: tuple[Counter[Actors], ...]
    homeless: Actors | None


def placed(actors: Iterable[Actors], gpus: Sequence[float]) -> Placement:
    """Actors on nodes of so many GPUs: those of most GPUs first, and each on the first node that has room, as none
    spans two; those without GPUs on the node whose memory is least taken.
    """
    nodes: list[Counter[Actors]] = [Counter() for _ in gpus]
    free = list(gpus)
    kinds = sorted(actors, key=lambda one: -one.gpus)
    for kind in kinds:
        for _ in range(kind.count):
            if kind.gpus:
                room = (place for place, left in enumerate(free) if left + _ROUNDING >= kind.gpus)
                place = next(room, None)
            else:
                place = min(range(len(nodes)), key=lambda one: host_bytes(nodes[one]))
            if place is None:
                return Placement(tuple(nodes), kind)
            free[place] -= kind.gpus
            nodes[place][kind] += 1
    return Placement(tuple(nodes), None)


def host_bytes(node: Counter[Actors]) -> float:
    """The host's memory that the actors of a node take."""
    return sum(kind.host_bytes * many for kind, many in node.items())


def heaviest_on_one_gpu(actors: Iterable[Actors]) -> Counter[Actors]:
    """The actors that may meet on one GPU and take the most of its memory together.

    Ray looks at fractions alone, so whatever adds up to one GPU may meet there.
    """
    sharing = [kind for kind in actors if 0 < kind.gpus < 1]
    return _heaviest(sharing, 1.0)


def gpu_bytes(together: Counter[Actors]) -> float:
    """The memory that actors on one GPU take of it."""
    return sum(kind.gpu_bytes * many for kind, many in together.items())


def _heaviest(sharing: Sequence[Actors], left: float) -> Counter[Actors]:
    if not sharing:
        return Counter()
    first, *others = sharing
    most = min(first.count, int((left + _ROUNDING) / first.gpus))
    choices = [Counter({first: many}) + _heaviest(others, left - many * first.gpus) for many in range(most + 1)]
    return max(choices, key=gpu_bytes)
