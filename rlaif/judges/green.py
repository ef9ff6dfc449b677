"""GREEN's judge: a language model trained to list a report's errors (Ostmeier et al. 2024), read strictly.

The prompt and the official scoring are those of the package `green-score`. Every judged candidate has two scores: the
strict one decides, the official one stands beside it under `official`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rlaif.judges.asking import Ask, Message, NotAnswered, Question, Reply
from rlaif.judges.case import CaseVerdicts, JudgedCase, judge_each
from rlaif.judges.green_reply import MalformedReply, read_reply
from rlaif.judges.verdict import Usage, Verdict
from rlaif.records import Failure

VERSION = "green-1"
OFFICIAL = "official"
SCALE = (0.0, 1.0)
# A malformed reply is asked for once more.
ATTEMPTS = 2
_MOST_EXPLANATION = 2000


@dataclass(frozen=True)
class OfficialGreen:
    """What is taken from the package: its prompt of (reference, candidate, most words of each), and its score."""

    prompt: Callable[[str, str, int], str]
    score: Callable[[str], float]


def official_green() -> OfficialGreen:
    """The package's own functions, without a model; the import takes twelve seconds.

    Raises ModuleNotFoundError where the package is not installed.
    """
    try:
        from green_score.green import GREEN
        from green_score.utils import clean_responses, make_prompt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the judge green needs the package green-score and what it imports ({error}): "
            "pip install --no-deps --ignore-requires-python green-score==0.0.12"
        ) from error
    green = GREEN(model_name=None, cpu=True, compute_summary_stats=False)
    return OfficialGreen(make_prompt, lambda text: float(green.compute_green(clean_responses(text))))


class GreenJudge:
    """Asks a GREEN model about each distinct candidate of a case.

    `model` names the model's weights. `words` bounds what the model is shown of either report.
    """

    scale = SCALE

    def __init__(self, model: str, official: OfficialGreen, *, max_tokens: int, words: int) -> None:
        self.official, self.max_tokens, self.words = official, max_tokens, words
        self.version = f"{VERSION}:{model}:{words}-words:{max_tokens}-tokens"

    async def judge(self, case: JudgedCase, ask: Ask) -> CaseVerdicts:
        """Judges all reports of a case at once; a reply that is malformed twice is the failure `parse`."""
        return await judge_each(case, partial(self._judge_one, ask))

    async def _judge_one(self, ask: Ask, reference: str, candidate: str) -> Verdict:
        prompt = self.official.prompt(reference, candidate, self.words)
        replies: list[Reply] = []
        reasons: list[str] = []
        for attempt in range(ATTEMPTS):
            question = Question((Message("user", prompt),), self.max_tokens, attempt=attempt)
            try:
                reply = await ask(question)
            except NotAnswered as error:
                return _failed(error.failure, error.detail, replies)
            replies.append(reply)
            if reply.refused:
                return _failed("refusal", "The model declined to judge.", replies)
            try:
                return self._verdict(reply, replies, self._remark(reference, candidate))
            except MalformedReply as error:
                reasons.append(f"Reply {attempt + 1} is malformed: {error}.")
        return _failed("parse", " ".join(reasons), replies)

    def _verdict(self, reply: Reply, replies: list[Reply], remark: str) -> Verdict:
        read = read_reply(reply.text)
        return Verdict(
            read.score,
            counts=read.counts,
            scores={OFFICIAL: self.official.score(reply.text)},
            explanation=read.explanation[:_MOST_EXPLANATION] + remark,
            raw=_raw(replies),
            usage=_usage(replies),
        )

    def _remark(self, reference: str, candidate: str) -> str:
        """What a reader must know of reports that the prompt cuts."""
        lengths = {"reference": len(reference.split()), "candidate": len(candidate.split())}
        cut = [f"{name}'s {length}" for name, length in lengths.items() if length > self.words]
        return f" [Judged by the first {self.words} words of the {' and the '.join(cut)}.]" if cut else ""


def _failed(failure: Failure, reason: str, replies: list[Reply]) -> Verdict:
    # No official score either: the package gives a malformed reply 0, as it does a bad report.
    return Verdict(
        None, failure, explanation=reason[:_MOST_EXPLANATION], raw=_raw(replies) or None, usage=_usage(replies)
    )


def _raw(replies: list[Reply]) -> str:
    return "\n\n=====\n\n".join(reply.text for reply in replies)


def _usage(replies: list[Reply]) -> Usage:
    return sum((reply.usage for reply in replies[1:]), replies[0].usage) if replies else Usage()
