"""The pairwise judge: both orders, ties, failures, and the scores that come of them."""

import asyncio
import re

import pytest

from rlaif.judges.asking import NotAnswered, Question, Reply
from rlaif.judges.case import CaseVerdicts, Compared, JudgedCase, JudgedReport
from rlaif.judges.llm_parser import LlmParserJudge, read_better, read_better_json, settled
from rlaif.judges.settings import LlmParserJudgeSettings
from rlaif.judges.verdict import Usage

SETTINGS = LlmParserJudgeSettings(
    kind="llm_parser",
    name="llm_parser",
    base_url="http://127.0.0.1:1/v1",
    model="m",
    prompt="llm_parser-1",
    threshold=0.5,
)


def shown(question: Question) -> tuple[str, str]:
    """The texts that stand as A and B in a question."""
    texts = re.findall(r"\[text ([0-9a-f]{12})\]\n(.*?)\n\[end of text \1\]", question.messages[1].content, re.DOTALL)
    assert len(texts) == 3
    return texts[1][1], texts[2][1]


class Longer:
    """A judge's model that prefers the longer report; `first` makes it prefer whatever is shown first."""

    def __init__(self, *, first: bool = False, failing: str | None = None) -> None:
        self.first, self.failing, self.asked = first, failing, 0

    async def __call__(self, question: Question) -> Reply:
        self.asked += 1
        a, b = shown(question)
        if self.failing in (a, b):
            raise NotAnswered("timeout", "late")
        better = "A" if self.first or len(a) > len(b) else "tie" if len(a) == len(b) else "B"
        return Reply(f"Better: {better}", usage=Usage(10, 2, 0.01, 0.5))


def judged(ask: Longer, *texts: str | None, reference: str | None = "A nodule.") -> CaseVerdicts:
    reports = tuple(JudgedReport(f"c{number}", text) for number, text in enumerate(texts))
    return asyncio.run(LlmParserJudge(SETTINGS).judge(JudgedCase("case", reference, reports), ask))


def test_six_candidates_take_eighteen_questions_and_their_order_is_the_models() -> None:
    ask = Longer()
    given = judged(ask, *("x" * length for length in (3, 1, 2, 6, 5, 4)))
    scores = [one.score for one in given.verdicts]
    assert ask.asked == 18 and len(given.comparisons) == 18
    assert scores[3] == 1.0 and scores[1] == 0.0
    assert sum(one.usage.cost_usd for one in given.verdicts) == pytest.approx(0.18)
    assert {(row.order, row.verdict) for row in given.comparisons if row.candidate_a == "c2"} == {
        ("ab", "b"),
        ("ba", "b"),
    }


def test_a_liking_for_the_first_place_decides_nothing() -> None:
    given = judged(Longer(first=True), "x", "xx", "xxx", "xxxx")
    assert {one.score for one in given.verdicts} == {0.5}
    assert {(row.order, row.verdict) for row in given.comparisons} == {("ab", "a"), ("ba", "b")}


def test_a_comparison_with_a_failed_order_does_not_count() -> None:
    given = judged(Longer(failing="xx"), "x", "xx", "xxx", "xxxx")
    assert given.verdicts[1].score is None and given.verdicts[1].failure == "timeout"
    assert given.verdicts[3].score == 1.0
    assert {row.verdict for row in given.comparisons if "c1" in (row.candidate_a, row.candidate_b)} == {None}


def test_a_score_of_the_lesser_part_of_its_comparisons_is_none() -> None:
    # Six candidates play three rounds; two opponents that cannot be asked about leave one of three.
    class Failing(Longer):
        async def __call__(self, question: Question) -> Reply:
            if "x" in shown(question) and not {"x" * 2, "x"} >= set(shown(question)):
                raise NotAnswered("timeout", "late")
            return await super().__call__(question)

    given = judged(Failing(), *("x" * length for length in (1, 2, 3, 4, 5, 6)))
    first = given.verdicts[0]
    assert (first.score, first.failure, first.explanation) == (None, "timeout", "1 of its 3 comparisons are valid.")
    assert given.verdicts[5].score == 1.0 and "of 3 opponents" in given.verdicts[5].explanation


