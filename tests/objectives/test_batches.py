"""The plan of steps: nothing twice, nothing left out, and ranks that stay in step."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.objectives.batches import MicroBatch, evaluation_batches, plan_steps

plans = st.fixed_dictionaries(
    {
        "lengths": st.lists(st.integers(1, 500), min_size=1, max_size=40),
        "batch": st.integers(1, 17),
        "epochs": st.integers(1, 3),
        "ranks": st.integers(1, 3),
        "micro_batch": st.integers(1, 6),
        "seed": st.integers(0, 2**31),
    }
)


def weighted(step: list[list[MicroBatch]]) -> list[tuple[int, float]]:
    return [
        (item, weight)
        for rank in step
        for micro in rank
        for item, weight in zip(micro.items, micro.weights, strict=True)
        if weight > 0
    ]


@given(plans)
def test_every_item_once_an_epoch(arguments: dict) -> None:
    plan = plan_steps(**arguments)
    count, batch, epochs = len(arguments["lengths"]), arguments["batch"], arguments["epochs"]
    steps = -(-count // batch)
    assert len(plan) == steps * epochs
    for epoch in range(epochs):
        of_epoch = plan[epoch * steps : (epoch + 1) * steps]
        seen = Counter(item for step in of_epoch for item, _ in weighted(step))
        assert seen == Counter(range(count))
        assert [len(weighted(step)) for step in of_epoch[:-1]] == [batch] * (steps - 1)


@given(plans)
def test_the_mean_over_ranks_of_weighted_sums_is_the_mean_over_the_steps_items(arguments: dict) -> None:
    values = [float(length) for length in arguments["lengths"]]
    for step in plan_steps(**arguments):
        sums = [sum(values[i] * w for m in rank for i, w in zip(m.items, m.weights, strict=True)) for rank in step]
        items = [item for item, _ in weighted(step)]
        assert sum(sums) / arguments["ranks"] == pytest.approx(sum(values[i] for i in items) / len(items))


@given(plans)
def test_ranks_have_equally_many_full_micro_batches(arguments: dict) -> None:
    for step in plan_steps(**arguments):
        assert len(step) == arguments["ranks"]
        assert len({len(rank) for rank in step}) == 1 and step[0]
        for rank in step:
            for micro in rank:
                assert 1 <= len(micro.items) <= arguments["micro_batch"]
                assert len(micro.items) == len(micro.weights)


def test_the_seed_decides_and_epochs_differ() -> None:
    lengths = list(range(10, 50))
    first = plan_steps(lengths, batch=8, epochs=2, ranks=2, micro_batch=4, seed=1)
    assert first == plan_steps(lengths, batch=8, epochs=2, ranks=2, micro_batch=4, seed=1)
    assert first != plan_steps(lengths, batch=8, epochs=2, ranks=2, micro_batch=4, seed=2)
    assert first[:5] != first[5:]


def test_items_of_like_length_share_a_micro_batch() -> None:
    [[rank]] = plan_steps([9, 1, 8, 2], batch=4, epochs=1, ranks=1, micro_batch=2, seed=0)
    assert [set(micro.items) for micro in rank] == [{1, 3}, {0, 2}]


def test_a_rank_without_items_keeps_step_at_weight_zero() -> None:
    [[first, second, third]] = plan_steps([5, 6], batch=4, epochs=1, ranks=3, micro_batch=2, seed=0)
    assert [micro.weights for micro in (*first, *second, *third)] == [(1.5,), (1.5,), (0.0,)]
    assert third[0].items == (0,)


def test_nothing_to_train_on_is_no_step() -> None:
    assert plan_steps([], batch=4, epochs=3, ranks=2, micro_batch=2, seed=0) == []


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 4), st.integers(1, 6))
def test_an_evaluation_reaches_every_item_on_ranks_in_step(lengths: list[int], ranks: int, batch: int) -> None:
    shares = [evaluation_batches(lengths, rank=rank, ranks=ranks, batch=batch) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    items = [item for share in shares for one in share for item in one]
    assert set(items) == set(range(len(lengths)))
    # What is there twice only keeps a rank in step.
    assert len(items) - len(lengths) <= batch * (ranks - 1)
    assert all(1 <= len(one) <= batch for share in shares for one in share)
