"""Proximal policy optimisation: its losses on single tokens, and the price of leaving the reference.

Shape letters: R reports, T tokens of the longest.
"""

from torch import Tensor


def clipped_policy_loss(logprobs: Tensor, sampled_logprobs: Tensor, advantages: Tensor, *, clip: float) -> Tensor:
    """The clipped surrogate objective of each token, to be minimised, `[R, T]` (Schulman et al. 2017, equation 7).

    `sampled_logprobs` are those of the policy that wrote the reports, without gradients.
    """
    ratio = (logprobs - sampled_logprobs).exp()
    return -(ratio * advantages).minimum(ratio.clamp(1 - clip, 1 + clip) * advantages)


def clipped_value_loss(values: Tensor, sampled_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Half the squared error of each token's value `[R, T]`; moving further than `clip` from the value at sampling time
    earns nothing (the value loss of the reference implementation of PPO).
    """
    near = sampled_values + (values - sampled_values).clamp(-clip, clip)
    return 0.5 * ((values - returns) ** 2).maximum((near - returns) ** 2)


def divergence_estimate(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """An estimate of the KL divergence of a policy from a reference at each token, never negative: `[R, T]`.

    Unbiased on tokens that the policy of `logprobs` sampled (Schulman 2020, "Approximating KL divergence", k3).
    """
    difference = reference_logprobs - logprobs
    return difference.exp() - difference - 1
