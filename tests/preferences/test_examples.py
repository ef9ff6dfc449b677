"""What the learner trains on: the very tokens that were sampled."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from rlaif.ledger import RunFolder
from rlaif.preferences.examples import Answer, PreferenceExample, examples_of
from rlaif.records import Candidate, Pair


def candidate(case: str, index: int, tokens: tuple[int, ...]) -> Candidate:
    return Candidate(
        f"{case}.0.{index}", case, case, 0, index, 0, f"Prompt of {case}.", f"text {index}", tokens,
        tuple(-1.0 for _ in tokens), "stop", True, 0, "w", f"key-{case}", 1, datetime.now(UTC),
    )  # fmt: skip


def pair(case: str, chosen: int | None, rejected: int | None) -> Pair:
    ids = [None if index is None else f"{case}.0.{index}" for index in (chosen, rejected)]
    texts = ["the report" if index is None else f"text {index}" for index in (chosen, rejected)]
    return Pair(
        f"{case}.0", case, 0, "strategy1", f"Prompt of {case}.", *texts, *ids, None, None, None, "rules"
    )  # fmt: skip


def test_pairs_come_with_their_tokens_ordered_by_case(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "run", {}) as run:
        of_b = [candidate("b", 0, (5, 6)), candidate("b", 1, (7,))]
        run.append("round-000/candidates", Candidate, [*of_b, candidate("unpaired", 0, (1,))])
        run.append("round-000/candidates", Candidate, [candidate("a", 0, (8, 9))])
        run.append("round-000/pairs", Pair, [pair("b", 1, 0), pair("a", None, 0)])
        assert examples_of(run.path, 0) == [
            PreferenceExample("Prompt of a.", "key-a", Answer("the report", ()), Answer("text 0", (8, 9))),
            PreferenceExample("Prompt of b.", "key-b", Answer("text 1", (7,)), Answer("text 0", (5, 6))),
        ]
        assert examples_of(run.path, 1) == []


def test_a_pair_of_a_candidate_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "run", {}) as run:
        run.append("round-000/candidates", Candidate, [candidate("a", 0, (8, 9))])
        run.append("round-000/pairs", Pair, [pair("a", 0, 5)])
        with pytest.raises(KeyError, match=r"a\.0\.5"):
            examples_of(run.path, 0)
