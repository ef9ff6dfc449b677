"""What a judge is given and what it gives back: all candidates of one case at once."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

from rlaif.judges.asking import Ask
from rlaif.judges.verdict import Usage, Verdict
from rlaif.records import Failure


@dataclass(frozen=True)
class JudgedReport:
    """A candidate as judges see it; the text of one that is cut off or empty is None."""

    candidate_id: str
    text: str | None


@dataclass(frozen=True)
class JudgedCase:
    """The candidates of a case with its reference text, where it has one."""

    case_id: str
    reference: str | None
    reports: tuple[JudgedReport, ...]


@dataclass(frozen=True)
class Compared:
    """What a pairwise judge said of two candidates in one order: `ab` shows candidate_a first."""

    candidate_a: str
    candidate_b: str
    order: Literal["ab", "ba"]
    verdict: Literal["a", "b", "tie"] | None
    failure: Failure | None = None
    raw: str | None = None


@dataclass(frozen=True)
class CaseVerdicts:
    """One verdict for each report of a case, in their order, and the comparisons that a pairwise judge made."""

    verdicts: tuple[Verdict, ...]
    comparisons: tuple[Compared, ...] = ()


class CaseJudge(Protocol):
    """A judge: its version, which changes with whatever may change a verdict, its scale, and its way to judge."""

    @property
    def version(self) -> str: ...

    @property
    def scale(self) -> tuple[float, float]: ...

    async def judge(self, case: JudgedCase, ask: Ask) -> CaseVerdicts:
        """Judges all reports of a case. What goes wrong with one is its named failure; nothing is raised for it."""
        ...


# The failure of a report that a judge must not be given; None for one that it may.
Screen: TypeAlias = Callable[[JudgedCase, JudgedReport], Verdict | None]


def unjudgeable(case: JudgedCase, report: JudgedReport, screen: Screen | None = None) -> Verdict | None:
    """The failure of a report that no judge can judge, or that does not pass the screen; None for others."""
    if case.reference is None or not case.reference.strip():
        return Verdict(None, "no_reference", explanation="The case has no reference report to compare with.")
    if report.text is None or not report.text.strip():
        return Verdict(None, "invalid_candidate", explanation="The candidate report is empty or cut off.")
    return screen(case, report) if screen is not None else None


async def judge_each(
    case: JudgedCase,
    judge_one: Callable[[str, str], Awaitable[Verdict]],
    screen: Screen | None = None,
) -> CaseVerdicts:
    """Judges each distinct text of a case against its reference, all at once; equal texts share one verdict."""
    failed, texts = told_apart(case, screen)
    given = await asyncio.gather(*(judge_one(case.reference or "", text) for text in texts))
    return CaseVerdicts(spread(case, failed, dict(zip(texts, given, strict=True))))


def told_apart(case: JudgedCase, screen: Screen | None = None) -> tuple[dict[str, Verdict], dict[str, str]]:
    """The failures of reports that cannot be judged, by candidate, and the distinct texts, each with its first one."""
    failed: dict[str, Verdict] = {}
    texts: dict[str, str] = {}
    for report in case.reports:
        verdict = unjudgeable(case, report, screen)
        if verdict is not None:
            failed[report.candidate_id] = verdict
        else:
            texts.setdefault(report.text or "", report.candidate_id)
    return failed, texts


def spread(case: JudgedCase, failed: Mapping[str, Verdict], of_text: Mapping[str, Verdict]) -> tuple[Verdict, ...]:
    """One verdict for each report of a case: its failure, or that of its text, which took nothing but once."""
    verdicts: list[Verdict] = []
    told: set[str] = set()
    for report in case.reports:
        text = report.text or ""
        if report.candidate_id in failed:
            verdicts.append(failed[report.candidate_id])
        else:
            verdicts.append(shared(of_text[text]) if text in told else of_text[text])
            told.add(text)
    return tuple(verdicts)


def shared(verdict: Verdict) -> Verdict:
    """The verdict of an equal text, for which nothing was asked again."""
    return replace(verdict, usage=Usage(cached=True))
