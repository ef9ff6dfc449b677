"""Who trains on what, when: the same plan on every rank, from one seed."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MicroBatch:
    """Items of one forward pass on one rank; a weight of zero marks an item that only keeps ranks in step."""

    items: tuple[int, ...]
    weights: tuple[float, ...]


def plan_steps(
    lengths: list[int], *, batch: int, epochs: int, ranks: int, micro_batch: int, seed: int
) -> list[list[list[MicroBatch]]]:
    """The steps of a training run: `plan[step][rank]` is the list of micro-batches of that rank.

    Every item stands in every epoch exactly once with a weight above zero. The weights of a step are such
    that the mean over ranks of the weighted sums is the mean over the step's items, also in the last, smaller
    batch. All ranks have equally many micro-batches, as collectives need; items of like length share one.
    """
    generator = np.random.default_rng(seed)
    plan = []
    for _ in range(epochs):
        order = generator.permutation(len(lengths))
        for start in range(0, len(order), batch):
            step = sorted((int(item) for item in order[start : start + batch]), key=lambda item: lengths[item])
            shares = [step[rank::ranks] for rank in range(ranks)]
            weight = ranks / len(step)
            passes = -(-len(shares[0]) // micro_batch)
            plan.append(
                [_micro_batches(share or step[:1], bool(share) * weight, passes, micro_batch) for share in shares]
            )
    return plan


def _micro_batches(share: list[int], weight: float, passes: int, micro_batch: int) -> list[MicroBatch]:
    batches = []
    for number in range(passes):
        items = share[number * micro_batch : (number + 1) * micro_batch]
        batches.append(MicroBatch(tuple(items or share[:1]), (weight,) * len(items) if items else (0.0,)))
    return batches


def evaluation_batches(lengths: list[int], *, rank: int, ranks: int, batch: int) -> list[tuple[int, ...]]:
    """A rank's share of all items in batches of like length; every rank has equally many, as collectives need."""
    order = sorted(range(len(lengths)), key=lambda item: lengths[item])
    batches = [tuple(order[start : start + batch]) for start in range(0, len(order), batch)]
    share = batches[rank::ranks]
    return share + batches[:1] * (len(batches[::ranks]) - len(share))
