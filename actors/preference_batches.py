"""A round's pairs as token ids, and their way through a policy, which sees each prompt once for both answers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlaif.models.pair_tokens import PairLogprobs, collate_pairs, pair_logprobs
from rlaif.models.policy import Policy
from rlaif.models.prompt import PromptWriter
from rlaif.models.settings import PolicyError
from rlaif.models.visual_input import VisualInput
from rlaif.preferences.examples import Answer, PreferenceExample

Features = Callable[[list[str | None]], list[VisualInput] | None]


class PreferenceBatches:
    """The pairs that the language model has room for; `lengths` are their positions, `left_out` counts the others.

    Raises PolicyError where it has room for none.
    """

    def __init__(
        self, examples: list[PreferenceExample], policy: Policy, features: Features, device: torch.device
    ) -> None:
        self._writer: PromptWriter = policy.writer
        self._features, self._device = features, device
        whole = [policy.prompt(one.prompt) for one in examples]
        chosen = [_ids(policy, one.chosen) for one in examples]
        rejected = [_ids(policy, one.rejected) for one in examples]
        sizes = [len(p.ids) + max(len(c), len(r)) for p, c, r in zip(whole, chosen, rejected, strict=True)]
        # Both answers see the whole prompt, so a pair must lie within the attention's reach.
        reach = getattr(policy.language_model.config, "sliding_window", None) or policy.positions
        room = fitting(sizes, min(policy.positions, reach))
        self.left_out = len(examples) - len(room)
        self.lengths = [sizes[i] for i in room]
        self._prompts = [whole[i] for i in room]
        self._chosen, self._rejected = [chosen[i] for i in room], [rejected[i] for i in room]
        self._keys = [examples[i].feature_key for i in room]

    def logprobs(self, model: Any, items: tuple[int, ...]) -> PairLogprobs:
        """The answers' summed log-probs `[items]` under a policy, or an engine around one."""
        tokens = collate_pairs(
            self._writer,
            [self._prompts[i] for i in items],
            [self._chosen[i] for i in items],
            [self._rejected[i] for i in items],
        ).to(self._device)
        return pair_logprobs(model(tokens, self._features([self._keys[i] for i in items])), tokens)

    def sums(self, model: Any, items: tuple[int, ...]) -> Tensor:
        """The same `[items, 2]`, chosen before rejected."""
        found = self.logprobs(model, items)
        return torch.stack([found.chosen, found.rejected], dim=1)

    def mean_chosen_length(self, items: tuple[int, ...]) -> float:
        """Tokens of a chosen answer, on average."""
        return sum(len(self._chosen[i]) for i in items) / len(items)


def fitting(lengths: list[int], positions: int) -> list[int]:
    """The items that fit the positions that the language model attends to; raises PolicyError where none does."""
    room = [item for item, length in enumerate(lengths) if length <= positions]
    if not room:
        raise PolicyError(
            f"every prompt with its report is longer than the {positions} positions that the language model attends to"
            if lengths
            else "there is nothing to learn from"
        )
    return room


def _ids(policy: Policy, answer: Answer) -> list[int]:
    return list(answer.token_ids) or policy.answer(answer.text)
