"""RGRO's judge: a chat model says which of two reports is better (section 4.2).

Every two reports are shown in both orders: what wins in one order only is a tie, so that a liking for the first place
decides nothing.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlaif.judges.asking import Ask, NotAnswered, Reply
from rlaif.judges.case import CaseVerdicts, Compared, JudgedCase, spread, told_apart
from rlaif.judges.chat_judge import ChatJudge
from rlaif.judges.json_reply import read_object
from rlaif.judges.score_text import looks_like_refusal
from rlaif.judges.tournament import Result, tournament
from rlaif.judges.verdict import Usage, Verdict, total
from rlaif.records import Failure

SCALE = (0.0, 1.0)
Better = Literal["A", "B", "tie"]
# A report beside the very same one: nobody has to be asked.
EVEN = Verdict(0.5, explanation="The same text as the one that it is compared with: even by definition.")
_BETTER = {"type": "string", "enum": ["A", "B", "tie"]}
# Which of candidates a and b a reply means, by the order in which they were shown as A and B.
_IN_ORDER: dict[str, dict[str | None, Literal["a", "b", "tie"]]] = {
    "ab": {"A": "a", "B": "b", "tie": "tie"},
    "ba": {"A": "b", "B": "a", "tie": "tie"},
}
_LABEL = re.compile(r"[\s>*#_-]*better[\s*_]*:", re.IGNORECASE | re.ASCII)
_LINE = re.compile(
    r"[\s>*#_-]*better[\s*_]*:[\s*_]*[<\"'\[(]?(?:report )?(a|b|tie)[>\"'\])]?[\s*_.]*", re.IGNORECASE | re.ASCII
)
_MOST_CHARACTERS = 20_000


def read_better(text: str) -> Better | None:
    """The verdict of a plain-text reply: its one line `Better: A`, `B` or `tie`; None for everything else."""
    if len(text) > _MOST_CHARACTERS:
        return None
    lines = [line for line in text.splitlines() if line.strip()]
    labelled = [line for line in lines if _LABEL.match(line)]
    found = [match[1] for line in labelled if (match := _LINE.fullmatch(line))]
    if len(labelled) != len(found):
        return None
    if not found and len(lines) == 1:
        bare = lines[0].strip(" *_.<>\"'")
        found = [bare] if bare.lower() in ("a", "b", "tie") else []
    return _named(found[0]) if len(found) == 1 else None


def read_better_json(text: str) -> Better | None:
    """The verdict of a structured reply; None unless it is an object whose `better` is "A", "B" or "tie"."""
    reply = read_object(text, ("explanation", "better"), _MOST_CHARACTERS)
    better = None if reply is None else reply["better"]
    return better if better in ("A", "B", "tie") else None


def _named(word: str) -> Better:
    return "tie" if word.lower() == "tie" else "A" if word.lower() == "a" else "B"


@dataclass(frozen=True)
class _Answer:
    better: Better | None
    failure: Failure | None
    raw: str | None
    usage: Usage


class LlmParserJudge(ChatJudge):
    """A chat model that compares reports two by two."""

    scale = SCALE

    async def judge(self, case: JudgedCase, ask: Ask) -> CaseVerdicts:
        """A tournament of the case's distinct reports; a report's score is its share of the comparisons."""
        failed, first = told_apart(case, self.screening.failure)
        texts = {candidate: text for text, candidate in first.items()}
        comparisons: list[Compared] = []
        usages: dict[str, list[Usage]] = {candidate: [] for candidate in texts}

        async def compare_all(pairs: list[tuple[str, str]]) -> list[Result]:
            made = await asyncio.gather(*(self._both_orders(case, pair, texts, ask) for pair in pairs))
            for (a, _), (rows, usage) in zip(pairs, made, strict=True):
                comparisons.extend(rows)
                # What a comparison took is written to one of the two, so that sums over candidates are right.
                usages[a].append(usage)
            return [settled(rows) for rows, _ in made]

        scores = await tournament(list(texts), compare_all) if len(texts) > 1 else dict.fromkeys(texts)
        of_text = {
            text: _verdict(candidate, scores[candidate], comparisons, total(usages[candidate]))
            for text, candidate in first.items()
        }
        return CaseVerdicts(spread(case, failed, of_text), tuple(comparisons))

    async def _both_orders(
        self, case: JudgedCase, pair: tuple[str, str], texts: dict[str, str], ask: Ask
    ) -> tuple[tuple[Compared, Compared], Usage]:
        a, b = pair
        forward, backward = await asyncio.gather(
            self._compare(case.reference or "", texts[a], texts[b], ask),
            self._compare(case.reference or "", texts[b], texts[a], ask),
        )
        rows = (
            Compared(a, b, "ab", _IN_ORDER["ab"].get(forward.better), forward.failure, forward.raw),
            Compared(a, b, "ba", _IN_ORDER["ba"].get(backward.better), backward.failure, backward.raw),
        )
        return rows, forward.usage + backward.usage

    async def _compare(self, reference: str, shown_first: str, shown_second: str, ask: Ask) -> _Answer:
        texts = {"reference": reference, "first": shown_first, "second": shown_second}
        question = self.question(texts, "better", _BETTER)
        try:
            reply = await ask(question)
        except NotAnswered as failed:
            return _Answer(None, failed.failure, failed.detail, Usage())
        answer = _read(reply)
        if answer.failure != "parse":
            return answer
        try:
            second = await ask(self.prompt.again(question, reply.text, structured=reply.structured))
        except NotAnswered as failed:
            return _Answer(None, failed.failure, reply.text, reply.usage)
        raw, usage = f"{reply.text}\n\n[asked once more]\n{second.text}", reply.usage + second.usage
        unread = second.refused or second.finish_reason == "length"
        better = None if unread else read_better(second.text)
        return _Answer(better, None if better else "refusal" if second.refused else "parse", raw, usage)


def _read(reply: Reply) -> _Answer:
    """What a reply says; a failure where no verdict can be read."""
    raw, usage = reply.text, reply.usage
    if reply.refused:
        return _Answer(None, "refusal", raw, usage)
    better = read_better_json(raw) if reply.structured else read_better(raw)
    # A reply that was cut off may have been about to say something else.
    if better is not None and (reply.structured or reply.finish_reason != "length"):
        return _Answer(better, None, raw, usage)
    return _Answer(None, "refusal" if looks_like_refusal(raw) else "parse", raw, usage)


def settled(rows: Sequence[Compared]) -> Result:
    """What the two orders say together of candidate_a: 1, 0, or 0.5 where they disagree; None where one failed."""
    verdicts = {row.verdict for row in rows}
    if None in verdicts:
        return None
    return 1.0 if verdicts == {"a"} else 0.0 if verdicts == {"b"} else 0.5


def _verdict(candidate: str, score: float | None, comparisons: Sequence[Compared], usage: Usage) -> Verdict:
    own = [row for row in comparisons if candidate in (row.candidate_a, row.candidate_b)]
    opponents = [own[place : place + 2] for place in range(0, len(own), 2)]
    valid = sum(settled(rows) is not None for rows in opponents)
    failures = Counter(row.failure for row in own if row.failure is not None)
    # A score of the lesser part of its comparisons would be the failures' work.
    if score is not None and 2 * valid >= len(opponents):
        words = f"{score:.2f} of its valid comparisons won, ties counted half ({valid} of {len(opponents)} opponents)."
        return Verdict(score, explanation=words, usage=usage)
    if failures:
        failure = failures.most_common(1)[0][0]
        words = f"{valid} of its {len(opponents)} comparisons are valid."
        return Verdict(None, failure, explanation=words, usage=usage)
    return Verdict(None, "abstained", explanation="The case has no other text to compare it with.", usage=usage)
