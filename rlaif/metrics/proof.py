"""What must hold of several seeds together for a gain to be called real."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlaif.metrics.intervals import Interval, differences, interval_words, pooled
from rlaif.records import HeldoutReport
from rlaif.tables import Table

Values = dict[str, float]


@dataclass(frozen=True)
class Seed:
    """The held-out reports of one finished run, by policy and control."""

    base: dict[bool, list[HeldoutReport]]
    last: dict[bool, list[HeldoutReport]]
    patients: dict[str, str]

    @property
    def cases(self) -> int:
        """Held-out cases."""
        return len(self.patients)

    def values(self, policy: str, metric: str, *, control: bool = False) -> Values:
        """A metric of every case that has it."""
        rows: list[HeldoutReport] = getattr(self, policy)[control]
        return {row.case_id: row.metrics[metric] for row in rows if metric in row.metrics}


def seed_of(run: Path) -> Seed:
    """The seed of a run folder whose run is finished."""
    rounds = len(json.loads((run / "summary.json").read_text(encoding="utf-8"))["rounds"])
    last = f"round-{rounds - 1:03d}" if rounds else "base"
    policies = {}
    for name in ("base", last):
        rows = Table(run / "heldout" / name, HeldoutReport).read()
        policies[name] = {control: [row for row in rows if row.control == control] for control in (False, True)}
    patients = {row.case_id: row.patient_id for row in policies["base"][False]}
    return Seed(policies["base"], policies[last], patients)


@dataclass(frozen=True)
class Claim:
    """A difference of two measurements of the same cases, and the condition that it must meet.

    `blind`: one of the two is of reports that were written from another patient's image.
    """

    words: str
    measure: Callable[[Seed], tuple[Values, Values]]
    holds: Callable[[Interval, Sequence[float], Sequence[Seed]], bool]
    blind: bool = False


@dataclass(frozen=True)
class Answer:
    """What the seeds say to a claim: the pooled difference, that of each seed, and whether the claim holds.

    Where a seed has nothing to measure it on, its mean is None, there is no pooled difference, and the claim fails.
    """

    interval: Interval | None
    means: tuple[float | None, ...]
    holds: bool

    @property
    def shown(self) -> tuple[str, ...]:
        """The pooled difference with its interval, and each seed's, for people to read."""
        pooled = self.interval
        told = "not measured" if pooled is None else interval_words(pooled.mean, pooled.low, pooled.high)
        return told, *("-" if mean is None else f"{mean:+.3f}" for mean in self.means)


def _gain(metric: str) -> Callable[[Seed], tuple[Values, Values]]:
    return lambda seed: (seed.values("base", metric), seed.values("last", metric))


def _blind(policy: str) -> Callable[[Seed], tuple[Values, Values]]:
    return lambda seed: (seed.values(policy, "finding_f1"), seed.values(policy, "finding_f1", control=True))


def _words_before(seeds: Sequence[Seed]) -> float:
    values = [value for seed in seeds for value in seed.values("base", "report_words").values()]
    return sum(values) / len(values)


CLAIMS = (
    Claim(
        "rules_score rises: interval above 0, every seed above 0",
        _gain("rules_score"),
        lambda interval, means, seeds: interval.above(0) and all(mean > 0 for mean in means),
    ),
    Claim("finding_f1 does not fall: lower bound above -0.02", _gain("finding_f1"), lambda i, *_: i.above(-0.02)),
    Claim(
        "report_words changes by at most 15 %",
        _gain("report_words"),
        lambda interval, means, seeds: abs(interval.mean) <= 0.15 * _words_before(seeds),
    ),
    Claim(
        "base reads the image: blind finding_f1 falls",
        _blind("base"),
        lambda interval, *_: interval.below(0),
        blind=True,
    ),
    Claim(
        "last policy reads the image: blind finding_f1 falls",
        _blind("last"),
        lambda interval, *_: interval.below(0),
        blind=True,
    ),
)


def claims_of(seeds: Sequence[Seed]) -> tuple[list[Claim], list[Claim]]:
    """The claims that can be held against these runs, and those that are left out: what no seed can be measured on.

    Policies that read text alone have no blind control. One that a single seed has must be there in all of them.
    """
    kept = [claim for claim in CLAIMS if any(_applies(claim, seed) for seed in seeds)]
    return kept, [claim for claim in CLAIMS if claim not in kept]


def answer_of(claim: Claim, seeds: Sequence[Seed]) -> Answer:
    """What the seeds together say to a claim."""
    measured = [(*claim.measure(seed), seed.patients) for seed in seeds]
    if any(not before.keys() & after.keys() for before, after, _ in measured):
        return Answer(None, tuple(_mean(before, after) for before, after, _ in measured), holds=False)
    parts = [differences(*one) for one in measured]
    interval, means = pooled(parts), [sum(values) / len(values) for values, _ in parts]
    return Answer(interval, tuple(means), claim.holds(interval, means, seeds))


def _applies(claim: Claim, seed: Seed) -> bool:
    if claim.blind:
        return bool(seed.base[True] or seed.last[True])
    before, after = claim.measure(seed)
    return bool(before.keys() & after.keys())


def _mean(before: Values, after: Values) -> float | None:
    common = before.keys() & after.keys()
    return sum(after[case] - before[case] for case in common) / len(common) if common else None
