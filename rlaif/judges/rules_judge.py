"""The offline rules as a judge like the others: it asks nobody."""

from rlaif.judges.asking import Ask
from rlaif.judges.case import CaseVerdicts, JudgedCase, judge_each
from rlaif.judges.rules import SCALE, VERSION, judge
from rlaif.judges.verdict import Verdict


class RulesJudge:
    """GREEN's error classes by rules."""

    version = VERSION
    scale = SCALE

    async def judge(self, case: JudgedCase, ask: Ask) -> CaseVerdicts:
        """Each distinct report of the case against its reference."""

        async def one(reference: str, candidate: str) -> Verdict:
            return judge(reference, candidate)

        return await judge_each(case, one)
