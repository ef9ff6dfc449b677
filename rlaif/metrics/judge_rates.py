"""What the judges of a run took for one question: tokens and US dollars."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc

from rlaif.judges.tournament import most_comparisons
from rlaif.metrics.scale import Counts
from rlaif.records import Comparison, Judgement
from rlaif.tables import Table

# A judge whose replies all came from the cache, or that asks nobody, tells nothing of what a question takes.
_FREE = "asks nobody, or was answered from the cache"


@dataclass(frozen=True)
class JudgeRates:
    """One judge's questions and what one takes; `usd` is None where no price is known."""

    name: str
    pairwise: bool
    questions_a_case: float
    """At most: equal texts of a case are asked about once."""
    prompt_tokens: float
    completion_tokens: float
    usd: float | None
    made_of: str

    def questions(self, counts: Counts) -> float:
        """Questions of a run: about its candidates, and about held-out reports, which pairwise judges compare with the
        base's in both orders.
        """
        if not self.questions_a_case:
            return 0.0
        heldout = 2 * counts.rounds if self.pairwise else counts.rounds + 1
        return counts.align * counts.rounds * self.questions_a_case + counts.heldout * heldout

    def priced(self, prompt: float, completion: float) -> "JudgeRates":
        """The same at prices in US dollars a million tokens of prompts and of answers."""
        return replace(self, usd=(self.prompt_tokens * prompt + self.completion_tokens * completion) / 1e6)


def judge_rates(run: Path, counts: Counts) -> tuple[JudgeRates, ...]:
    """What each judge of a run's rounds took for a question, by name."""
    return tuple(_rates(run, name, counts) for name in _names(run))


def assumed_judge(name: str, prompt_tokens: float, completion_tokens: float, candidates_a_case: int) -> JudgeRates:
    """A judge that the run has not, with the tokens that its question took elsewhere; `llm_parser` is pairwise."""
    pairwise = name == "llm_parser"
    questions = 2 * most_comparisons(candidates_a_case) if pairwise else candidates_a_case
    return JudgeRates(name, pairwise, questions, prompt_tokens, completion_tokens, None, "tokens as given")


def _folders(run: Path, table: str) -> list[Path]:
    return sorted(path for path in run.glob(f"round-*/{table}") if path.is_dir())


def _names(run: Path) -> list[str]:
    found = {
        name
        for folder in _folders(run, "judgements")
        for name in Table(folder, Judgement).arrow(["judge"])["judge"].to_pylist()
    }
    return sorted(found)


def _rates(run: Path, name: str, counts: Counts) -> JudgeRates:
    rows = fresh = prompt = completion = compared = 0
    usd = 0.0
    for folder in _folders(run, "judgements"):
        table = Table(folder, Judgement).arrow(["judge", "cached", "prompt_tokens", "completion_tokens", "cost_usd"])
        table = table.filter(pc.equal(table["judge"], name))
        rows += len(table)
        asked = table.filter(pc.and_(pc.invert(table["cached"]), pc.greater(table["prompt_tokens"], 0)))
        fresh += len(asked)
        prompt += pc.sum(asked["prompt_tokens"], min_count=0).as_py()
        completion += pc.sum(asked["completion_tokens"], min_count=0).as_py()
        usd += pc.sum(asked["cost_usd"], min_count=0).as_py()
    for folder in _folders(run, "comparisons"):
        compared += Table(folder, Comparison).arrow(["judge"])["judge"].to_pylist().count(name)
    if not fresh:
        return JudgeRates(name, False, 0.0, 0.0, 0.0, 0.0, _FREE)
    # Of a pairwise judge's comparisons nobody knows which were kept replies: as large a part as of its judgements.
    questions = compared * fresh / rows if compared else float(fresh)
    a_case = 2 * most_comparisons(counts.candidates_a_case) if compared else counts.candidates_a_case
    made_of = f"{prompt:,} and {completion:,} tokens / {questions:,.0f} fresh questions"
    price = usd / questions if usd else None
    return JudgeRates(name, bool(compared), a_case, prompt / questions, completion / questions, price, made_of)
