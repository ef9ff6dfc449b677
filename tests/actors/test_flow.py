"""The flow between samplers and the controller: the same candidates from any number of engines, also when some die."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any, overload

import pytest
import ray
from ray.exceptions import RayActorError

from actors.fleet import Fleet
from actors.flow import AllSampled, Flow
from actors.outages import Outages
from actors.placement import Placement
from actors.remote import ActorLost
from actors.requests import Feed, Request
from actors.sampler_group import SamplerGroup
from rlaif.records import Candidate, Case
from rlaif.vision import StoredFeatures

PROMPT = "<image>\nDescribe the findings of this chest CT."


def requests(count: int) -> list[Request]:
    """Several cases for each of the eight studies."""
    cases = [
        Case(f"case-{n}", f"study-{n}", f"patient-{n}", PROMPT, "Clear lungs.", None, f"f{n % 8}") for n in range(count)
    ]
    return [Request(case, case.feature_key, 6, 1.0) for case in cases]


def written(candidates: Sequence[Candidate]) -> dict[str, tuple[Any, ...]]:
    """What must be the same whoever wrote it; raises where a candidate stands twice."""
    assert len({one.candidate_id for one in candidates}) == len(candidates)
    return {one.candidate_id: (one.text, one.token_ids, one.seed, one.attempt, one.usable) for one in candidates}


def run(flow: Flow) -> list[Candidate]:
    """All candidates of a flow without judges, which ends by saying so once."""
    results = list(flow.results())
    assert [isinstance(one, AllSampled) for one in results] == [False] * (len(results) - 1) + [True]
    return [one for result in results if isinstance(result, list) for one in result]


def kill(sampler: Any) -> None:
    """Kills a sampler as the system would: by its process."""
    os.kill(ray.get(sampler.__ray_call__.remote(lambda _: os.getpid()), timeout=60), signal.SIGKILL)


# --- real engines ---


@pytest.fixture(scope="module")
def alone(fleet: Fleet, small: Any) -> dict[str, tuple[Any, ...]]:
    """What one engine writes, undisturbed."""
    return written(run(Flow(small.config(), [], fleet.samplers(small.first, 0), requests(24), 0)))


@pytest.fixture(scope="module")
def pair(cluster: None, small: Any) -> Iterator[SamplerGroup]:
    """Two engines of the same policy."""
    config = small.config("sampler.actors=2", "sampler.restarts=2")
    group = SamplerGroup(config, StoredFeatures(small.features), Placement(config), Outages())
    group.use(small.first, 0, None)
    yield group
    group.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_engines_write_what_one_does_in_any_order(alone: Any, pair: SamplerGroup, small: Any) -> None:
    assert written(run(Flow(pair.config, [], pair, requests(24), 0))) == alone
    assert written(run(Flow(pair.config, [], pair, requests(24)[::-1], 0))) == alone


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_engine_killed_while_it_writes_is_replaced_and_no_candidate_is_lost_or_repeated(
    alone: Any, pair: SamplerGroup, small: Any, capsys: Any
) -> None:
    pids = [ray.get(one.__ray_call__.remote(lambda _: os.getpid()), timeout=60) for one in pair.actors]
    candidates: list[Candidate] = []
    for result in Flow(pair.config, [], pair, requests(24), 0).results():
        if isinstance(result, list):
            if len(candidates) == 12:
                os.kill(pids[0], signal.SIGKILL)
            candidates += result
    assert written(candidates) == alone
    assert (pair.restarts, pair.policy) == (1, (small.first, 0))
    assert "sampler 0 was lost and is started anew (1 of 2 times): The actor" in capsys.readouterr().out
    assert len(pair.checksum()) == 16


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_engine_lost_between_stages_starts_with_the_new_weights_and_the_others_are_sent_them(
    fleet: Fleet, pair: SamplerGroup, small: Any
) -> None:
    kill(pair.actors[1])
    pair.use(small.second, 1, fleet.learners)
    assert (pair.restarts, pair.policy) == (2, (small.second, 1))
    states = ray.get([one.ready.remote() for one in pair.actors], timeout=60)
    assert states[0] == states[1] and states[0][0] == 1
    candidates = run(Flow(pair.config, [], pair, requests(8), 1))
    assert {(one.policy_version, one.weights_checksum) for one in candidates} == set(states)

    # No more may be replaced.
    kill(pair.actors[0])
    with pytest.raises(ActorLost, match=r"sampler 0 died: (.|\n)*; sampler\.restarts=2 replaced no more of them"):
        run(Flow(pair.config, [], pair, requests(8), 1))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_further_engine_is_started_while_much_waits_and_writes_what_the_first_would(
    alone: Any, cluster: None, small: Any
) -> None:
    config = small.config("sampler.max_actors=2", "sampler.max_sequences=12", "cluster.placement=apart")
    group = SamplerGroup(config, StoredFeatures(small.features), Placement(config), Outages())
    group.use(small.first, 0, None)
    flow = Flow(config, [], group, requests(24), 0)
    assert flow._sampling is not None
    (further,) = group._further
    # Four cases fill what the first one is asked for; the rest waits until its candidates are read.
    assert ray.wait(flow._sampling.starts, timeout=120)[0]
    candidates = run(flow)
    assert written(candidates) == alone
    assert group._further == [] and group.restarts == 0
    # It is ended before long.
    with pytest.raises(RayActorError):
        while True:
            ray.get(further.ready.remote(), timeout=60)
    group.close()


# --- what is in flight ---


class Noted(Sequence[Request]):
    """Requests that note how many of them were read."""

    def __init__(self, all_: list[Request]) -> None:
        self.all, self.read = all_, 0

    def __len__(self) -> int:
        return len(self.all)

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> list[Request]: ...
    def __getitem__(self, index: int | slice) -> Request | list[Request]:
        assert isinstance(index, int)
        self.read = max(self.read, index + 1)
        return self.all[index]


def writer() -> Any:
    """An actor class that stands for the sampler: it answers each request with empty candidates, once it is let."""

    class Writer:
        def __init__(self) -> None:
            self.fed, self.let = Feed(), threading.Event()

        def ready(self) -> tuple[int, str]:
            return 0, "none"

        @ray.method(concurrency_group="feed")
        def feed(self, stage: int, given: list[Request], *, end: bool = False) -> None:
            self.fed.put(stage, given, end=end)

        @ray.method(concurrency_group="feed")
        def go(self) -> None:
            self.let.set()

        def sample(self, given: list[Request], round_: int, stage: int) -> Iterator[list[Candidate]]:
            self.let.wait(60)
            while (fed := self.fed.take(stage, 60)) is not None:
                for one in fed:
                    blank: dict[str, Any] = dict.fromkeys(Candidate.__dataclass_fields__)
                    blank |= {"case_id": one.case.case_id, "feature_key": one.feature_key}
                    yield [Candidate(**blank | {"index": index}) for index in range(one.n)]

    return ray.remote(num_cpus=0, concurrency_groups={"feed": 1})(Writer)


@pytest.fixture
def writers(cluster: None, small: Any) -> Iterator[SamplerGroup]:
    """Three of them, as a group."""
    config = small.config("sampler.max_sequences=48")
    group = SamplerGroup(config, None, Placement(config), Outages())
    kind = writer()
    group.actors = [kind.remote() for _ in range(3)]
    yield group
    group.close()


@pytest.mark.slow
def test_samplers_are_asked_for_what_they_have_room_for_whatever_the_number_of_cases(writers: SamplerGroup) -> None:
    noted = Noted(requests(1000))
    flow = Flow(writers.config, [], writers, noted, 0)
    # Sixteen cases of six fill twice the 48 places of each.
    assert noted.read == 48
    ray.get([one.go.remote() for one in writers.actors], timeout=60)
    seen = 0
    for result in flow.results():
        seen += isinstance(result, list)
        assert noted.read <= seen + 48
    assert (noted.read, seen) == (1000, 1000)


@pytest.mark.slow
def test_a_slow_sampler_is_given_no_more_than_its_share_of_the_last_cases(writers: SamplerGroup) -> None:
    flow = Flow(writers.config, [], writers, requests(30), 0)
    assert flow._sampling is not None
    assert [len(one.asked) for one in flow._sampling._standing] == [10, 10, 10]
    ray.get([one.go.remote() for one in writers.actors], timeout=60)
    assert len(run(flow)) == 180


class Growing(SamplerGroup):
    """A group of stand-ins, of which `made` counts those that were started."""

    made = 0

    def _new(self, number: int | None) -> Any:
        self.made += 1
        return writer().remote()


@pytest.fixture
def growing(cluster: None, small: Any) -> Iterator[Growing]:
    """One that stands, and two more where much waits."""
    most = ("sampler.max_sequences=48", "sampler.max_actors=3", "sampler.restarts=0", "cluster.placement=apart")
    config = small.config(*most)
    group = Growing(config, None, Placement(config), Outages())
    group.use(small.first, 0, None)
    yield group
    group.close()


@pytest.mark.slow
def test_further_samplers_come_with_the_queue_and_go_with_it(growing: Growing) -> None:
    # What waits beside the sixteen cases of the first fills neither of two others.
    few = Flow(growing.config, [], growing, requests(31), 0)
    assert growing.made == 1
    ray.get(growing.actors[0].go.remote(), timeout=60)
    assert len(run(few)) == 31 * 6

    many = Flow(growing.config, [], growing, requests(100), 0)
    assert growing.made == 3
    ray.get([one.go.remote() for one in growing._further], timeout=60)
    assert len(run(many)) == 600
    assert (growing._further, growing.made) == ([], 3)


@pytest.mark.slow
def test_what_a_lost_further_sampler_was_asked_others_write(growing: Growing, capsys: Any) -> None:
    flow = Flow(growing.config, [], growing, requests(100), 0)
    assert flow._sampling is not None
    lost, other = growing._further
    while flow._sampling.starts:
        flow._sampling.take(ray.wait(flow._sampling.starts, timeout=60)[0][0])
    ray.kill(lost)
    ray.get([one.go.remote() for one in (growing.actors[0], other)], timeout=60)
    candidates = run(flow)
    assert len({(one.case_id, one.index) for one in candidates}) == len(candidates) == 600
    # Sixteen cases of six had been asked of it. Another comes no more, as more were lost than may be replaced.
    assert "lost: a further sampler (96 candidates done again): " in capsys.readouterr().out
    assert (growing.made, growing.restarts) == (3, 0)
