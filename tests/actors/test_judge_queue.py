"""A judge's batches on their way through its actors: more of them while batches wait, and one that died again."""

import os
import signal
import time
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError

from actors.fleet import Fleet
from actors.judge_queue import JudgeQueue
from actors.outages import Outages
from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.ledger import RunFolder
from rlaif.records import Judgement, Outage

pytestmark = pytest.mark.slow
TEXT = "There is a small left pleural effusion."


def batch(number: int, reports: int = 2) -> list[JudgedCase]:
    """One case, whose reports say the same as its reference."""
    written = tuple(JudgedReport(f"case-{number}.0.{index}", TEXT) for index in range(reports))
    return [JudgedCase(f"case-{number}", TEXT, written)]


def drained(queue: JudgeQueue) -> list[Judgement]:
    """All judgements of a queue into which nothing more is put."""
    judgements: list[Judgement] = []
    while queue.busy:
        ready, _ = ray.wait(queue.calls, timeout=120)
        judged = queue.take(ready[0], last=True)
        judgements += judged.judgements if judged is not None else []
    return judgements


def pid(actor: Any) -> int:
    return int(ray.get(actor.__ray_call__.remote(lambda _: os.getpid()), timeout=60))


def gone(actor: Any) -> bool:
    """Whether an actor ends within a minute."""
    for _ in range(600):
        try:
            ray.get(actor.ready.remote(), timeout=60)
        except RayActorError:
            return True
        time.sleep(0.1)
    return False


def test_further_actors_judge_while_batches_wait_and_end_with_them(cluster: None, small: Any) -> None:
    config = small.config("judge.batch=2", "judge.calls=1", "judge.max_actors=3", "cluster.placement=apart")
    fleet = Fleet(config, None)
    pool = fleet.judge(config.leaf_judges["rules"])
    queue = JudgeQueue(pool, 0, Outages())
    queue.put(batch(0))
    assert len(queue.calls) == 1
    # Each takes one batch at a time, so five waiting ones are worth two more actors, the most there may be.
    for number in range(1, 6):
        queue.put(batch(number))
    assert (queue.waiting, len(queue.calls)) == (5, 3)
    started = [*queue._starting.values()]
    assert ray.wait([*queue._starting], num_returns=2, timeout=120)[0]
    judgements = drained(queue)
    assert sorted(one.candidate_id for one in judgements) == [f"case-{n}.0.{k}" for n in range(6) for k in range(2)]
    assert {one.score for one in judgements} == {1.0}
    assert all(gone(actor) for actor in started)
    assert pid(pool.actors[0])
    queue.end()
    fleet.close()


def test_what_a_lost_further_actor_was_asked_another_judges(cluster: None, small: Any, tmp_path: Any) -> None:
    config = small.config("judge.batch=2", "judge.calls=1", "judge.max_actors=2", "cluster.placement=apart")
    fleet = Fleet(config, None)
    pool = fleet.judge(config.leaf_judges["rules"])
    with RunFolder.open(tmp_path, "run", config.plain()) as run:
        queue = JudgeQueue(pool, 0, Outages(run))
        for number in range(4):
            queue.put(batch(number))
        (start,) = queue._starting
        ray.wait([start], timeout=120)
        queue.take(start, last=False)
        (further,) = queue._further
        ray.kill(further)
        # A batch that it had not answered, if any, goes to the other.
        assert sorted({one.case_id for one in drained(queue)}) == [f"case-{number}" for number in range(4)]
        assert [one.name for one in run.read("outages", Outage)] in ([], ["a further judge rules"])
        assert queue._actors == pool.actors
    fleet.close()


def test_a_judge_that_died_is_noted_with_the_reports_that_it_is_asked_again(
    cluster: None, small: Any, tmp_path: Any
) -> None:
    config = small.config("judge.batch=2", "judge.calls=4")
    fleet = Fleet(config, None)
    pool = fleet.judge(config.leaf_judges["rules"])
    with RunFolder.open(tmp_path, "run", config.plain()) as run:
        queue = JudgeQueue(pool, 0, Outages(run))
        queue.put(batch(0))
        assert len(drained(queue)) == 2
        process = pid(pool.actors[0])
        # It ends with both calls: one it is in, one waits for it.
        os.kill(process, signal.SIGSTOP)
        queue.put(batch(1, reports=3))
        queue.put(batch(2))
        os.kill(process, signal.SIGKILL)
        assert len(drained(queue)) == 5
        (outage,) = run.read("outages", Outage)
        assert (outage.what, outage.name, outage.repeated, outage.unit) == ("judge", "judge rules", 5, "reports")

        # One that dies between two stages was asked nothing.
        os.kill(pid(pool.actors[0]), signal.SIGKILL)
        following = JudgeQueue(pool, 1, Outages(run))
        following.put(batch(3))
        assert len(drained(following)) == 2
        assert [one.repeated for one in run.read("outages", Outage)] == [5, None]
    fleet.close()
