"""Advantages: how much better each token of a report was than expected.

Shape letters: R reports, T tokens of the longest. `mask` marks each report's tokens, which stand at the left.
"""

import torch
from torch import Tensor

# Standard deviations below it are rounding: no judge's scale is so fine.
EVEN = 1e-4


def token_rewards(scores: Tensor, divergence: Tensor, mask: Tensor, *, kl_weight: float) -> Tensor:
    """A report's score `[R]` on its last token, and a price for leaving the reference on every one: `[R, T]`.

    `divergence` is each token's log-prob under the sampled policy minus that under the reference (Ziegler et al. 2019,
    equation 2).
    """
    rewards = -kl_weight * divergence * mask
    last = mask.sum(dim=1) - 1
    return rewards.scatter_add(1, last[:, None], scores[:, None])


def generalised_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lambda_: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16): advantages and returns, both `[R, T]`.

    A value `[R, T]` is what the value head expects before the token of its place; after the last token it is 0.
    """
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    value_after = torch.zeros_like(following)
    for place in range(rewards.shape[1] - 1, -1, -1):
        here = mask[:, place]
        delta = rewards[:, place] + gamma * value_after - values[:, place]
        following = torch.where(here, delta + gamma * lambda_ * following, 0.0)
        value_after = torch.where(here, values[:, place], 0.0)
        advantages[:, place] = following
    return advantages, (advantages + values) * mask


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Values shifted to mean 0 and scaled to standard deviation 1 over what the mask marks, 0 elsewhere.

    Where they differ by less than EVEN, all become 0: what is left of them is rounding, which teaches nothing.
    """
    marked = values[mask]
    spread = marked.std(correction=0)
    if float(spread) <= EVEN:
        return torch.zeros_like(values)
    return (values - marked.mean()) / spread * mask


def group_advantages(scores: Tensor, groups: Tensor) -> Tensor:
    """GRPO's advantages `[R]`: scores less their case's mean, in its standard deviations (Shao et al. 2024, 4.1.2).

    `groups` `[R]` int64 numbers the cases from 0. A case whose scores are all equal teaches nothing: 0.
    """
    count, mean = _means(scores, groups)
    centred = scores - mean[groups]
    spread = (torch.zeros_like(mean).index_add(0, groups, centred**2) / (count - 1).clamp(min=1)).sqrt()
    return torch.where(spread[groups] > EVEN, centred / spread[groups].clamp(min=EVEN), 0.0)


def leave_one_out_advantages(scores: Tensor, groups: Tensor) -> Tensor:
    """RLOO's advantages `[R]`: scores less the mean of the case's other reports (Ahmadian et al. 2024, equation 8).

    `groups` `[R]` int64 numbers the cases from 0. A report without others has nothing to be compared with: 0.
    """
    count, mean = _means(scores, groups)
    others = count[groups] - 1
    return torch.where(others > 0, (scores - mean[groups]) * count[groups] / others.clamp(min=1), 0.0)


def _means(scores: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Of each group, how many scores it has and their mean."""
    empty = torch.zeros(int(groups.max()) + 1, dtype=scores.dtype, device=scores.device)
    count = empty.index_add(0, groups, torch.ones_like(scores))
    return count, empty.index_add(0, groups, scores) / count.clamp(min=1)
