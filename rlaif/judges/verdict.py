"""What a judge says of one candidate."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce

from rlaif.records import Failure


@dataclass(frozen=True)
class Usage:
    """What questions took: tokens, US dollars and seconds; `cached` where nothing had to be asked."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    latency_s: float = 0.0
    cached: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost_usd + other.cost_usd,
            self.latency_s + other.latency_s,
            self.cached and other.cached,
        )


def total(usages: Iterable[Usage]) -> Usage:
    """What several questions took together; nothing where there are none."""
    known = list(usages)
    return reduce(operator.add, known) if known else Usage()


@dataclass(frozen=True)
class Verdict:
    """A score, or the named failure that took its place; never both and never neither.

    `counts` are error classes and matched findings where the judge has them, `scores` further scores of the same
    reply by name, `raw` the replies as they came; `explanation` is for a reader of the report page. Raises ValueError
    unless exactly one of score and failure is set.
    """

    score: float | None
    failure: Failure | None = None
    counts: dict[str, int] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    explanation: str = ""
    raw: str | None = None
    usage: Usage = Usage()

    def __post_init__(self) -> None:
        if (self.score is None) == (self.failure is None):
            raise ValueError(
                f"a verdict needs exactly one of score and failure, got score={self.score} and failure={self.failure}"
            )
