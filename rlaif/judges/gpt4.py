"""3D-CT-GPT++'s judge: a chat model grades a report from 1 to 5 against the radiologist's (appendix A.5)."""

from rlaif.judges.asking import Ask, NotAnswered, Reply
from rlaif.judges.case import CaseVerdicts, JudgedCase, judge_each
from rlaif.judges.chat_judge import ChatJudge
from rlaif.judges.score_text import looks_like_refusal, read_score, read_score_json
from rlaif.judges.verdict import Verdict

SCALE = (1.0, 5.0)
_SCORE = {"type": "integer", "enum": [1, 2, 3, 4, 5]}
_EXPLANATION_CHARACTERS = 4000


class Gpt4Judge(ChatJudge):
    """A chat model with an explanation and a whole score."""

    scale = SCALE

    async def judge(self, case: JudgedCase, ask: Ask) -> CaseVerdicts:
        """Each distinct report of the case is graded by itself."""

        async def one(reference: str, candidate: str) -> Verdict:
            return await self._grade(reference, candidate, ask)

        return await judge_each(case, one, self.screening.failure)

    async def _grade(self, reference: str, candidate: str, ask: Ask) -> Verdict:
        question = self.question({"reference": reference, "candidate": candidate}, "score", _SCORE)
        try:
            reply = await ask(question)
        except NotAnswered as failed:
            return Verdict(None, failed.failure, explanation=failed.detail)
        verdict = _read(reply)
        if verdict.failure != "parse":
            return verdict
        try:
            second = await ask(self.prompt.again(question, reply.text, structured=reply.structured))
        except NotAnswered as failed:
            return Verdict(None, failed.failure, explanation=failed.detail, raw=reply.text, usage=reply.usage)
        raw, usage = f"{reply.text}\n\n[asked once more]\n{second.text}", reply.usage + second.usage
        if second.refused:
            return Verdict(None, "refusal", raw=raw, usage=usage, explanation=_explanation(second.text))
        # A reply that was cut off may have been about to say something else.
        score = None if second.finish_reason == "length" else read_score(second.text)
        if score is None:
            words = "No score could be read in the reply, nor in the one to a second question."
            return Verdict(None, "parse", raw=raw, usage=usage, explanation=words)
        return Verdict(float(score), raw=raw, usage=usage, explanation=_explanation(reply.text))


def _read(reply: Reply) -> Verdict:
    """What a reply says: a score, a refusal, or nothing that could be read."""
    raw, usage = reply.text, reply.usage
    if reply.refused:
        return Verdict(None, "refusal", raw=raw, usage=usage, explanation=_explanation(raw))
    if reply.structured:
        read = read_score_json(raw)
        if read is not None:
            return Verdict(float(read[0]), raw=raw, usage=usage, explanation=read[1][:_EXPLANATION_CHARACTERS])
    elif (score := read_score(raw)) is not None and reply.finish_reason != "length":
        return Verdict(float(score), raw=raw, usage=usage, explanation=_explanation(raw))
    if looks_like_refusal(raw):
        return Verdict(None, "refusal", raw=raw, usage=usage, explanation=_explanation(raw))
    return Verdict(None, "parse", raw=raw, usage=usage, explanation="No score could be read in the reply.")


def _explanation(text: str) -> str:
    """The words before the score, without their label, for a reader of the report page."""
    lines = [line for line in text[:_EXPLANATION_CHARACTERS].splitlines() if not line.lower().startswith("score")]
    return "\n".join(lines).strip().removeprefix("Explanation:").strip()
