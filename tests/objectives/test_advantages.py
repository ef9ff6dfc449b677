"""Advantages against numbers computed by hand."""

import pytest
import torch

from rlaif.objectives.advantages import (
    generalised_advantages,
    group_advantages,
    leave_one_out_advantages,
    token_rewards,
    whitened,
)

# Two reports, of three tokens and of two.
MASK = torch.tensor([[True, True, True], [True, True, False]])


def test_a_score_stands_on_the_last_token_and_divergence_costs_on_every_one() -> None:
    divergence = torch.tensor([[0.5, -0.25, 1.0], [2.0, 0.0, 99.0]])
    rewards = token_rewards(torch.tensor([1.0, -1.0]), divergence, MASK, kl_weight=0.2)
    expected = torch.tensor([[-0.1, 0.05, 0.8], [-0.4, -1.0, 0.0]])
    torch.testing.assert_close(rewards, expected)


def test_generalised_advantages_by_hand() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    values = torch.tensor([[0.5, 0.4, 0.2], [1.0, 3.0, 7.0]])
    advantages, returns = generalised_advantages(rewards, values, MASK, gamma=0.9, lambda_=0.5)
    # From the end: 1 - 0.2; 0.9 x 0.2 - 0.4 + 0.45 x 0.8; 0.9 x 0.4 - 0.5 + 0.45 x 0.14. Then 2 - 3; 2.7 - 1 - 0.45.
    expected = torch.tensor([[-0.077, 0.14, 0.8], [1.25, -1.0, 0.0]])
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(returns, torch.tensor([[0.423, 0.54, 1.0], [2.25, 2.0, 0.0]]))


def test_with_lambda_and_gamma_of_one_an_advantage_is_the_reward_to_come_less_the_value() -> None:
    rewards, values = torch.tensor([[0.1, 0.2, 1.0]]), torch.tensor([[0.3, 0.6, 0.9]])
    advantages, returns = generalised_advantages(rewards, values, MASK[:1], gamma=1.0, lambda_=1.0)
    torch.testing.assert_close(returns, torch.tensor([[1.3, 1.2, 1.0]]))
    torch.testing.assert_close(advantages, torch.tensor([[1.0, 0.6, 0.1]]))


def test_whitening_counts_what_the_mask_marks_alone() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 100.0]])
    white = whitened(values, MASK)
    # Mean 3, and the standard deviation of 1 to 5 is the root of 2.
    expected = torch.tensor([[-2.0, -1.0, 0.0], [1.0, 2.0, 0.0]]) / 2**0.5
    torch.testing.assert_close(white, expected)


def test_equal_values_are_whitened_to_nothing() -> None:
    assert torch.equal(whitened(torch.full((2, 3), 7.0), MASK), torch.zeros(2, 3))


def test_group_advantages_by_hand() -> None:
    scores = torch.tensor([1.0, 0.5, 2.0, 3.0, 0.5])
    groups = torch.tensor([0, 1, 0, 0, 1])
    # The first case: mean 2, standard deviation 1. The second's scores are equal.
    torch.testing.assert_close(group_advantages(scores, groups), torch.tensor([-1.0, 0.0, 0.0, 1.0, 0.0]))


@pytest.mark.parametrize("score", [0.3, 0.6, 0.9, 1 / 3, -0.7182818])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_scores_teach_nothing_whatever_their_mean_is_rounded_to(score: float, dtype: torch.dtype) -> None:
    for number in (3, 6, 8):
        scores = torch.full((number,), score, dtype=dtype)
        assert not group_advantages(scores, torch.zeros(number, dtype=torch.long)).any()
        assert not whitened(scores, torch.ones(number, dtype=torch.bool)).any()


def test_leave_one_out_advantages_by_hand() -> None:
    scores = torch.tensor([1.0, 0.25, 2.0, 6.0, 0.75, 9.0])
    groups = torch.tensor([0, 1, 0, 0, 1, 2])
    # 1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 6 - (1 + 2) / 2; the last has no other.
    expected = torch.tensor([-3.0, -0.5, -1.5, 4.5, 0.5, 0.0])
    torch.testing.assert_close(leave_one_out_advantages(scores, groups), expected)


@pytest.mark.parametrize("of", [group_advantages, leave_one_out_advantages])
def test_a_case_with_one_report_teaches_nothing(of: object) -> None:
    assert callable(of)
    assert of(torch.tensor([0.7]), torch.tensor([0])).tolist() == [0.0]
