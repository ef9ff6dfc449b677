"""Where a pair's reference log-probs come from: a frozen copy, the policy without its adapters, or a pass beforehand.

Whatever the source, they are computed once for each pair and kept.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from actors.learner_faults import LearningFailed
from rlaif.objectives.batches import evaluation_batches

# How often a pass over all pairs says that it goes on.
SIGN_OF_LIFE_S = 30.0


class ReferenceLogprobs:
    """The reference's summed log-probs of both answers of every pair.

    `sums(model, items)` gives those of some pairs `[items, 2]`; `model` is asked while not all are known on every rank,
    `within` is the context in which it is the reference, and `release` lets it go.
    """

    def __init__(
        self,
        pairs: int,
        model: Any,
        sums: Callable[[Any, tuple[int, ...]], Tensor],
        device: torch.device,
        *,
        within: Callable[[], AbstractContextManager[None]] = nullcontext,
        release: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self._model, self._sums, self._within, self._release = model, sums, within, release
        self._table = torch.full((pairs, 2), -torch.inf, device=device)
        self._whole = False

    def of(self, items: tuple[int, ...]) -> Tensor:
        """Of some pairs `[items, 2]` float32, without gradients."""
        if not self._whole:
            # Also pairs that are known already: with ZeRO 3 all ranks must ask the model equally often.
            with torch.no_grad(), self._within():
                self._table[list(items)] = self._sums(self._model, items)
        return self._table[list(items)]

    def score_all(self, lengths: list[int], *, rank: int, ranks: int, batch: int) -> Iterator[dict[str, float]]:
        """Computes them all, shared out over the ranks; says now and then how many batches are done, as others wait."""
        batches = evaluation_batches(lengths, rank=rank, ranks=ranks, batch=batch)
        told = time.monotonic()
        for number, items in enumerate(batches, 1):
            self.of(items)
            if time.monotonic() - told > SIGN_OF_LIFE_S:
                told = time.monotonic()
                yield {"scored": number, "of": len(batches)}
        self.complete()

    def complete(self) -> None:
        """Gives every rank what each of them knows, which is all pairs together, and lets the model go.

        Raises LearningFailed where one is no number.
        """
        if self._whole:
            return
        # Nobody's log-prob is minus infinity but that of a pair which a rank does not know.
        torch.distributed.all_reduce(self._table, torch.distributed.ReduceOp.MAX)
        if not bool(torch.isfinite(self._table).all()):
            raise LearningFailed("the reference's log-probs of some pairs are no numbers: its weights are damaged")
        self._release(self._model)
        self._whole, self._model = True, None
