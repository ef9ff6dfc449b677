"""A schedule of pairwise comparisons: a Swiss tournament, in which each round pairs what has done equally well.

ceil(log2 n) rounds of n/2 comparisons each (with an odd number one round more, for one rests in each): about
n log2 n / 2 comparisons, where all against all would be n (n - 1) / 2. Every candidate has as many as the others, give
or take one.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

# What one comparison says of its first candidate: won 1, drawn 0.5, lost 0; None where nothing valid was said.
Result = float | None


def rounds_of(candidates: int) -> int:
    """How many rounds a tournament of so many candidates has: one more where one of them rests in each."""
    if candidates < 2:
        return 0
    return math.ceil(math.log2(candidates)) + candidates % 2


def most_comparisons(candidates: int) -> int:
    """How many comparisons a tournament of so many candidates makes at most."""
    return rounds_of(candidates) * (candidates // 2)


async def tournament(
    candidates: Sequence[str], compare_all: Callable[[list[tuple[str, str]]], Awaitable[list[Result]]]
) -> dict[str, float | None]:
    """Each candidate's score: (wins + ties / 2) / its valid comparisons; None without one.

    `compare_all` is given the pairs of one round, which do not depend on each other. The candidates' order decides
    between equals.
    """
    points = dict.fromkeys(candidates, 0.0)
    valid = dict.fromkeys(candidates, 0)
    rested: set[str] = set()
    met: set[frozenset[str]] = set()
    for _ in range(rounds_of(len(candidates))):
        pairs, resting = _pairing(candidates, points, met, rested)
        rested |= resting
        met |= {frozenset(pair) for pair in pairs}
        for (first, second), result in zip(pairs, await compare_all(pairs), strict=True):
            if result is not None:
                points[first] += result
                points[second] += 1 - result
                valid[first] += 1
                valid[second] += 1
    return {one: points[one] / valid[one] if valid[one] else None for one in candidates}


def _pairing(
    candidates: Sequence[str], points: dict[str, float], met: set[frozenset[str]], rested: set[str]
) -> tuple[list[tuple[str, str]], set[str]]:
    """The pairs of a round, best first, and who rests: with an odd number the last that has not yet."""
    place = {one: number for number, one in enumerate(candidates)}
    standing = sorted(candidates, key=lambda one: (-points[one], place[one]))
    resting: set[str] = set()
    if len(standing) % 2:
        last = next((one for one in reversed(standing) if one not in rested), standing[-1])
        resting = {last}
        standing.remove(last)
    pairs = _matched(standing, met)
    if pairs is None:
        # Everybody left has met: nobody is asked about the same two again.
        fresh = [one for one in standing if any(frozenset((one, other)) not in met for other in standing)]
        pairs, resting = [], resting | set(standing)
        while fresh:
            first = fresh.pop(0)
            second = next((one for one in fresh if frozenset((first, one)) not in met), None)
            if second is not None:
                fresh.remove(second)
                pairs.append((first, second))
                resting -= {first, second}
    return pairs, resting


def _matched(standing: Sequence[str], met: set[frozenset[str]]) -> list[tuple[str, str]] | None:
    """Everybody paired with the best placed opponent not met yet; None where that cannot be done for all."""
    if not standing:
        return []
    first, *others = standing
    for second in others:
        if frozenset((first, second)) in met:
            continue
        rest = _matched([one for one in others if one != second], met)
        if rest is not None:
            return [(first, second), *rest]
    return None
