"""From what one unit took in a run to what many take with more actors: sums and quotients, and how they are written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0


@dataclass(frozen=True)
class Measured:
    """A number of one unit, with the measurement that it was made of; where there is none, why, and how to get one."""

    value: float | None
    made_of: str


@dataclass(frozen=True)
class Actors:
    """The actors of a run: engines, learner ranks, and before them the readers and encoders of the ingest."""

    name: str
    samplers: int
    ranks: int
    readers: int
    encoders: int


@dataclass(frozen=True)
class Training:
    """What the length of a training depends on."""

    epochs: int
    batch: int


@dataclass(frozen=True)
class Counts:
    """How many studies a run has of each split, and how much it makes of a case.

    `learnt_a_case` are pairs, with PPO reports, that a case gives in a round; `reports_a_case` held-out reports of a
    case that is evaluated, that of the blind control included; `heldout_limit` the most that are, whatever the size.
    """

    sft: int
    align: int
    heldout: int
    rounds: int
    candidates_a_case: int
    learnt_a_case: float
    reports_a_case: float
    heldout_limit: int | None

    @property
    def studies(self) -> int:
        """Studies of all splits."""
        return self.sft + self.align + self.heldout

    @property
    def candidates(self) -> int:
        """Candidates of a round."""
        return self.align * self.candidates_a_case

    @property
    def learnt(self) -> int:
        """Pairs, with PPO reports, of a round."""
        return round(self.align * self.learnt_a_case)

    @property
    def evaluated(self) -> int:
        """Held-out cases of one evaluation."""
        return self.heldout if self.heldout_limit is None else min(self.heldout, self.heldout_limit)

    @property
    def reports(self) -> int:
        """Held-out reports of one evaluation."""
        return round(self.evaluated * self.reports_a_case)

    def of(self, studies: int) -> "Counts":
        """So many studies in the same shares."""
        sft, heldout = (round(studies * one / self.studies) for one in (self.sft, self.heldout))
        return replace(self, sft=sft, align=studies - sft - heldout, heldout=heldout)


def busiest(items: int, trainings: Sequence[Training], ranks: int) -> int:
    """How many items the busiest rank takes one after another over all epochs of some trainings.

    A batch is shared out over the ranks: with more ranks than a batch has items, the others wait.
    """
    total = 0
    for training in trainings:
        whole, rest = divmod(items, training.batch)
        total += training.epochs * (whole * -(-training.batch // ranks) + -(-rest // ranks))
    return total


def rounds_seconds(sample: float, pairs: float, learn: float, evaluate: float, *, rounds: int, staleness: int) -> float:
    """Seconds of some rounds from those of a round's stages: one after the other, or with a staleness of 1 the next
    round's sampling beside the learning of each but the last.
    """
    beside = max(sample, learn) if staleness else sample + learn
    return sample + (rounds - 1) * beside + learn + rounds * (pairs + evaluate)


def duration(seconds: float) -> str:
    """Seconds for people: `12 s`, `8 min`, `3.2 h`, `11 days`."""
    for most, unit, name in ((2 * MINUTE_S, 1.0, "s"), (2 * HOUR_S, MINUTE_S, "min"), (4 * DAY_S, HOUR_S, "h")):
        if seconds < most:
            return f"{short(seconds / unit)} {name}"
    return f"{short(seconds / DAY_S)} days"


def short(number: float) -> str:
    """A number with three figures, and no fewer than its whole part has: `0.0123`, `45.6`, `12,345`."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def markdown_table(rows: Sequence[Sequence[str]], words: int = 0) -> str:
    """A table whose first row is its head; between the first column and the last ones of `words` stand numbers."""
    numbers = len(rows[0]) - 1 - words
    rule = ["---", *["---:"] * numbers, *["---"] * words]
    return "".join(f"| {' | '.join(row)} |\n" for row in (rows[0], rule, *rows[1:]))
