"""The samplers of a run as one: their start, what each of them stands on, and an engine that is split."""

import os
import re
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import ray

from actors.fleet import Fleet
from actors.outages import Outages
from actors.placement import Placement
from actors.remote import ActorDied, StartFailed, answer
from actors.requests import Request
from actors.sampler_group import SamplerGroup
from actors.weights import checksum_of as weights_checksum
from rlaif.config import Config, ConfigurationError
from rlaif.models.policy import Policy
from rlaif.records import Candidate, Case
from rlaif.vision import StoredFeatures

PROMPT = "<image>\nDescribe the findings of this chest CT."


@pytest.mark.parametrize(
    ("gpus", "split", "words"),
    [
        ("1", 2, "sampler.gpus=1 are for each engine: set sampler.gpus=2"),
        ("0.5", 2, "an engine of sampler.tensor_parallel=2 stands on 2 whole GPUs"),
        ("4", 1, "set sampler.tensor_parallel=4, and sampler.actors for more engines"),
        ("1.5", 1, "sampler.gpus=1.5 are for each engine: set sampler.gpus=1"),
    ],
)
def test_an_engine_stands_on_whole_gpus(configured: Callable[..., Config], gpus: str, split: int, words: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        configured("experiment=smoke", f"sampler.gpus={gpus}", f"sampler.tensor_parallel={split}")


@pytest.mark.parametrize(("gpus", "split"), [("0", 1), ("0", 2), ("0.5", 1), ("1", 1), ("2", 2)])
def test_engines_may_share_a_gpu_or_be_split_over_some(
    configured: Callable[..., Config], gpus: str, split: int
) -> None:
    configured("experiment=smoke", f"sampler.gpus={gpus}", f"sampler.tensor_parallel={split}")


@pytest.mark.slow
def test_an_error_at_the_start_is_told_at_once_in_its_own_words(cluster: None, small: Any) -> None:
    config = small.config("sampler.max_length=300")
    group = SamplerGroup(config, StoredFeatures(small.features), Placement(config), Outages())
    with pytest.raises(StartFailed) as caught:
        group.use(small.first, 0, None)
    assert str(caught.value) == (
        "sampler 0 at its start failed: rlaif.models.settings.PolicyError: sampler.max_length=300 is more than the "
        f"256 positions of the language model in {small.first}: lower it"
    )
    assert group.restarts == 0
    group.close()


def sample(sampler: Any) -> dict[int, Candidate]:
    case = Case("case-0", "study-0", "patient-0", PROMPT, None, None, "f0")
    stream = sampler.sample.remote([Request(case, "f0", 6, 1.0)], 0)
    (item,) = stream
    return {one.index: one for one in answer(item, 300, "sampler")}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_split_engine_writes_the_same_and_dies_with_its_parts(cluster: None, fleet: Fleet, small: Any) -> None:
    whole = sample(fleet.samplers(small.first, 0).actors[0])
    config = small.config("sampler.tensor_parallel=2", "sampler.restarts=1")
    group = SamplerGroup(config, fleet.vision, Placement(config), Outages())
    # The first is killed while it starts, and another takes its place.
    killer = threading.Timer(2.0, lambda: ray.kill(group.actors[0]))
    killer.start()
    group.use(small.first, 0, None)
    killer.join()
    assert group.restarts == 1
    split = sample(group.actors[0])
    assert [one.token_ids for one in split.values()] == [one.token_ids for one in whole.values()]
    for index, one in whole.items():
        assert split[index].logprobs == pytest.approx(one.logprobs, abs=1e-4)

    part = group.actors[0].__ray_call__.remote(lambda actor: actor.engine.model_executor.workers[1].proc.pid)
    os.kill(ray.get(part, timeout=60), signal.SIGKILL)
    with pytest.raises(ActorDied):
        sample(group.actors[0])
    group.close()


def test_a_sampler_that_dies_within_a_sync_is_replaced_by_one_that_has_the_new_weights(
    fleet: Fleet, small: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    group = fleet.samplers(small.first, 0)
    restarts, lost = group.restarts, group.actors[0]

    def die(sampler: Any) -> None:
        sampler._weights.load = lambda _: os._exit(1)

    ray.get(lost.__ray_call__.remote(die), timeout=120)
    assert fleet.samplers(small.second, 1) is group
    assert group.restarts == restarts + 1 and group.actors[0] is not lost
    assert "sampler 0 was lost and is started anew" in capsys.readouterr().out
    state = ray.get(group.actors[0].ready.remote(), timeout=120)
    assert state == (1, weights_checksum(Policy.from_pretrained(small.second).weights()))
    group.restarts = restarts
