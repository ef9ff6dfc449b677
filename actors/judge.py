"""Judge actors: each holds one judge, and whatever goes wrong with a candidate is its named failure."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import ray

from rlaif.judges.asking import Ask, NotAnswered, Question, Reply
from rlaif.judges.case import CaseJudge, CaseVerdicts, JudgedCase
from rlaif.judges.chat_judge import ChatJudge
from rlaif.judges.gpt4 import Gpt4Judge
from rlaif.judges.llm_parser import LlmParserJudge
from rlaif.judges.rules_judge import RulesJudge
from rlaif.judges.settings import GreenJudgeSettings, LeafJudge, LlmParserJudgeSettings, RulesJudgeSettings
from rlaif.judges.stored_reply import check_run
from rlaif.records import Comparison, Judgement


@dataclass(frozen=True)
class Judged:
    """What a judge made of some cases."""

    judgements: list[Judgement]
    comparisons: list[Comparison]
    process: str
    """Tells the process that made it from one that was started in its place."""


class Judge:
    """One judge with its way to ask: nobody, a chat service, or an engine of its own.

    `payer` names who pays for its questions; replies are kept in `replies`, so that none is paid for twice.
    """

    def __init__(self, settings: LeafJudge, payer: str, replies: Path, seed: int) -> None:
        self.settings = settings
        self._payer, self._replies, self._seed = payer, replies, seed
        self._starting = asyncio.Lock()
        self._started: tuple[CaseJudge, Ask] | None = None
        self._process = uuid4().hex

    async def ready(self) -> None:
        """Answers once the judge's process stands."""

    async def judge(self, cases: Sequence[JudgedCase], round_: int) -> Judged:
        """One judgement for each candidate of the cases, in order."""
        judge, ask = await self._start()
        self._warn(judge, cases)
        given = await asyncio.gather(*(judge.judge(case, ask) for case in cases))
        judged = Judged([], [], self._process)
        for case, verdicts in zip(cases, given, strict=True):
            judged.judgements.extend(judgements_of(case, verdicts, self.settings.name, judge, round_))
            judged.comparisons.extend(comparisons_of(case, verdicts, self.settings.name, round_))
        return judged

    def _warn(self, judge: CaseJudge, cases: Sequence[JudgedCase]) -> None:
        """Says how many reports with what identifiers are about to be sent, where they are sent nevertheless."""
        if isinstance(judge, ChatJudge) and judge.screening.identifiers == "warn":
            found = [what for case in cases for report in case.reports if (what := judge.screening.found(case, report))]
            if found:
                print(
                    f"judge {self.settings.name}: {len(found)} reports that are sent seem to hold {found[0]}, …",
                    flush=True,
                )

    async def _start(self) -> tuple[CaseJudge, Ask]:
        """The judge, started with the first call: what is wrong with its settings is then that call's error."""
        async with self._starting:
            if self._started is None:
                self._started = await self._made()
        return self._started

    async def _made(self) -> tuple[CaseJudge, Ask]:
        settings = self.settings
        if isinstance(settings, RulesJudgeSettings):
            return RulesJudge(), nobody
        # The others' libraries are imported where they are needed alone.
        from actors.kept_ask import KeptAsk
        from actors.reply_cache import ReplyCache

        # Before anything is asked that could not be kept.
        check_run(self._payer)
        replies = ReplyCache(self._replies)
        if isinstance(settings, GreenJudgeSettings):
            from actors.engine_ask import EngineAsk
            from rlaif.judges.green import GreenJudge, official_green

            engine = await asyncio.to_thread(EngineAsk, settings, self._seed)
            official = await asyncio.to_thread(official_green)
            judge = GreenJudge(engine.identity, official, max_tokens=settings.max_tokens, words=settings.words)
            return judge, KeptAsk(engine, replies, self._payer, engine.identity)
        from actors.chat_ask import ChatAsk

        spent_usd = await replies.spent(self._payer)
        chat = LlmParserJudge(settings) if isinstance(settings, LlmParserJudgeSettings) else Gpt4Judge(settings)
        service = ChatAsk(settings, self._payer, spent_usd=spent_usd, lost=partial(replies.pay, self._payer))
        return chat, KeptAsk(service, replies, self._payer, service.identity)


async def nobody(question: Question) -> Reply:
    """The `Ask` of a judge that asks nobody."""
    raise NotAnswered("transport", "this judge has nobody to ask")


def judgements_of(case: JudgedCase, given: CaseVerdicts, name: str, judge: CaseJudge, round_: int) -> list[Judgement]:
    """The verdicts of a case as rows."""
    low, high = judge.scale
    return [
        Judgement(
            judgement_id=f"{report.candidate_id}.{name}",
            candidate_id=report.candidate_id,
            case_id=case.case_id,
            round=round_,
            judge=name,
            judge_version=judge.version,
            score=verdict.score,
            scale_low=low,
            scale_high=high,
            failure=verdict.failure,
            explanation=verdict.explanation,
            counts=verdict.counts,
            scores=verdict.scores,
            raw=verdict.raw,
            cached=verdict.usage.cached,
            latency_s=verdict.usage.latency_s,
            prompt_tokens=verdict.usage.prompt_tokens,
            completion_tokens=verdict.usage.completion_tokens,
            cost_usd=verdict.usage.cost_usd,
        )
        for report, verdict in zip(case.reports, given.verdicts, strict=True)
    ]


def comparisons_of(case: JudgedCase, given: CaseVerdicts, name: str, round_: int) -> list[Comparison]:
    """The comparisons of a case as rows."""
    return [
        Comparison(
            comparison_id=f"{one.candidate_a}.{one.candidate_b}.{one.order}.{name}",
            case_id=case.case_id,
            round=round_,
            judge=name,
            candidate_a=one.candidate_a,
            candidate_b=one.candidate_b,
            order=one.order,
            verdict=one.verdict,
            failure=one.failure,
            raw=one.raw,
        )
        for one in given.comparisons
    ]


JudgeActor = ray.remote(Judge)
