"""Asking with a memory: nothing is paid for twice, however many ask at once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from actors.judge import Judge
from actors.kept_ask import KeptAsk
from rlaif.judges.asking import Message, NotAnswered, Question, Reply
from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.judges.settings import Gpt4JudgeSettings
from rlaif.judges.verdict import Usage

QUESTION = Question((Message("user", "A nodule."),), 8)
OTHER = Question((Message("user", "No nodule."),), 8)
PAID = Usage(100, 10, 0.5, 1.0)


class Kept:
    """A store of replies in memory."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}

    async def get(self, key: str) -> Reply | None:
        await asyncio.sleep(0)
        return self.replies.get(key)

    async def put(self, key: str, reply: Reply, run: str) -> None:
        await asyncio.sleep(0)
        self.replies[key] = reply


class Service:
    """Answers after a moment, or fails; counts what it is asked, and what of that was given up."""

    def __init__(self, failure: NotAnswered | None = None) -> None:
        self.failure = failure
        self.asked = self.given_up = 0

    async def __call__(self, question: Question) -> Reply:
        self.asked += 1
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.failure:
            raise self.failure
        return Reply(question.messages[0].content, usage=PAID)


def played(work: Callable[[KeptAsk, Service, Kept], Awaitable[None]], failure: NotAnswered | None = None) -> None:
    async def play() -> None:
        service, kept = Service(failure), Kept()
        ask = KeptAsk(service, kept, "run", "judge")
        await work(ask, service, kept)
        assert not ask._asked

    asyncio.run(play())


def test_equal_questions_at_once_are_asked_and_paid_for_once() -> None:
    async def work(ask: KeptAsk, service: Service, kept: Kept) -> None:
        replies = await asyncio.gather(*(ask(one) for one in (QUESTION, OTHER, QUESTION, QUESTION)))
        assert [one.text for one in replies] == ["A nodule.", "No nodule.", "A nodule.", "A nodule."]
        assert [one.usage for one in replies] == [PAID, PAID, Usage(cached=True), Usage(cached=True)]
        assert service.asked == len(kept.replies) == 2
        assert (await ask(QUESTION)).usage == Usage(cached=True) and service.asked == 2

    played(work)


def test_a_failure_reaches_all_who_asked_and_is_not_kept() -> None:
    async def work(ask: KeptAsk, service: Service, kept: Kept) -> None:
        failures = await asyncio.gather(*(ask(QUESTION) for _ in range(3)), return_exceptions=True)
        assert [str(one) for one in failures] == ["('timeout', 'late')"] * 3
        assert service.asked == 1 and not kept.replies
        service.failure = None
        assert (await ask(QUESTION)).usage == PAID and service.asked == 2

    played(work, NotAnswered("timeout", "late"))


def test_who_gives_up_leaves_the_others_their_reply_and_its_cost() -> None:
    async def work(ask: KeptAsk, service: Service, kept: Kept) -> None:
        tasks = [asyncio.create_task(ask(QUESTION)) for _ in range(3)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        first, *others = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(first, asyncio.CancelledError)
        assert [one.usage for one in others if isinstance(one, Reply)] == [PAID, Usage(cached=True)]
        assert (service.asked, service.given_up) == (1, 0)

    played(work)


def test_a_question_that_nobody_waits_for_is_given_up_and_may_be_asked_at_once() -> None:
    async def work(ask: KeptAsk, service: Service, kept: Kept) -> None:
        tasks = [asyncio.create_task(ask(QUESTION)) for _ in range(2)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait([tasks[1]])
        assert (await ask(QUESTION)).usage == PAID
        assert (service.asked, service.given_up) == (2, 1)

    played(work)


def test_a_payer_whose_name_is_too_long_stops_a_judge_before_it_asks(tmp_path: Path) -> None:
    settings = Gpt4JudgeSettings(
        kind="gpt4", name="gpt4", threshold=3, base_url="http://127.0.0.1:1/v1", model="m", prompt="gpt4-1"
    )
    case = JudgedCase("case", "A nodule.", (JudgedReport("c0", "No nodule."),))
    with pytest.raises(ValueError, match="must have a name of 1 to 200 characters"):
        asyncio.run(Judge(settings, "/a/long/path" * 20, tmp_path / "replies", 0).judge([case], 0))
    assert not (tmp_path / "replies").exists()
