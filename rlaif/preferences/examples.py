"""What a learner trains on: a round's pairs with the tokens that the policy sampled."""

from dataclasses import dataclass
from pathlib import Path

from rlaif.records import Candidate, Pair
from rlaif.tables import Table


@dataclass(frozen=True)
class Answer:
    """One side of a pair; `token_ids` is empty for the reference report, which nobody sampled."""

    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class PreferenceExample:
    """A pair as the learner needs it."""

    prompt: str
    feature_key: str | None
    chosen: Answer
    rejected: Answer


def examples_of(run: Path, round_: int) -> list[PreferenceExample]:
    """A round's preference examples, ordered by case."""
    folder = run / f"round-{round_:03d}"
    pairs = sorted(Table(folder / "pairs", Pair).read(), key=lambda pair: pair.case_id)
    wanted = {pair.case_id for pair in pairs}
    keys: dict[str, str | None] = {}
    tokens: dict[str, tuple[int, ...]] = {}
    for candidate in Table(folder / "candidates", Candidate).iterate():
        if candidate.case_id in wanted:
            keys[candidate.case_id] = candidate.feature_key
            tokens[candidate.candidate_id] = candidate.token_ids

    def answer(text: str, candidate_id: str | None) -> Answer:
        return Answer(text, tokens[candidate_id] if candidate_id is not None else ())

    return [
        PreferenceExample(
            pair.prompt,
            keys[pair.case_id],
            answer(pair.chosen, pair.chosen_candidate_id),
            answer(pair.rejected, pair.rejected_candidate_id),
        )
        for pair in pairs
    ]
