"""PPO's losses against numbers computed by hand, and their gradients where the clip holds."""

from math import exp, log

import pytest
import torch

from rlaif.objectives.kl_weight import adapted_kl_weight
from rlaif.objectives.ppo import clipped_policy_loss, clipped_value_loss, divergence_estimate


def test_the_clipped_policy_loss_by_hand() -> None:
    sampled = torch.zeros(1, 4)
    logprobs = torch.tensor([[log(1.1), log(1.5), log(1.5), log(0.5)]])
    advantages = torch.tensor([[2.0, 2.0, -2.0, 2.0]])
    # Inside; too likely already; too likely, and it should not be; too unlikely, and it should not be.
    expected = torch.tensor([[-2.2, -2.4, 3.0, -1.0]])
    torch.testing.assert_close(clipped_policy_loss(logprobs, sampled, advantages, clip=0.2), expected)


def test_a_token_beyond_the_clip_has_no_gradient_where_it_would_go_further() -> None:
    logprobs = torch.tensor([[log(1.5), log(1.5), log(0.5), log(0.5)]], requires_grad=True)
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    clipped_policy_loss(logprobs, torch.zeros(1, 4), advantages, clip=0.2).sum().backward()  # type: ignore[no-untyped-call]
    assert logprobs.grad is not None
    torch.testing.assert_close(logprobs.grad, torch.tensor([[0.0, 1.5, -0.5, 0.0]]))


def test_on_the_policy_itself_the_gradient_is_that_of_the_policy_gradient() -> None:
    logprobs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    advantages = torch.tensor([[0.7, -0.3]])
    clipped_policy_loss(logprobs, logprobs.detach(), advantages, clip=0.2).sum().backward()  # type: ignore[no-untyped-call]
    assert logprobs.grad is not None
    torch.testing.assert_close(logprobs.grad, -advantages)


def test_the_clipped_value_loss_by_hand() -> None:
    values, sampled = torch.tensor([[0.1, 1.0, 1.0]]), torch.zeros(1, 3)
    returns = torch.tensor([[1.0, 1.0, 0.0]])
    # Within the clip; too far towards the return: the error at 0.2 stands; away from it: its own error stands.
    expected = torch.tensor([[0.405, 0.32, 0.5]])
    torch.testing.assert_close(clipped_value_loss(values, sampled, returns, clip=0.2), expected)


def test_the_divergence_estimate_by_hand() -> None:
    logprobs, reference = torch.tensor([[-1.0, -2.0, -0.5]]), torch.tensor([[-1.0, -1.0, -1.5]])
    expected = torch.tensor([[0.0, exp(1) - 2, exp(-1)]])
    torch.testing.assert_close(divergence_estimate(logprobs, reference), expected)


def test_its_mean_is_the_divergence() -> None:
    ours, theirs = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.2, 0.3, 0.5]).log()
    exact = (ours.exp() * (ours - theirs)).sum()
    torch.testing.assert_close((ours.exp() * divergence_estimate(ours, theirs)).sum(), exact)


@pytest.mark.parametrize(
    ("divergence", "expected"),
    # 10 % too much over half a horizon; far too much counts as 20 %; far too little likewise; on target.
    [(6.6, 0.105), (60.0, 0.11), (0.1, 0.09), (6.0, 0.1)],
)
def test_the_kl_weight_steers_to_its_target(divergence: float, expected: float) -> None:
    assert adapted_kl_weight(0.1, divergence, target=6.0, reports=500, horizon=1000) == pytest.approx(expected)


def test_the_kl_weight_follows_by_a_fifth_at_most_however_many_reports_there_are() -> None:
    low, high = (adapted_kl_weight(0.1, one, target=6.0, reports=300_000, horizon=10_000) for one in (0.0, 99.0))
    assert (low, high) == pytest.approx((0.08, 0.12))
