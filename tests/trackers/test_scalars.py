"""Which numbers of a run are tracked, by hand from what its stages left."""

import json
from collections.abc import Callable

import pytest

from rlaif.ledger import RunError, RunFolder
from rlaif.trackers.scalars import Row, axis_of, rows_of, tracked_stages

STAGES = {
    "studies",
    "base",
    "heldout/base",
    "heldout-judging/base",
    *(f"round-000/{stage}" for stage in ("sample", "pairs", "learn")),
    "heldout/round-000",
    "heldout-judging/round-000",
}


def rows(run: RunFolder, stage: str) -> list[Row]:
    return rows_of(run, stage, resamples=100)


def test_every_finished_stage_has_numbers_and_nothing_else_is_one(run: RunFolder) -> None:
    run.finish("summary", rounds=1)
    run.journal("round-000/judge").started(["a"])
    assert set(tracked_stages(run)) == STAGES
    assert all(rows(run, stage) for stage in STAGES)


def test_the_stages_before_the_rounds(run: RunFolder) -> None:
    assert rows(run, "studies") == [Row(0, {"seconds/studies": 1.0, "studies/quarantined": 1.0})]
    assert rows(run, "base") == [
        Row(0, {"seconds/base": 3.0}),
        Row(0, {"sft/loss": 4.0, "sft/lr": 0.5}),
        Row(1, {"sft/loss": 3.0, "sft/lr": 0.5}),
    ]


def test_a_base_that_was_pretrained_counts_each_training_from_its_start(run: RunFolder) -> None:
    steps = [{"step": step, "loss": loss} for step, loss in ((0, 9.0), (1, 8.0), (0, 4.0))]
    run.write_json("base/metrics.json", {"learning": {"steps": steps}})
    told = [Row(0, {"pretrain/loss": 9.0}), Row(1, {"pretrain/loss": 8.0}), Row(0, {"sft/loss": 4.0})]
    assert rows(run, "base")[1:] == told


def test_a_round(run: RunFolder, next_round: Callable[[RunFolder], None]) -> None:
    next_round(run)
    assert rows(run, "round-001/sample") == [
        Row(
            1,
            {
                "seconds/sample": 4.0,
                "judging/repeated_calls": 2.0,
                "judging/rules/judgements": 6.0,
                "judging/rules/scored": 5.0,
                "judging/rules/cost_usd": 0.0,
                "judging/rules/failures/no_reference": 1.0,
            },
        )
    ]
    dropped = {"pairs/dropped/equal_scores": 2.0}
    assert rows(run, "round-001/pairs") == [Row(1, {"seconds/pairs": 1.0, "pairs/built": 3.0, **dropped})]
    # Two steps were made in the round before.
    gap = {"logprob_gap/mean": 0.125, "logprob_gap/max": 0.5, "logprob_gap/tokens": 9.0}
    assert rows(run, "round-001/learn") == [
        Row(2, {"dpo/loss": 0.25, "dpo/margin": 0.5}),
        Row(1, {"seconds/learn": 8.0, **gap}),
    ]


def test_ppo_goes_by_its_own_name(run: RunFolder) -> None:
    steps = [{"step": 0, "of": 1, "kl": 0.5, "kl_weight": 0.05}]
    run.write_json("round-000/metrics.json", {"learning": {"steps": steps}})
    run.finish("round-000/learn", seconds=8.0, steps=1, logprob_gap=None, kl_weight=0.05, reports=4)
    assert rows(run, "round-000/learn") == [
        Row(0, {"ppo/kl": 0.5, "ppo/kl_weight": 0.05}),
        Row(0, {"seconds/learn": 8.0}),
    ]


def test_heldout_reports_have_intervals_a_control_and_a_gain_over_the_base(run: RunFolder) -> None:
    base, seconds = rows(run, "heldout/base")
    assert base.step == 0 and seconds == Row(0, {"seconds/evaluate_base": 5.0})
    assert base.values["heldout/rules_score/mean"] == pytest.approx(0.3)
    assert base.values["heldout/rules_score/low"] == 0.2 and base.values["heldout/rules_score/high"] == 0.4
    assert base.values["blind/rules_score/mean"] == pytest.approx(0.2)
    assert not [name for name in base.values if name.startswith("gain")]

    first, seconds = rows(run, "heldout/round-000")
    assert first.step == 1 and seconds == Row(0, {"seconds/evaluate": 5.0})
    assert first.values["gain/rules_score/mean"] == pytest.approx(0.2)
    assert first.values["gain/rules_score/low"] == pytest.approx(0.1)
    assert first.values["gain/rules_score/high"] == pytest.approx(0.3)
    assert {name.split("/")[1] for name in first.values} == {"rules_score"}

    judged, seconds = rows(run, "heldout-judging/round-000")
    assert judged.step == 1 and seconds == Row(0, {"seconds/judge_heldout": 2.0})
    assert judged.values["heldout/gpt4_score/mean"] == pytest.approx(2.0)
    assert judged.values["gain/gpt4_score/mean"] == pytest.approx(0.4)
    assert judged.values["heldout_judging/gpt4/cost_usd"] == 0.25
    assert "heldout/rules_score/mean" not in judged.values and "blind/gpt4_score/mean" not in judged.values


def test_what_is_no_number_has_no_point(run: RunFolder) -> None:
    steps = [{"step": 0, "loss": None, "margin": True, "lr": 0.5, "note": "x"}]
    (run.path / "round-000/metrics.json").write_text(json.dumps({"learning": {"steps": [*steps, {"loss": 1e999}]}}))
    assert rows(run, "round-000/learn")[:2] == [Row(0, {"dpo/lr": 0.5}), Row(1, {})]


@pytest.mark.parametrize("content", ["{", "[]", '{"learning": {"steps": 3}}', "{}"])
def test_damaged_metrics_are_named(run: RunFolder, content: str) -> None:
    (run.path / "round-000/metrics.json").write_text(content)
    with pytest.raises(RunError, match=r"round-000/metrics\.json is damaged"):
        rows(run, "round-000/learn")


def test_a_stage_that_is_none_is_refused(run: RunFolder) -> None:
    with pytest.raises(RunError, match="round-000/checkpoint is no stage"):
        rows(run, "round-000/checkpoint")
    with pytest.raises(RunError, match="round-009/learn is not finished"):
        rows(run, "round-009/learn")


def test_axes() -> None:
    names = ("sft/loss", "dpo/loss", "ppo/kl", "heldout/x/mean", "gain/x/low", "seconds/sample", "judging/a/scored")
    axes = ["sft", "alignment", "alignment", "version", "version", "round", "round"]
    assert [axis_of(name) for name in names] == axes
