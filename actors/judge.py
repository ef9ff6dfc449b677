"""Judge actors: they score candidates, and turn whatever goes wrong with one into its named failure."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import ray

from rlaif.judges import rules
from rlaif.records import Candidate, Judgement
from rlaif.reports.region_reports import judged_text


@dataclass(frozen=True)
class ToJudge:
    """A candidate with the reference text of its case."""

    candidate: Candidate
    reference: str | None


class Judge:
    """The offline rules as an actor."""

    name = "rules"

    def judge(self, batch: Sequence[ToJudge]) -> list[Judgement]:
        """One judgement for each candidate, in order."""
        return [self._judge(one) for one in batch]

    def _judge(self, one: ToJudge) -> Judgement:
        started = time.monotonic()
        candidate = one.candidate
        verdict = rules.judge(one.reference, judged_text(candidate.prompt, candidate.text) if candidate.usable else "")
        return Judgement(
            judgement_id=f"{candidate.candidate_id}.{self.name}",
            candidate_id=candidate.candidate_id,
            case_id=candidate.case_id,
            round=candidate.round,
            judge=self.name,
            judge_version=rules.VERSION,
            score=verdict.score,
            scale_low=rules.SCALE[0],
            scale_high=rules.SCALE[1],
            failure=verdict.failure,
            explanation=verdict.explanation,
            counts=verdict.counts,
            raw=None,
            cached=False,
            latency_s=time.monotonic() - started,
            prompt_tokens=0,
            completion_tokens=0,
            cost_usd=0.0,
        )


JudgeActor = ray.remote(Judge)
