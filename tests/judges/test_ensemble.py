"""Several judges as one: the mean, the weights, abstention, and members that failed."""

import pytest
from pydantic import ValidationError

from rlaif.judges.ensemble import MemberVerdict, combine, combine_all, on_unit_scale
from rlaif.judges.settings import EnsembleJudgeSettings

RULES = {"kind": "rules", "name": "rules", "threshold": 0.5}
GRADER = {
    "kind": "gpt4",
    "name": "grader",
    "threshold": 3.0,
    "base_url": "http://127.0.0.1:1/v1",
    "model": "m",
    "prompt": "gpt4-1",
}


def ensemble(**changes: object) -> EnsembleJudgeSettings:
    values = {"kind": "ensemble", "name": "both", "threshold": 0.5, "members": [RULES, GRADER], **changes}
    return EnsembleJudgeSettings.model_validate(values)


def row(judge: str, score: float | None, low: float, high: float, failure: str | None = None) -> dict[str, object]:
    ids = {"candidate_id": "case.0.1", "case_id": "case", "round": 0, "judge": judge, "judge_version": f"{judge}-1"}
    return {**ids, "score": score, "scale_low": low, "scale_high": high, "failure": failure}


def said(rules: float | None, grader: float | None, failure: str = "timeout") -> dict[str, MemberVerdict]:
    scores = {"rules": rules, "grader": grader}
    return {name: MemberVerdict(score, None if score is not None else failure) for name, score in scores.items()}  # type: ignore[arg-type]


def test_scores_are_moved_to_one_scale_and_averaged_by_weight() -> None:
    assert on_unit_scale(row("grader", 4.0, 1.0, 5.0)) == MemberVerdict(0.75, None)
    assert combine(ensemble(), said(0.25, 0.75)).score == pytest.approx(0.5)
    assert combine(ensemble(weights={"grader": 3.0}), said(0.25, 0.75)).score == pytest.approx(0.625)
    assert combine(ensemble(weights={"grader": 0.0}), said(0.25, 0.75)).score == pytest.approx(0.25)


def test_it_abstains_where_members_are_too_far_apart() -> None:
    bound = ensemble(max_disagreement=0.3)
    assert combine(bound, said(0.4, 0.7)).score == pytest.approx(0.55)
    far = combine(bound, said(0.2, 0.7))
    assert (far.score, far.failure, far.scores) == (None, "abstained", {"rules": 0.2, "grader": 0.7})


def test_a_failed_member_fails_the_ensemble_unless_fewer_are_enough() -> None:
    failed = combine(ensemble(), said(0.4, None))
    assert (failed.score, failed.failure) == (None, "timeout")
    assert combine(ensemble(minimum_members=1), said(0.4, None)).score == pytest.approx(0.4)
    none = combine(ensemble(minimum_members=1), said(None, None, "no_reference"))
    assert (none.score, none.failure) == (None, "no_reference")
    # A member without weight watches: it neither scores, nor fails, nor disagrees.
    watched = ensemble(weights={"grader": 0.0}, max_disagreement=0.1)
    assert combine(watched, said(0.4, None)).score == combine(watched, said(0.4, 1.0)).score == pytest.approx(0.4)
    assert combine(ensemble(weights={"rules": 0.0}), said(0.4, None)).failure == "timeout"


def test_rows_of_members_become_rows_of_the_ensemble() -> None:
    rows = [row("rules", 0.5, 0.0, 1.0), row("grader", 5.0, 1.0, 5.0), row("other", 0.0, 0.0, 1.0)]
    (made,) = combine_all(ensemble(), rows)
    assert (made.judgement_id, made.judge, made.score) == ("case.0.1.both", "both", 0.75)
    assert made.scores == {"rules": 0.5, "grader": 1.0} and made.judge_version == "grader=grader-1 + rules=rules-1"


def test_a_member_s_failure_moves_no_candidate_beside_the_others_of_its_case() -> None:
    rows = []
    for number, (rules, grader) in enumerate(((0.3, 5.0), (0.3, None), (0.4, 2.0))):
        for one in (row("rules", rules, 0.0, 1.0), row("grader", grader, 1.0, 5.0, None if grader else "timeout")):
            rows.append({**one, "candidate_id": f"case.0.{number}"})
    scores = [one.score for one in combine_all(ensemble(minimum_members=1), rows)]
    assert scores == pytest.approx([0.3, 0.3, 0.4])
    failures = [(one.score, one.failure) for one in combine_all(ensemble(), rows)]
    assert failures == [(pytest.approx(0.65), None), (None, "timeout"), (pytest.approx(0.325), None)]
    other = [{**one, "case_id": "other", "candidate_id": f"other.{n // 2}"} for n, one in enumerate(rows[:2])]
    assert next(combine_all(ensemble(minimum_members=1), [*rows, *other])).score == pytest.approx(0.3)
    assert list(combine_all(ensemble(minimum_members=1), [*rows, *other]))[-1].score == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"members": [RULES]}, "at least 2 items"),
        ({"members": [RULES, RULES]}, "give each judge another name"),
        ({"name": "rules"}, "give each judge another name"),
        ({"weights": {"gpt4": 1.0}}, "weights names gpt4, which is no member; there are rules, grader"),
        ({"weights": {"rules": -1.0}}, "must not be negative"),
        ({"weights": {"rules": 0.0, "grader": 0.0}}, "one must be above 0"),
        ({"minimum_members": 3}, "more than the 2 members"),
    ],
)
def test_what_does_not_fit_together_is_said(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ensemble(**changes)
