"""The schedule of comparisons: few questions, and the order that all of them would give at its ends."""

import asyncio
import math

import pytest

from rlaif.judges.tournament import most_comparisons, rounds_of, tournament


def played(strengths: list[float]) -> tuple[dict[str, float | None], list[tuple[str, str]]]:
    names = [f"c{number}" for number in range(len(strengths))]
    of = dict(zip(names, strengths, strict=True))
    asked: list[tuple[str, str]] = []

    async def compare_all(pairs: list[tuple[str, str]]) -> list[float | None]:
        asked.extend(pairs)
        return [0.5 if of[a] == of[b] else float(of[a] > of[b]) for a, b in pairs]

    return asyncio.run(tournament(names, compare_all)), asked


@pytest.mark.parametrize("n", range(2, 17))
def test_it_asks_at_most_half_n_log_n_comparisons_and_never_one_twice(n: int) -> None:
    scores, asked = played([float((7 * number) % 17) for number in range(n)])
    rounds = math.ceil(math.log2(n)) + n % 2
    assert len(asked) <= rounds * (n // 2) <= most_comparisons(n) <= n * (n - 1) / 2
    assert len({frozenset(pair) for pair in asked}) == len(asked)
    assert all(score is not None for score in scores.values())
    assert rounds_of(n) == rounds


@pytest.mark.parametrize(
    "strengths", [[3, 1, 2, 6, 5, 4], [1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [2, 1], [1, 3, 2, 4], [2, 3, 1]]
)
def test_the_best_wins_all_of_its_comparisons_and_the_worst_none(strengths: list[float]) -> None:
    scores, _ = played(strengths)
    names = list(scores)
    assert scores[names[strengths.index(max(strengths))]] == 1.0
    assert scores[names[strengths.index(min(strengths))]] == 0.0


def test_six_candidates_have_three_comparisons_each_and_known_scores() -> None:
    scores, asked = played([3, 1, 2, 6, 5, 4])
    assert len(asked) == 9 and all(sum(name in pair for pair in asked) == 3 for name in scores)
    assert asked[:3] == [("c0", "c1"), ("c2", "c3"), ("c4", "c5")]
    assert sum(score or 0 for score in scores.values()) == pytest.approx(3.0)


def test_equal_candidates_are_all_even() -> None:
    assert set(played([1, 1, 1, 1])[0].values()) == {0.5}


def test_one_candidate_is_compared_with_nobody() -> None:
    assert played([1.0]) == ({"c0": None}, [])


def test_what_failed_does_not_count() -> None:
    async def compare_all(pairs: list[tuple[str, str]]) -> list[float | None]:
        return [None if "c0" in pair else 1.0 for pair in pairs]

    scores = asyncio.run(tournament(["c0", "c1", "c2", "c3"], compare_all))
    assert scores["c0"] is None and scores["c2"] == 1.0 and scores["c3"] == 0.0
