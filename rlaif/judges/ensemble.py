"""Several judges as one: a weighted mean of their scores, and abstention where they disagree."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlaif.judges.settings import EnsembleJudgeSettings
from rlaif.judges.verdict import Verdict
from rlaif.records import Failure, Judgement

SCALE = (0.0, 1.0)


@dataclass(frozen=True)
class MemberVerdict:
    """What one member said: its score on a scale from 0 to 1, or its failure."""

    score: float | None
    failure: Failure | None


# The columns of a judgement that the ensemble looks at.
COLUMNS = ("candidate_id", "case_id", "round", "judge", "judge_version", "score", "scale_low", "scale_high", "failure")


def on_unit_scale(judgement: Mapping[str, Any]) -> MemberVerdict:
    """A judgement's row with its score moved from the judge's own scale to 0 to 1."""
    if judgement["score"] is None:
        return MemberVerdict(None, judgement["failure"])
    low, high = judgement["scale_low"], judgement["scale_high"]
    return MemberVerdict((judgement["score"] - low) / (high - low), None)


def combine(
    settings: EnsembleJudgeSettings, members: Mapping[str, MemberVerdict], silent: Collection[str] = ()
) -> Verdict:
    """The ensemble's verdict on one candidate from those of all its members, by name; `silent` ones do not count.

    With fewer scores than `minimum_members` it takes over the failure of a member, the first in the order of the
    settings; where scores lie further apart than `max_disagreement`, it abstains. A member of weight 0 only watches.
    """
    weights = voters(settings)
    scores = {name: score for name in weights if name not in silent and (score := members[name].score) is not None}
    wanted = settings.minimum_members or len(weights)
    left_out = [f"{name} left out (it failed on another candidate)" for name in weights if name in silent]
    words = ", ".join([*(f"{name} {_said(members[name])}" for name in weights if name not in silent), *left_out])
    weight = sum(weights[name] for name in scores)
    if len(scores) < wanted:
        failures: list[Failure] = [failure for name in weights if (failure := members[name].failure) is not None]
        failure = failures[0] if failures else "abstained"
        return Verdict(None, failure, scores=scores, explanation=f"{len(scores)} of {wanted} members: {words}.")
    distance = max(scores.values()) - min(scores.values())
    # A hair of tolerance: 0.7 - 0.4 is more than 0.3 in binary.
    if settings.max_disagreement is not None and distance > settings.max_disagreement + 1e-9:
        return Verdict(None, "abstained", scores=scores, explanation=f"Members are {distance:.2f} apart: {words}.")
    mean = sum(weights[name] * score for name, score in scores.items()) / weight
    return Verdict(min(1.0, max(0.0, mean)), scores=scores, explanation=f"{words}.")


def voters(settings: EnsembleJudgeSettings) -> dict[str, float]:
    """The members that decide, with their weights."""
    weights = {one.name: settings.weights.get(one.name, 1.0) for one in settings.members}
    return {name: weight for name, weight in weights.items() if weight > 0}


def silent_of(settings: EnsembleJudgeSettings, case: Iterable[Mapping[str, MemberVerdict]]) -> set[str]:
    """The members that a case goes without, given its candidates' verdicts.

    Where fewer than all members are enough, one that failed on a candidate which another could score is left out of the
    whole case: else its failure would move one candidate and not the others, and so make a preference.
    """
    if settings.minimum_members is None:
        return set()
    names = voters(settings)
    scored = [one for one in case if any(one[name].score is not None for name in names)]
    return {name for name in names if any(one[name].score is None for one in scored)}


def combine_all(settings: EnsembleJudgeSettings, rows: Iterable[Mapping[str, Any]]) -> Iterator[Judgement]:
    """The ensemble's judgement on every candidate that all members have judged, from their rows (`COLUMNS`)."""
    by_candidate: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    names = {member.name for member in settings.members}
    for row in rows:
        if row["judge"] in names:
            by_candidate[row["candidate_id"]][row["judge"]] = row
    # A pairwise member has rows for what it compares a held-out report with, too.
    whole = {candidate: members for candidate, members in by_candidate.items() if members.keys() == names}
    said = {
        candidate: {name: on_unit_scale(one) for name, one in members.items()} for candidate, members in whole.items()
    }
    cases: dict[str, list[dict[str, MemberVerdict]]] = defaultdict(list)
    for candidate_id, members in whole.items():
        cases[next(iter(members.values()))["case_id"]].append(said[candidate_id])
    silent = {case: silent_of(settings, verdicts) for case, verdicts in cases.items()}
    for candidate_id, members in whole.items():
        first = next(iter(members.values()))
        verdict = combine(settings, said[candidate_id], silent[first["case_id"]])
        yield Judgement(
            judgement_id=f"{candidate_id}.{settings.name}",
            candidate_id=candidate_id,
            case_id=first["case_id"],
            round=first["round"],
            judge=settings.name,
            judge_version=" + ".join(f"{name}={members[name]['judge_version']}" for name in sorted(members)),
            score=verdict.score,
            scale_low=SCALE[0],
            scale_high=SCALE[1],
            failure=verdict.failure,
            explanation=verdict.explanation,
            counts=None,
            scores=verdict.scores,
            raw=None,
            cached=False,
            latency_s=0.0,
            prompt_tokens=0,
            completion_tokens=0,
            cost_usd=0.0,
        )


def _said(verdict: MemberVerdict) -> str:
    return f"{verdict.score:.2f}" if verdict.score is not None else f"failed ({verdict.failure})"
