"""The sampler on a real vLLM engine: its candidates, their log-probs, and the weights that it uses."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import RayTaskError

from actors.fleet import Fleet
from actors.sampler import Request, StaleWeights
from actors.weights import Weights, checksum_of
from rlaif.features import FeatureStore
from rlaif.models.policy import Policy
from rlaif.records import Candidate, Case

pytestmark = pytest.mark.slow
PROMPT = "<image>\nDescribe the findings of this chest CT."
Sample = Callable[..., list[Candidate]]


def case(number: int, prompt: str = PROMPT) -> Case:
    return Case(
        f"case-{number}", f"study-{number}", f"patient-{number}", prompt, "Clear lungs.", "Clear lungs.", f"f{number}"
    )


def weights_of(folder: Path, version: int) -> Weights:
    tensors = Policy.from_pretrained(folder).weights()
    return Weights(version, checksum_of(tensors), tensors)


@pytest.fixture
def sampler(fleet: Fleet, small: Any) -> Any:
    """The session's sampler with the first policy's weights as version 0."""
    actor = fleet.samplers(small.first, 0).actors[0]
    assert ray.get(actor.load.remote(weights_of(small.first, 0)), timeout=60)[0] == 0
    return actor


def sample(sampler: Any, requests: Sequence[Request], round_: int = 0) -> list[Candidate]:
    stream = sampler.sample.remote(list(requests), round_)
    return [candidate for item in stream for candidate in ray.get(item, timeout=120)]


def six(number: int, **changed: Any) -> Request:
    return Request(case(number), **({"feature_key": f"f{number}", "n": 6, "temperature": 1.0} | changed))


def gap(policy: Policy, features: Path, candidates: Sequence[Candidate], key: str | None = None) -> float:
    """Mean difference between the candidates' log-probs and the policy's own, on the given or their own features."""
    store = FeatureStore(features)
    gaps = []
    for one in candidates:
        tokens = policy.collate([policy.prompt(one.prompt)], [list(one.token_ids)])
        with torch.inference_mode():
            ours = policy(tokens, [store.get(key or str(one.feature_key))])[tokens.answer]
        gaps.append((ours - torch.tensor(one.logprobs)).abs())
    return float(torch.cat(gaps).mean())


def test_six_candidates_a_case_with_seeds_of_their_own(sampler: Any) -> None:
    candidates = sample(sampler, [six(0), six(1), six(2)], round_=3)
    assert sorted(one.candidate_id for one in candidates) == sorted(
        f"case-{number}.3.{index}" for number in range(3) for index in range(6)
    )
    assert len({one.seed for one in candidates}) == 18
    assert len({one.text for one in candidates}) == 18
    for one in candidates:
        assert (one.round, one.policy_version, one.feature_key) == (3, 0, f"f{one.case_id[-1]}")
        assert len(one.token_ids) == len(one.logprobs) > 0
        assert all(value <= 0 for value in one.logprobs)
        assert one.usable == (one.finish_reason == "stop" and bool(one.text))


def test_the_same_seed_gives_the_same_text_and_another_round_another(sampler: Any) -> None:
    def texts(round_: int) -> dict[int, tuple[int, str]]:
        return {one.index: (one.seed, one.text) for one in sample(sampler, [six(4)], round_)}

    assert texts(0) == texts(0)
    assert not {text for _, text in texts(0).values()} & {text for _, text in texts(1).values()}


def test_logprobs_are_those_of_the_policy_that_the_sampler_says_it_uses(sampler: Any, small: Any) -> None:
    first, second = Policy.from_pretrained(small.first), Policy.from_pretrained(small.second)
    before = sample(sampler, [six(0), six(1)])
    assert gap(first, small.features, before) < 1e-4
    assert gap(second, small.features, before) > 1e-2

    sent = weights_of(small.second, 7)
    assert ray.get(sampler.load.remote(sent), timeout=60) == (7, sent.checksum)
    after = sample(sampler, [six(0), six(1)])
    assert gap(second, small.features, after) < 1e-4
    assert gap(first, small.features, after) > 1e-2
    assert {(one.policy_version, one.weights_checksum) for one in after} == {(7, sent.checksum)}
    assert {one.weights_checksum for one in before} == {checksum_of(first.weights())} != {sent.checksum}


def test_the_policy_reads_the_image(sampler: Any, small: Any) -> None:
    policy = Policy.from_pretrained(small.first)
    own = sample(sampler, [six(0)])
    others = sample(sampler, [six(0, feature_key="f5")])
    assert {one.feature_key for one in others} == {"f5"}
    assert gap(policy, small.features, others) < 1e-4
    assert gap(policy, small.features, own, key="f5") > 1e-3
    assert [one.logprobs[0] for one in own] != [one.logprobs[0] for one in others]


def test_weights_that_are_not_what_was_sent_are_refused(sampler: Any, small: Any) -> None:
    good = weights_of(small.second, 8)
    name = next(iter(good.tensors))
    damaged = Weights(8, good.checksum, good.tensors | {name: good.tensors[name] + 1e-3})
    with pytest.raises(RayTaskError, match=r"weights version 8 arrived as .* sent as") as caught:
        ray.get(sampler.load.remote(damaged), timeout=60)
    assert isinstance(caught.value.cause, StaleWeights)
    assert ray.get(sampler.ready.remote(), timeout=60) == (
        0,
        checksum_of(Policy.from_pretrained(small.first).weights()),
    )


def test_a_prompt_too_long_is_unusable_and_stops_nobody(sampler: Any) -> None:
    long = Request(case(1, prompt="<image>" + "Describe the findings. " * 60), "f1", 6, 1.0)
    candidates = sample(sampler, [long, six(0)])
    refused = [one for one in candidates if one.case_id == "case-1"]
    assert [(one.index, one.finish_reason, one.usable, one.text) for one in refused] == [
        (index, "prompt_too_long", False, "") for index in range(6)
    ]
    assert sum(one.case_id == "case-0" and len(one.token_ids) > 0 for one in candidates) == 6


def test_a_report_cut_off_is_written_again_and_then_stands_as_unusable(sampler: Any, small: Any) -> None:
    attempts = small.config().sampler.attempts
    candidates = sample(sampler, [six(number) for number in range(8)])
    cut = [one for one in candidates if one.finish_reason == "length"]
    whole = [one for one in candidates if one.finish_reason == "stop"]
    assert len(cut) > 5 and len(whole) > 5, "the small policies should do both"
    assert {(one.attempt, one.usable, len(one.token_ids)) for one in cut} == {
        (attempts - 1, False, small.config().sampler.max_tokens)
    }
    assert {one.attempt for one in whole} == set(range(attempts))
    again = [one for one in candidates if one.attempt == 1]
    assert len({one.seed for one in candidates}) == len(candidates) and again


def test_greedy_decoding_is_not_tried_again(sampler: Any) -> None:
    greedy = [Request(case(number), f"f{number}", 1, 0.0) for number in range(4)]
    first, second = sample(sampler, greedy), sample(sampler, greedy, round_=1)
    assert {one.attempt for one in first} == {0}
    assert sorted(one.text for one in first) == sorted(one.text for one in second)
