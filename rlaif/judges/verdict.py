"""What a judge says of one candidate."""

from dataclasses import dataclass, field

from rlaif.records import Failure


@dataclass(frozen=True)
class Verdict:
    """A score, or the named failure that took its place; never both and never neither.

    `counts` are error classes and matched findings where the judge has them; `explanation` is for a
    reader of the report page. Raises ValueError unless exactly one of score and failure is set.
    """

    score: float | None
    failure: Failure | None = None
    counts: dict[str, int] = field(default_factory=dict)
    explanation: str = ""

    def __post_init__(self) -> None:
        if (self.score is None) == (self.failure is None):
            raise ValueError(
                f"a verdict needs exactly one of score and failure, got score={self.score} and failure={self.failure}"
            )
