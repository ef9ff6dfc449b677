"""The sampler on a real vLLM engine: its candidates, their log-probs, and the weights that it uses."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import RayTaskError

from actors.fleet import Fleet
from actors.requests import Request, new_stage
from actors.stale_weights import StaleWeights
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


def written(candidate: Candidate) -> tuple[str, tuple[int, ...], int, int, str]:
    """What must not depend on who wrote it, when, and beside what."""
    one = candidate
    return one.text, one.token_ids, one.seed, one.attempt, one.finish_reason


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
    assert len({one.seed for one in candidates}) == len(candidates)
    # Whichever of its fellows failed, a candidate's seed follows from case, attempt and index.
    assert len({(one.case_id, one.attempt, one.seed - one.index) for one in candidates}) == len(
        {(one.case_id, one.attempt) for one in candidates}
    )


def test_neither_order_nor_company_changes_what_is_written(sampler: Any) -> None:
    requests = [six(number) for number in range(8)]
    forward = {one.candidate_id: written(one) for one in sample(sampler, requests)}
    assert {one.candidate_id: written(one) for one in sample(sampler, requests[::-1])} == forward
    alone = {one.candidate_id: written(one) for one in sample(sampler, requests[3:4])}
    assert len(alone) == 6 and alone.items() <= forward.items()


def test_requests_are_fed_while_it_writes_and_a_new_stage_ends_the_old(sampler: Any) -> None:
    one, two = new_stage(), new_stage()
    sampler.feed.remote(one, [six(0), six(1)])
    first = sampler.sample.remote([], 0, one)
    assert {each.case_id for each in ray.get(next(first), timeout=60)} <= {"case-0", "case-1"}
    sampler.feed.remote(one, [six(2)])
    assert {ray.get(next(first), timeout=60)[0].case_id for _ in range(2)} >= {"case-2"}

    # It would wait for more, and is still to write the case of the earlier stage.
    sampler.feed.remote(one, [six(number) for number in range(3, 8)])
    sampler.feed.remote(two, [six(5)])
    second = sampler.sample.remote([], 0, two)
    assert [each.index for each in ray.get(next(second), timeout=60)] == list(range(6))
    sampler.feed.remote(one, [six(6)])
    sampler.feed.remote(two, [], end=True)
    with pytest.raises(StopIteration):
        next(second)


def test_new_weights_wait_until_a_stream_has_ended(sampler: Any, small: Any) -> None:
    stream = sampler.sample.remote([six(number) for number in range(8)], 0)
    sent = weights_of(small.second, 9)
    load = sampler.load.remote(sent)
    candidates = [one for item in stream for one in ray.get(item, timeout=120)]
    assert len(candidates) == 48 and {one.policy_version for one in candidates} == {0}
    assert gap(Policy.from_pretrained(small.first), small.features, candidates) < 1e-4
    assert ray.get(load, timeout=60) == (9, sent.checksum)


def test_new_weights_are_refused_while_requests_are_running(sampler: Any, small: Any) -> None:
    def load_amid(actor: Any, requests: list[Request], weights: Weights) -> tuple[str, tuple[int, str]]:
        stream = actor.sample(requests, 0)
        next(stream)
        try:
            actor.load(weights)
        except RuntimeError as error:
            return f"{type(error).__name__}: {error}", actor.ready()
        finally:
            stream.close()
        return "", actor.ready()

    before = ray.get(sampler.ready.remote(), timeout=60)
    requests = [six(number) for number in range(8)]
    call = sampler.__ray_call__.remote(load_amid, requests, weights_of(small.second, 5))
    words, after = ray.get(call, timeout=120)
    assert words == "StaleWeights: version 5 came while requests were running: wait for them, then load"
    assert after == before
    assert gap(Policy.from_pretrained(small.first), small.features, sample(sampler, [six(0)])) < 1e-4


def test_greedy_decoding_is_not_tried_again(sampler: Any) -> None:
    greedy = [Request(case(number), f"f{number}", 1, 0.0) for number in range(4)]
    first, second = sample(sampler, greedy), sample(sampler, greedy, round_=1)
    assert {one.attempt for one in first} == {0}
    assert sorted(one.text for one in first) == sorted(one.text for one in second)
