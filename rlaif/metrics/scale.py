"""From what one unit took in a run to what many take on a larger fleet: sums and quotients, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Fleet:
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

    `learnt_a_case` are pairs, with PPO reports, that a case gives in a round; `reports_a_case` held-out reports of an
    evaluation, those of the blind control included.
    """

    sft: int
    align: int
    heldout: int
    rounds: int
    candidates_a_case: int
    learnt_a_case: float
    reports_a_case: float

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
    def reports(self) -> int:
        """Held-out reports of one evaluation."""
        return round(self.heldout * self.reports_a_case)

    def of(self, studies: int) -> "Counts":
        """So many studies in the same shares; ValueError for none."""
        if studies < 1:
            raise ValueError(f"{studies} studies are none: give 1 or more")
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


def seconds_of(unit_s: float, units: float, actors: int) -> float:
    """Seconds that actors take for units of `unit_s` seconds each, if so many are as fast as one: what scales linearly,
    as long as nothing that they share is used up.
    """
    return unit_s * units / actors


@dataclass(frozen=True)
class RoundSeconds:
    """Seconds of the stages of a round."""

    sample: float
    pairs: float
    learn: float
    evaluate: float


def rounds_seconds(one: RoundSeconds, rounds: int, *, staleness: int) -> float:
    """Seconds of some rounds: one stage after the other, or with a staleness of 1 the next round's sampling beside the
    learning of each but the last.
    """
    beside = max(one.sample, one.learn) if staleness else one.sample + one.learn
    return one.sample + (rounds - 1) * beside + one.learn + rounds * (one.pairs + one.evaluate)


def per_second(size: float, unit_s: float) -> float:
    """What one actor reads in a second that reads `size` for every unit of `unit_s` seconds."""
    return size / unit_s
