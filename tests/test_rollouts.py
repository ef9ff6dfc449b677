"""What reinforcement learning trains on, from a run folder's tables."""

from array import array

from rlaif.rollouts import Rollout, compared, with_shuffled_scores


def rollout(case: str, score: float) -> Rollout:
    return Rollout(case, "prompt", None, array("i", [1, 2]), array("f", [-0.5, -0.25]), score)


def test_reports_without_another_of_their_case_are_left_out() -> None:
    rollouts = [rollout("a", 0.1), rollout("b", 0.2), rollout("a", 0.3)]
    assert [one.score for one in compared(rollouts)] == [0.1, 0.3]


def test_shuffled_scores_are_the_same_ones_dealt_out_over_all_cases() -> None:
    rollouts = [rollout(f"case-{number // 4}", number / 40) for number in range(40)]
    shuffled = with_shuffled_scores(rollouts, 7)
    assert [one.case_id for one in shuffled] == [one.case_id for one in rollouts]
    assert sorted(one.score for one in shuffled) == [one.score for one in rollouts]
    # Few stay where they were, and few within their case.
    assert sum(a.score == b.score for a, b in zip(rollouts, shuffled, strict=True)) < 6
    within = sum(int(one.score * 10) == number // 4 for number, one in enumerate(shuffled))
    assert within < 12
    assert with_shuffled_scores(rollouts, 7) == shuffled != with_shuffled_scores(rollouts, 8)
