"""From what a small run took to what a large one takes: known numbers, by hand."""

from dataclasses import replace

import pytest

from rlaif.metrics.measured import duration, short
from rlaif.metrics.model_work import Lengths, Model, Speed, Taught, stage_seconds
from rlaif.metrics.scale import Counts, RoundSeconds, Training, busiest, rounds_seconds, seconds_of


def test_the_busiest_rank_takes_its_share_of_every_batch() -> None:
    assert busiest(10, [Training(1, 4)], ranks=2) == 2 + 2 + 1
    assert busiest(10, [Training(3, 4)], ranks=4) == 3 * 3
    # More ranks than a batch has items wait.
    assert busiest(8, [Training(1, 4)], ranks=16) == 2
    assert busiest(10, [Training(1, 1), Training(2, 5)], ranks=4) == 10 + 2 * 4
    assert busiest(0, [Training(1, 4)], ranks=2) == 0


def test_more_studies_keep_their_shares() -> None:
    counts = Counts(2000, 800, 200, 2, 6, 0.9, 2.0).of(50_000)
    assert (counts.sft, counts.align, counts.heldout) == (33_333, 13_334, 3_333)
    assert counts.studies == 50_000
    assert (counts.candidates, counts.learnt, counts.reports) == (80_004, 12_001, 6_666)
    with pytest.raises(ValueError, match="give 1 or more"):
        counts.of(0)


def test_rounds_with_and_without_sampling_beside_learning() -> None:
    one = RoundSeconds(sample=10.0, pairs=1.0, learn=4.0, evaluate=2.0)
    assert rounds_seconds(one, 3, staleness=0) == 3 * 17
    assert rounds_seconds(one, 3, staleness=1) == 10 + 2 * 10 + 4 + 3 * 3
    assert rounds_seconds(one, 1, staleness=1) == rounds_seconds(one, 1, staleness=0) == 17
    assert seconds_of(0.5, 100, 10) == 5.0


def test_numbers_for_people() -> None:
    assert [duration(one) for one in (3.21, 119.0, 480.0, 11520.0, 950400.0)] == [
        "3.21 s",
        "119 s",
        "8 min",
        "3.2 h",
        "11 days",
    ]
    assert [short(one) for one in (0.012345, 45.67, 12345.6)] == ["0.0123", "45.7", "12,346"]


def test_operations_of_a_language_model() -> None:
    lengths = Lengths(visual=256, prompt=40, report=250)
    assert (lengths.asked, lengths.pair, lengths.taught) == (296, 796, 546)
    model = Model(parameters=1000, frozen=False, checkpointing=True)
    assert (model.learning, replace(model, frozen=True).learning, replace(model, checkpointing=False).learning) == (
        8,
        6,
        6,
    )
    assert model.sampled(lengths, 6) == 2 * 1000 * (296 + 6 * 250)
    assert model.learnt(lengths.pair) == 8 * 1000 * 796
    counts = Counts(sft=40, align=20, heldout=10, rounds=1, candidates_a_case=6, learnt_a_case=1.0, reports_a_case=2.0)
    connector_alone = Taught(Training(1, 4), replace(model, frozen=True))
    told = stage_seconds(
        model,
        lengths,
        counts,
        [connector_alone, Taught(Training(2, 4), model)],
        Training(1, 2),
        engines=4,
        ranks=4,
        speed=Speed(tokens=100.0, operations=1e6),
    )
    assert told.fine_tuning == pytest.approx((10 * 6 + 20 * 8) * 1000 * 546 / 1e6)
    assert told.sample == pytest.approx(120 * 250 / 100 / 4)
    assert told.reference == pytest.approx(20 / 4 * 2 * 1000 * 796 / 1e6)
    # Batches of two pairs keep two ranks busy.
    assert told.learn == pytest.approx(10 * 8 * 1000 * 796 / 1e6)
    assert told.evaluate == pytest.approx(20 * 250 / 100 / 4)
