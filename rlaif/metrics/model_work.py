"""The arithmetic of a language model's work, in floating-point operations: what a stage needs, whatever it runs on.

2 operations a parameter and position for a forward pass, as many for the gradients of activations, and as many for
those of weights. The attention's own products are left out: they grow with the length, and come on top.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rlaif.metrics.scale import Counts, Training, busiest

FORWARD = 2


@dataclass(frozen=True)
class Lengths:
    """Positions of a policy's sequences: visual tokens, the words of a prompt, a report."""

    visual: int
    prompt: int
    report: int

    @property
    def asked(self) -> int:
        """Positions of a prompt with its visual tokens."""
        return self.visual + self.prompt

    @property
    def pair(self) -> int:
        """Positions of a pair, whose two reports share their prompt."""
        return self.asked + 2 * self.report

    @property
    def taught(self) -> int:
        """Positions of a report that is learnt by fine-tuning."""
        return self.asked + self.report


@dataclass(frozen=True)
class Model:
    """A policy's language model in a training: its parameters, whether its own weights stay, as with adapters or where
    the connector alone trains, and whether activations are computed anew in the backward pass.
    """

    parameters: int
    frozen: bool
    checkpointing: bool

    @property
    def learning(self) -> int:
        """Operations a parameter and position of a step, forward and backward."""
        return FORWARD + FORWARD + (0 if self.frozen else FORWARD) + (FORWARD if self.checkpointing else 0)

    def read(self, positions: float) -> float:
        """Operations to read positions, or to write them one by one."""
        return FORWARD * self.parameters * positions

    def learnt(self, positions: float) -> float:
        """Operations to learn from positions."""
        return self.learning * self.parameters * positions

    def sampled(self, lengths: Lengths, candidates: int) -> float:
        """Operations to write the candidates of a case, which share their prompt."""
        return self.read(lengths.asked + candidates * lengths.report)


@dataclass(frozen=True)
class Speed:
    """What one GPU does, as its user measured it: tokens that an engine writes a second, and operations a second that a
    learner's rank sustains.
    """

    tokens: float
    operations: float


@dataclass(frozen=True)
class StageSeconds:
    """Seconds of the stages of a run at given speeds: fine-tuning, and of one round the others."""

    fine_tuning: float
    sample: float
    reference: float
    learn: float
    evaluate: float


@dataclass(frozen=True)
class Taught:
    """One supervised training, and the language model in it."""

    training: Training
    model: Model


def stage_seconds(
    model: Model,
    lengths: Lengths,
    counts: Counts,
    trainings: Sequence[Taught],
    alignment: Training,
    *,
    engines: int,
    ranks: int,
    speed: Speed,
) -> StageSeconds:
    """The seconds of a run's stages: work divided by what all engines or ranks do in a second."""
    taught = sum(busiest(counts.sft, (one.training,), ranks) * one.model.learnt(lengths.taught) for one in trainings)
    learnt = busiest(counts.learnt, (alignment,), ranks) * model.learnt(lengths.pair)
    # Computed before training, it is shared out pair by pair, whatever the batch.
    reference = counts.learnt / ranks * model.read(lengths.pair)
    return StageSeconds(
        fine_tuning=taught / speed.operations,
        sample=counts.candidates * lengths.report / speed.tokens / engines,
        reference=reference / speed.operations,
        learn=learnt / speed.operations,
        evaluate=counts.reports * lengths.report / speed.tokens / engines,
    )