def test_equal_texts_share_a_verdict_and_meet_nobody_twice() -> None:
    ask = Longer()
    given = judged(ask, "x", "xx", "x")
    assert ask.asked == 2 and [one.score for one in given.verdicts] == [0.0, 1.0, 0.0]
    assert given.verdicts[2].usage.cached


def test_what_has_nothing_to_be_compared_with_is_abstained_from() -> None:
    ask = Longer()
    for texts in (("x", "x"), ("x",)):
        assert {one.failure for one in judged(ask, *texts).verdicts} == {"abstained"}
    assert [one.failure for one in judged(ask, "x", None, "").verdicts] == ["abstained", *["invalid_candidate"] * 2]
    assert {one.failure for one in judged(ask, "x", "xx", reference=None).verdicts} == {"no_reference"}
    assert ask.asked == 0


def test_a_reply_that_names_nobody_is_asked_about_once() -> None:
    asked: list[Question] = []

    async def ask(question: Question) -> Reply:
        asked.append(question)
        return Reply("Both have merits.") if question.attempt == 0 else Reply("Better: B")

    reports = (JudgedReport("c0", "x"), JudgedReport("c1", "y"))
    given = asyncio.run(LlmParserJudge(SETTINGS).judge(JudgedCase("case", "A nodule.", reports), ask))
    assert len(asked) == 4
    assert [(row.order, row.verdict) for row in given.comparisons] == [("ab", "b"), ("ba", "a")]
    assert [one.score for one in given.verdicts] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("Better: A", "A"), ("better: b", "B"), ("**Better:** tie", "tie"), ("Better: **Report A**", "A"),
        ("A is closer to the truth.\nBetter: A.", "A"), ("B", "B"), ("tie.", "tie"), ("Better: <B>", "B"),
        ("Better: A\nBetter: B", None), ("Better: C", None), ("Report A is better", None), ("", None),
        ("Better: A or B", None), ("Better: A or B\nBetter: A", None),
        ("Meglio: A", None), ("Better: " + "A" * 30_000, None),
        ("x" * 30_000 + "\nBetter: A", None),
    ],
)  # fmt: skip
def test_only_one_line_in_the_asked_form_is_read(text: str, better: str | None) -> None:
    assert read_better(text) == better


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ('{"explanation": "x", "better": "A"}', "A"), ('{"better": "tie"}', None),
        ('```json\n{"explanation": "", "better": "tie"}\n```', "tie"),
        ('{"explanation": "x", "better": "A", "better": "B"}', None), ("[" * 19_000, None),
        ('{"explanation": "x", "better": "A", "more": 1}', None),
        ('{"better": "a"}', None),
        ('{"better": ["A"]}', None), ("[1]", None), ("Better: A", None), ("", None), ('{"better": "C"}', None),
    ],
)  # fmt: skip
def test_only_the_three_words_are_read_in_a_structured_reply(text: str, better: str | None) -> None:
    assert read_better_json(text) == better


def test_two_orders_that_disagree_are_a_tie() -> None:
    def rows(first: str | None, second: str | None) -> list[Compared]:
        failures = [None if one else "parse" for one in (first, second)]
        return [
            Compared("c0", "c1", order, verdict, failure)  # type: ignore[arg-type]
            for order, verdict, failure in zip(("ab", "ba"), (first, second), failures, strict=True)
        ]

    assert [settled(rows(*both)) for both in (("a", "a"), ("b", "b"), ("a", "b"), ("tie", "a"), ("tie", "tie"))] == [
        1.0, 0.0, 0.5, 0.5, 0.5,
    ]  # fmt: skip
    assert settled(rows("a", None)) is None
