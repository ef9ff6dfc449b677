"""A round's sampled reports as token ids, and their way through a policy.

Shape letters: R reports, T tokens of the longest of them; a report's tokens stand at the left.
"""

import time
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor

from actors.learner_faults import LearningFailed
from actors.preference_batches import Features, fitting
from actors.reference import SIGN_OF_LIFE_S
from rlaif.models.policy import Policy
from rlaif.objectives.batches import evaluation_batches
from rlaif.rollouts import Rollout


class RolloutBatches:
    """The reports that the language model has room for; `lengths` are their positions, `left_out` counts the others.

    `mask` `[R, T]` marks their tokens, `sampled_logprobs` `[R, T]` are those at sampling, `scores` `[R]` float64 the
    judge's, `groups` `[R]` number their cases; all lie in the host's memory. Raises PolicyError where the language
    model has room for none.
    """

    def __init__(self, rollouts: list[Rollout], policy: Policy, features: Features, device: torch.device) -> None:
        self._writer, self._features, self._device = policy.writer, features, device
        written: dict[str, Any] = {one.prompt: policy.prompt(one.prompt) for one in rollouts}
        prompts = [written[one.prompt] for one in rollouts]
        sizes = [len(prompt.ids) + len(one.token_ids) for prompt, one in zip(prompts, rollouts, strict=True)]
        room = fitting(sizes, policy.positions)
        self.left_out = len(rollouts) - len(room)
        self.lengths = [sizes[i] for i in room]
        self._prompts, self._rollouts = [prompts[i] for i in room], [rollouts[i] for i in room]
        tokens = torch.tensor([len(one.token_ids) for one in self._rollouts])
        self.mask = torch.arange(int(tokens.max())) < tokens[:, None]
        self.sampled_logprobs = torch.zeros(self.mask.shape)
        for row, one in enumerate(self._rollouts):
            # Raises where a token has none.
            self.sampled_logprobs[row, : len(one.token_ids)] = torch.tensor(one.logprobs)
        self.scores = torch.tensor([one.score for one in self._rollouts], dtype=torch.float64)
        numbers = {case: number for number, case in enumerate(dict.fromkeys(one.case_id for one in self._rollouts))}
        self.groups = torch.tensor([numbers[one.case_id] for one in self._rollouts])

    def logprobs(self, model: Any, items: tuple[int, ...]) -> Tensor:
        """The log-probs of some reports' tokens `[items, t]` under a policy, or an engine around one."""
        return self._through(model, items)[0]

    def values(self, model: Any, items: tuple[int, ...]) -> Tensor:
        """The values of some reports' tokens `[items, t]` under a policy with a value head."""
        return self._through(model, items)[1]

    def logprobs_and_values(self, model: Any, items: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        """Both of the above, values only where the policy has a value head."""
        found = self._through(model, items)
        return found[0], found[1] if len(found) > 1 else None

    def mean_length(self, items: tuple[int, ...]) -> float:
        """Tokens of a report, on average."""
        return sum(len(self._rollouts[i].token_ids) for i in items) / len(items)

    def every(
        self, of: Callable[[tuple[int, ...]], Tensor], *, rank: int, ranks: int, batch: int
    ) -> Generator[dict[str, float], None, Tensor]:
        """What `of` gives of every report's tokens without gradients, shared out over the ranks: `[R, T]` in the host's
        memory.

        Says now and then how many batches are done. Raises LearningFailed where one is no number.
        """
        table = torch.full(self.mask.shape, -torch.inf)
        batches = evaluation_batches(self.lengths, rank=rank, ranks=ranks, batch=batch)
        told = time.monotonic()
        for number, items in enumerate(batches, 1):
            with torch.no_grad():
                found = of(items)
            table[list(items), : found.shape[1]] = found.cpu()
            if time.monotonic() - told > SIGN_OF_LIFE_S:
                told = time.monotonic()
                yield {"scored": number, "of": len(batches)}
        # Collectives of GPUs take what lies on them.
        whole = table.to(self._device)
        torch.distributed.all_reduce(whole, torch.distributed.ReduceOp.MAX)
        table = whole.cpu()
        if not bool(torch.isfinite(table[self.mask]).all()):
            raise LearningFailed("what a frozen policy says of some reports is no number: its weights are damaged")
        return table.where(self.mask, 0.0)

    def _through(self, model: Any, items: tuple[int, ...]) -> tuple[Tensor, ...]:
        prompts = [self._prompts[i] for i in items]
        tokens = self._writer.collate(prompts, [list(self._rollouts[i].token_ids) for i in items]).to(self._device)
        found = model(tokens, self._features([self._rollouts[i].feature_key for i in items]))
        begins = torch.tensor([len(prompt.ids) for prompt in prompts], device=self._device)
        longest = int(tokens.answer.sum(dim=1).max())
        places = begins[:, None] + torch.arange(longest, device=self._device)
        places = places.clamp(max=tokens.ids.shape[1] - 1)
        mask = self.mask[list(items), :longest].to(self._device)
        both = found if isinstance(found, tuple) else (found,)
        return tuple(one.gather(1, places) * mask for one in both)
