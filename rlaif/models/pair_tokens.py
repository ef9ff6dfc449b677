"""A pair as one row of tokens: the prompt, the chosen answer, the rejected answer.

Shape letters: B pairs, L positions of a row, N tokens of all rows without padding, A answer tokens of all rows.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlaif.models.prompt import Prompt, PromptWriter, Tokens
from rlaif.models.settings import PolicyError


@dataclass(frozen=True)
class PairTokens(Tokens):
    """A batch of pairs, right-padded, each of them `prompt | chosen | rejected`.

    `answer` marks the tokens of both answers; `parts` are each row's lengths of prompt, chosen and rejected.
    """

    parts: tuple[tuple[int, int, int], ...]

    def to(self, device: torch.device) -> "PairTokens":
        """The same on a device."""
        return replace(self, ids=self.ids.to(device), mask=self.mask.to(device), answer=self.answer.to(device))

    def positions(self) -> Tensor:
        """The position ids `[N]` int64 of all tokens: both answers begin where the prompt ends."""
        return torch.cat(
            [
                torch.cat([torch.arange(prompt + chosen), torch.arange(prompt, prompt + rejected)])
                for prompt, chosen, rejected in self.parts
            ]
        ).to(self.ids.device)

    def before(self) -> Tensor:
        """Where among the N tokens the one before each answer token stands, `[A]` int64.

        Before the first token of both answers that is the prompt's last.
        """
        found: list[Tensor] = []
        start = 0
        for prompt, chosen, rejected in self.parts:
            last, second = start + prompt - 1, start + prompt + chosen
            found += [
                torch.arange(last, last + chosen),
                torch.tensor([last]),
                torch.arange(second, second + rejected - 1),
            ]
            start = second + rejected
        return torch.cat(found).to(self.ids.device)


def collate_pairs(
    writer: PromptWriter, prompts: list[Prompt], chosen: list[list[int]], rejected: list[list[int]]
) -> PairTokens:
    """One right-padded batch of pairs.

    Raises PolicyError where an answer is empty, or a prompt with its longer answer has no room in the model.
    """
    parts = tuple(
        (len(prompt.ids), len(better), len(worse))
        for prompt, better, worse in zip(prompts, chosen, rejected, strict=True)
    )
    if not all(all(lengths) for lengths in parts):
        raise PolicyError("a prompt, a chosen or a rejected answer has no tokens: leave that pair out")
    # The answers share their positions, so the longer of them is what needs room.
    writer.check_room(prompts, [max(both, key=len) for both in zip(chosen, rejected, strict=True)])
    rows = writer.padded(prompts, [[*better, *worse] for better, worse in zip(chosen, rejected, strict=True)])
    return PairTokens(rows.ids, rows.mask, rows.answer, rows.prompts, parts)


@dataclass(frozen=True)
class PairLogprobs:
    """The answers' summed log-probs `[B]` float32 and their lengths `[B]` int64, in tokens."""

    chosen: Tensor
    rejected: Tensor
    chosen_length: Tensor
    rejected_length: Tensor


def pair_logprobs(logprobs: Tensor, tokens: PairTokens) -> PairLogprobs:
    """The sums of both answers from the token log-probs `[B, L]` that the policy gives for pairs."""
    prompt, chosen, rejected = torch.tensor(tokens.parts, device=logprobs.device).unbind(dim=1)
    # All but the answers is zero.
    is_chosen = torch.arange(logprobs.shape[1], device=logprobs.device) < (prompt + chosen)[:, None]
    return PairLogprobs((logprobs * is_chosen).sum(dim=1), (logprobs * ~is_chosen).sum(dim=1), chosen, rejected)
