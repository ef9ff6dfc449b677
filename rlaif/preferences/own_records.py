"""The records of round 0 that a team's own candidates and pairs make."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rlaif.preferences.own_cells import GIVEN
from rlaif.preferences.own_rows import LeftOut, OwnCandidate, OwnPair, OwnRows
from rlaif.records import Candidate, Case, Judgement, Pair

# Of candidates that no version of the policy wrote.
NO_VERSION = -1


def given_candidates(rows: OwnRows, cases: Mapping[str, Case], now: datetime) -> list[tuple[Candidate, OwnCandidate]]:
    """The candidates of each case together, in the file's order; rows of studies that make no case are left out."""
    groups: dict[str, list[OwnCandidate]] = defaultdict(list)
    for one in rows.candidates:
        groups[one.study_id].append(one)
    _leave_out_unprepared(rows, groups, cases)
    return [
        (_candidate(cases[case_id], index, one.text, now), one)
        for case_id, own in sorted(groups.items())
        if case_id in cases
        for index, one in enumerate(own)
    ]


def given_judgements(
    candidates: Sequence[tuple[Candidate, OwnCandidate]], rows: OwnRows, version: str
) -> list[Judgement]:
    """One judgement for each candidate and judge of the file; a judge that has no score for one abstained."""
    return [
        _judgement(candidate, own, judge, scale, version)
        for candidate, own in candidates
        for judge, scale in rows.scales.items()
    ]


def given_pairs(rows: OwnRows, cases: Mapping[str, Case], now: datetime) -> tuple[list[Candidate], list[Pair]]:
    """The pairs with the candidates that they are of; a chosen report that is the study's own is the reference.

    A pair with a prompt of its own makes its case; rows of studies that make no case are left out.
    """
    groups: dict[str, list[OwnPair]] = defaultdict(list)
    known = dict(cases)
    for one in rows.pairs:
        case_id = one.study_id
        if case_id is None:
            case = _own_case(one.prompt or "")
            case_id = case.case_id
            known[case_id] = case
        groups[case_id].append(one)
    _leave_out_unprepared(rows, groups, known)
    candidates: list[Candidate] = []
    pairs: list[Pair] = []
    for case_id, own in sorted(groups.items()):
        if case_id in known:
            of_case: dict[str, Candidate] = {}
            pairs += [_pair(known[case_id], pair, of_case, now) for pair in own]
            candidates += of_case.values()
    return candidates, pairs


def _leave_out_unprepared(rows: OwnRows, groups: Mapping[str, Sequence[Any]], cases: Mapping[str, Case]) -> None:
    """Notes the rows of studies that make no case: their CT is in quarantine, or they have no findings to read."""
    for study_id, own in groups.items():
        if study_id not in cases:
            detail = f"{study_id} has no features, or no findings to read: see the run's table `quarantine`"
            rows.left_out += [LeftOut(one.row, study_id, "no_case", detail) for one in own]


def _candidate(case: Case, index: int, text: str, now: datetime) -> Candidate:
    """A given report as a candidate: it has neither tokens nor weights, and the learner tokenises its text."""
    return Candidate(
        candidate_id=f"{case.case_id}.0.{index}",
        case_id=case.case_id,
        study_id=case.study_id,
        round=0,
        index=index,
        attempt=0,
        prompt=case.prompt,
        text=text,
        token_ids=(),
        logprobs=(),
        finish_reason=GIVEN,
        usable=True,
        policy_version=NO_VERSION,
        weights_checksum="",
        feature_key=case.feature_key,
        seed=0,
        sampled_at=now,
    )


def _judgement(
    candidate: Candidate, own: OwnCandidate, judge: str, scale: tuple[float, float], version: str
) -> Judgement:
    told = own.scores.get(judge)
    return Judgement(
        judgement_id=f"{candidate.candidate_id}.{judge}",
        candidate_id=candidate.candidate_id,
        case_id=candidate.case_id,
        round=0,
        judge=judge,
        judge_version=version,
        score=told.score if told is not None else None,
        scale_low=scale[0],
        scale_high=scale[1],
        failure=None if told is not None else "abstained",
        explanation=told.explanation if told is not None else "The file has no score by this judge.",
        counts=None,
        scores=None,
        raw=None,
        cached=False,
        latency_s=0.0,
        prompt_tokens=0,
        completion_tokens=0,
        cost_usd=0.0,
    )


def _own_case(prompt: str) -> Case:
    name = f"prompt-{hashlib.sha256(prompt.encode()).hexdigest()[:24]}"
    return Case(name, name, name, prompt, target=None, answer=None, feature_key=None)


def _pair(case: Case, own: OwnPair, candidates: dict[str, Candidate], now: datetime) -> Pair:
    """One pair; its reports are added to the case's candidates, by text. As in every round the reference is none."""
    reference = case.answer is not None and own.chosen.split() == case.answer.split()
    for text in (own.rejected,) if reference else (own.chosen, own.rejected):
        candidates.setdefault(text, _candidate(case, len(candidates), text, now))
    chosen_id = None if reference else candidates[own.chosen].candidate_id
    rejected_id = candidates[own.rejected].candidate_id
    chosen_score = None if reference else own.chosen_score
    scored = chosen_score is not None and own.rejected_score is not None
    identity = "\x1f".join(("0", case.case_id, GIVEN, own.judge, str(chosen_id), rejected_id))
    return Pair(
        pair_id=hashlib.sha256(identity.encode()).hexdigest()[:24],
        case_id=case.case_id,
        round=0,
        strategy=GIVEN,
        prompt=case.prompt,
        chosen=own.chosen,
        rejected=own.rejected,
        chosen_candidate_id=chosen_id,
        rejected_candidate_id=rejected_id,
        chosen_score=chosen_score,
        rejected_score=own.rejected_score,
        margin=chosen_score - own.rejected_score if scored else None,  # type: ignore[operator]  # both are there
        judge=own.judge,
    )
