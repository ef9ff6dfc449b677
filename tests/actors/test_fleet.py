"""The fleet: what it asks of the cluster, and what it says when an actor dies or does not answer."""

import threading
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.cluster import check_fits
from actors.fleet import Fleet
from actors.learning import learn
from actors.remote import ActorLost, steps_of
from actors.rounds import RoundFailed, make_pairs, sample_and_judge
from rlaif.config import ConfigurationError
from rlaif.ledger import RunFolder
from rlaif.records import Candidate, Case, Judgement, Pair

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
PROMPT = "<image>\nDescribe the findings of this chest CT."


def cases(count: int) -> list[Case]:
    return [
        Case(f"case-{n}", f"study-{n}", f"patient-{n}", PROMPT, "There is no nodule.", None, f"f{n}")
        for n in range(count)
    ]


def test_roles_that_do_not_fit_are_refused_with_their_sum(small: Any) -> None:
    config = small.config("sampler.actors=2", "sampler.cpus=0.75", "judge.cpus=0.25", "learner.cpus=0.5")
    check_fits(config, {"CPU": 2.75})
    with pytest.raises(ConfigurationError) as caught:
        check_fits(config, {"CPU": 2.0})
    assert str(caught.value) == (
        "the roles need 2.75 CPUs (sampler 1.5 + judge 0.25 + learner 1), the cluster has 2: "
        "lower sampler.cpus, judge.cpus or learner.cpus, or add nodes"
    )
    with pytest.raises(ConfigurationError, match=r"the roles need 3 GPUs \(sampler 1 \+ learner 2\)"):
        check_fits(small.config("sampler.gpus=1", "learner.gpus=1"), {"CPU": 8.0, "GPU": 1.0})
    with pytest.raises(ConfigurationError, match=r"the ingest needs 9 CPUs, 3 for each of 2 encoders and a reader"):
        check_fits(small.config("ingest.encoders=2", "ingest.cpus=3"), {"CPU": 8.0})
    with pytest.raises(ConfigurationError, match=r"the ingest needs 2 GPUs, 1 for each of 2 encoders"):
        check_fits(small.config("ingest.encoders=2", "ingest.gpus=1"), {"CPU": 8.0})


def test_a_sampler_killed_at_its_start_is_named(cluster: None, small: Any) -> None:
    fleet = Fleet(small.config("sampler.restarts=0"), small.features)
    killer = threading.Timer(2.0, lambda: ray.kill(fleet._samplers.actors[0]))
    killer.start()
    with pytest.raises(ActorLost, match="sampler 0 at its start died: "):
        fleet.samplers(small.first, 0)
    killer.join()
    fleet.close()


def test_a_sampler_that_does_not_answer_in_time_is_named(cluster: None, small: Any) -> None:
    fleet = Fleet(small.config("sampler.timeout_s=0.5"), small.features)
    with pytest.raises(ActorLost, match=r"sampler 0 at its start gave no answer in 0\.5 s"):
        fleet.samplers(small.first, 0)
    fleet.close()


def test_a_stream_that_stops_coming_is_named(cluster: None) -> None:
    @ray.remote(num_cpus=0)
    def slow() -> Any:
        yield 1
        threading.Event().wait(60)
        yield 2

    stream = slow.remote()
    steps = steps_of(stream, 20, "the stream")
    assert next(steps) == 1
    steps = steps_of(stream, 0.5, "the stream")
    with pytest.raises(ActorLost, match=r"the stream gave nothing in 0\.5 s"):
        next(steps)
    ray.cancel(stream, force=True)


def test_a_round_whose_judge_died_goes_on_from_what_is_durable(fleet: Fleet, small: Any, tmp_path: Path) -> None:
    config = small.config("judge.batch=6")
    with RunFolder.open(tmp_path, "run", config.plain()) as run:
        ray.kill(fleet.judge(config.leaf_judges["rules"]).actors[0])
        with pytest.raises(ActorLost, match="judge rules died: "):
            sample_and_judge(run, config, fleet, cases(4), small.first, 0, version=0)
        before = {one.candidate_id: one.sampled_at for one in run.read("round-000/candidates", Candidate)}
        assert len(before) % 6 == 0 and before and not run.done("round-000/sample")

        fleet._judges.clear()
        sample_and_judge(run, config, fleet, cases(4), small.first, 0, version=0)
        after = {one.candidate_id: one.sampled_at for one in run.read("round-000/candidates", Candidate)}
        assert len(after) == 24 and before.items() <= after.items()
        judgements = run.read("round-000/judgements", Judgement)
        assert sorted(one.candidate_id for one in judgements) == sorted(after)
        facts = run.facts("round-000/sample")
        assert (facts["candidates"], facts["judgements"], facts["version"]) == (24, 24, 0)


def test_a_round_without_pairs_keeps_its_policy_and_wrong_weights_fail_it(
    fleet: Fleet, small: Any, tmp_path: Path
) -> None:
    config = small.config("learner.gap_candidates=6")
    ungraded = [
        Case(one.case_id, one.study_id, one.patient_id, PROMPT, None, None, one.feature_key) for one in cases(2)
    ]
    with RunFolder.open(tmp_path, "run", config.plain()) as run:
        sample_and_judge(run, config, fleet, ungraded, small.first, 0, version=0)
        assert {one.failure for one in run.read("round-000/judgements", Judgement)} <= {
            "no_reference",
            "invalid_candidate",
        }
        make_pairs(run, config, ungraded, 0)
        assert run.read("round-000/pairs", Pair) == []
        assert sum(run.facts("round-000/pairs")["dropped"].values()) == 2

        with pytest.raises(RoundFailed, match=r"sampler and learner differ by .*max_logprob_gap=0\.0001"):
            learn(run, config, fleet, small.second, small.second, 0)
        assert not run.done("round-000/learn") and not (run.path / "round-000" / "checkpoint").exists()

        checkpoint = learn(run, config, fleet, small.first, small.first, 0)
        assert checkpoint == run.path / "round-000" / "checkpoint"
        names = ("policy.json", "connector.safetensors", "language_model/model.safetensors")
        assert all((checkpoint / name).read_bytes() == (small.first / name).read_bytes() for name in names)
        assert run.facts("round-000/learn")["steps"] == 0
        assert run.facts("round-000/learn")["logprob_gap"]["mean"] < 1e-4


def test_a_round_in_which_no_prompt_fits_says_what_to_change(fleet: Fleet, small: Any, tmp_path: Path) -> None:
    config = small.config("sampler.max_length=62")
    sampler = fleet.samplers(small.first, 0).actors[0]
    before = ray.get(sampler.__ray_call__.remote(lambda actor: actor.settings), timeout=60)
    ray.get(sampler.__ray_call__.remote(lambda actor: setattr(actor, "settings", config.sampler)), timeout=60)
    try:
        with RunFolder.open(tmp_path, "run", config.plain()) as run:
            with pytest.raises(RoundFailed, match=r"no prompt leaves room for sampler\.max_tokens=40 within sampler"):
                sample_and_judge(run, config, fleet, cases(2), small.first, 0, version=0)
            assert not run.done("round-000/sample")
    finally:
        ray.get(sampler.__ray_call__.remote(lambda actor: setattr(actor, "settings", before)), timeout=60)
