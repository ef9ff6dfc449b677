"""What reinforcement learning trains on, from a run folder's tables."""

from array import array
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlaif.records import Candidate, Judgement
from rlaif.rollouts import Rollout, compared, count_rollouts, rollouts_of, with_shuffled_scores
from rlaif.tables import Table


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


def write(run: Path) -> None:
    """A round of two cases: two scored reports and one cut off; one scored, one failed, one never written and one that
    the judge has no room for.
    """
    rows = [
        ("a", 0, "stop", 0.75, None),
        ("a", 1, "stop", 0.5, None),
        ("a", 2, "length", None, "invalid_candidate"),
        ("b", 0, "stop", 0.25, None),
        ("b", 1, "stop", None, "timeout"),
        ("b", 2, "prompt_too_long", None, "invalid_candidate"),
        ("b", 3, "stop", None, "invalid_candidate"),
    ]
    folder = run / "round-003"
    written = [candidate(case, index, reason) for case, index, reason, _, _ in rows]
    Table(folder / "candidates", Candidate).append(written)
    verdicts = [
        judgement(f"{case}.3.{index}", case, "rules", score, failure) for case, index, _, score, failure in rows
    ]
    # Another judge's, of the same candidates.
    verdicts += [judgement(one.candidate_id, one.case_id, "gpt4", 4.0, None) for one in written]
    Table(folder / "judgements", Judgement).append(verdicts)


def candidate(case: str, index: int, reason: str) -> Candidate:
    tokens = () if reason == "prompt_too_long" else (index, 7)
    return Candidate(
        candidate_id=f"{case}.3.{index}",
        case_id=case,
        study_id=case,
        round=3,
        index=index,
        attempt=0,
        prompt="prompt",
        text="text",
        token_ids=tokens,
        logprobs=(-0.5,) * len(tokens),
        finish_reason=reason,
        usable=reason == "stop",
        policy_version=3,
        weights_checksum="",
        feature_key=f"f-{case}",
        seed=0,
        sampled_at=datetime.now(UTC),
    )


def judgement(candidate_id: str, case: str, judge: str, score: float | None, failure: Any) -> Judgement:
    low, high = (1.0, 5.0) if judge == "gpt4" else (0.0, 1.0)
    return Judgement(
        judgement_id=f"{candidate_id}.{judge}",
        candidate_id=candidate_id,
        case_id=case,
        round=3,
        judge=judge,
        judge_version="1",
        score=score,
        scale_low=low,
        scale_high=high,
        failure=failure,
        explanation="",
        counts=None,
        scores=None,
        raw=None,
        cached=False,
        latency_s=0.0,
        prompt_tokens=0,
        completion_tokens=0,
        cost_usd=0.0,
    )


def test_scored_reports_and_those_that_do_not_end_are_learnt_from(tmp_path: Path) -> None:
    write(tmp_path)
    rollouts = rollouts_of(tmp_path, 3, "rules", score_unusable=True)
    assert [(one.case_id, one.score, one.token_ids.tolist()) for one in rollouts] == [
        ("a", 0.75, [0, 7]),
        ("a", 0.5, [1, 7]),
        ("a", 0.0, [2, 7]),
        ("b", 0.25, [0, 7]),
    ]
    assert (rollouts[3].feature_key, rollouts[3].logprobs.tolist()) == ("f-b", [-0.5, -0.5])
    left = rollouts_of(tmp_path, 3, "rules", score_unusable=False)
    assert [one.score for one in left] == [0.75, 0.5, 0.25]
    assert {one.score for one in rollouts_of(tmp_path, 3, "gpt4", score_unusable=True)} == {4.0}


def test_the_controller_counts_what_the_learners_take(tmp_path: Path) -> None:
    write(tmp_path)
    for unusable in (True, False):
        rollouts = rollouts_of(tmp_path, 3, "rules", score_unusable=unusable)
        every, comparing = (
            count_rollouts(tmp_path, 3, "rules", score_unusable=unusable, comparing=one) for one in (False, True)
        )
        assert (every, comparing) == (len(rollouts), len(compared(rollouts)))
    assert (every, comparing) == (3, 2)
