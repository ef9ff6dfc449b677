"""The judge actor: every candidate gets one judgement, a score or a named failure."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import ray

from actors.fleet import Fleet
from actors.judging import judged_case
from rlaif.records import Candidate, Case, Judgement
from rlaif.reports.region_reports import region_prompt

pytestmark = pytest.mark.slow
REFERENCE = "There is a 12 mm nodule in the right upper lobe. Moderate cardiomegaly."


def candidate(number: int, text: str, reason: str = "stop") -> Candidate:
    return Candidate(
        candidate_id=f"case-0.2.{number}",
        case_id="case-0",
        study_id="study-0",
        round=2,
        index=number,
        attempt=0,
        prompt="Describe the findings of this chest CT.",
        text=text,
        token_ids=(1, 2),
        logprobs=(-0.5, -0.5),
        finish_reason=reason,
        usable=reason == "stop" and bool(text),
        policy_version=2,
        weights_checksum="",
        feature_key="f0",
        seed=number,
        sampled_at=datetime.now(UTC),
    )


def judged(fleet: Fleet, *batch: tuple[Candidate, str | None]) -> list[Judgement]:
    cases = [judged_case(Case("case-0", "s", "p", one.prompt, target, None, None), [one]) for one, target in batch]
    actor = fleet.judge(fleet.config.leaf_judges["rules"]).actors[0]
    judgements: list[Judgement] = ray.get(actor.judge.remote(cases, 2), timeout=120).judgements
    return judgements


def test_scores_follow_the_findings(fleet: Fleet) -> None:
    texts = (REFERENCE, "There is a 12 mm nodule in the right upper lobe.", "Left pleural effusion.")
    judgements = judged(fleet, *((candidate(n, text), REFERENCE) for n, text in enumerate(texts)))
    assert [one.score for one in judgements] == pytest.approx([1.0, 0.5, 0.0])
    assert [one.candidate_id for one in judgements] == ["case-0.2.0", "case-0.2.1", "case-0.2.2"]
    assert [one.judgement_id for one in judgements] == [f"case-0.2.{n}.rules" for n in range(3)]
    assert {(one.round, one.judge, one.failure, one.cost_usd) for one in judgements} == {(2, "rules", None, 0.0)}
    assert judgements[1].counts is not None and judgements[1].counts["missing_finding"] == 1


def test_what_cannot_be_judged_has_a_failure_and_no_score(fleet: Fleet) -> None:
    judgements = judged(
        fleet,
        (candidate(0, ""), REFERENCE),
        (candidate(1, REFERENCE, reason="length"), REFERENCE),
        (candidate(2, "", reason="prompt_too_long"), REFERENCE),
        (candidate(3, REFERENCE), None),
        (candidate(4, REFERENCE), "  "),
    )
    assert [one.score for one in judgements] == [None] * 5
    assert [one.failure for one in judgements] == ["invalid_candidate"] * 3 + ["no_reference"] * 2


def test_regions_are_judged_by_their_sentences(fleet: Fleet) -> None:
    reference = "No pleural effusion. Moderate cardiomegaly."
    texts = (
        "The region 0 is pleura: No pleural effusion The region 1 is heart: Moderate cardiomegaly.",
        "The region 0 is heart: The region 1 is pleura:",
        reference,
    )
    asked = region_prompt(("pleura", "heart"))
    judgements = judged(
        fleet, *((replace(candidate(n, text), prompt=asked), reference) for n, text in enumerate(texts))
    )
    assert [one.score for one in judgements] == [1.0, None, 1.0]
    assert judgements[1].failure == "invalid_candidate"


def test_an_empty_batch_gives_nothing(fleet: Fleet) -> None:
    assert judged(fleet) == []
