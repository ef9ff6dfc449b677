"""Supervised fine-tuning: the next-token loss on the answers."""

from torch import Tensor


def sft_loss(logprobs: Tensor, answer: Tensor) -> Tensor:
    """The mean negative log-prob of each answer `[B]` from token log-probs and the answer mask `[B, L]`."""
    return -logprobs.sum(dim=1) / answer.sum(dim=1).clamp(min=1)
