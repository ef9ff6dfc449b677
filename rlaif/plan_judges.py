"""How many questions each judge of a run would be asked, and what that may cost at most."""

from dataclasses import dataclass

from rlaif.config import Config
from rlaif.judges.prompts import load_prompt
from rlaif.judges.settings import (
    ChatJudgeSection,
    LeafJudge,
    LlmParserJudgeSettings,
    RulesJudgeSettings,
    leaves_of,
)
from rlaif.judges.tournament import most_comparisons
from rlaif.plan_counts import Counts

CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True)
class JudgePlan:
    """What a judge would do: judgements, questions at most, and US dollars at most (None: no prices are set)."""

    name: str
    judgements: int
    questions: int
    cost_usd: float | None
    cap_usd: float | None


def judge_plans(config: Config, counts: Counts) -> tuple[JudgePlan, ...]:
    """Each judge's plan; equal texts and kept replies ask for less."""
    return tuple(_plan(leaf, config, counts) for leaf in config.leaf_judges.values())


def _plan(leaf: LeafJudge, config: Config, counts: Counts) -> JudgePlan:
    trains = leaf.name in {one.name for one in leaves_of(config.judge)}
    candidates = counts.candidates * counts.rounds if trains else 0
    # The rules' score of held-out reports is a metric, and no question to a judge.
    alone = isinstance(leaf, RulesJudgeSettings)
    heldout = 0 if alone else counts.cases["heldout"] * (counts.rounds + 1)
    questions = 0 if alone else candidates + heldout
    if isinstance(leaf, LlmParserJudgeSettings):
        of_a_case = 2 * most_comparisons(config.sampler.n)
        cases = counts.cases["align"] * counts.rounds if trains else 0
        questions = cases * of_a_case + counts.cases["heldout"] * counts.rounds * 2
    cost = cap = None
    if isinstance(leaf, ChatJudgeSection):
        cap = leaf.max_cost_usd
        if leaf.usd_per_million_prompt_tokens is not None or leaf.usd_per_million_completion_tokens is not None:
            prompt = load_prompt(leaf.prompt)
            words = len(prompt.system + prompt.question + prompt.text_form) // CHARACTERS_A_TOKEN
            reports = 3 if isinstance(leaf, LlmParserJudgeSettings) else 2
            each = leaf.cost_usd(words + reports * config.sampler.max_tokens, leaf.max_tokens)
            cost = questions * each if cap is None else min(cap, questions * each)
    return JudgePlan(leaf.name, candidates + heldout, questions, cost, cap)
