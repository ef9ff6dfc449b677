"""What a run of some size keeps on disk and sends over the wire, from what one unit took in a finished run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlaif.metrics.measured import Measured
from rlaif.metrics.run_bytes import (
    feature_bytes_stored,
    heldout_rows,
    messages,
    policy_bytes,
    round_rows,
    row_bytes,
    weight_bytes,
)
from rlaif.metrics.run_rates import RunRates
from rlaif.metrics.scale import Counts, Fleet
from rlaif.models.settings import read_settings
from rlaif.plan_needs import CHECKPOINTS
from rlaif.records import Study


@dataclass(frozen=True)
class Volume:
    """Bytes of one unit, and how many units there are; `when` says how often they come."""

    what: str
    unit: str
    each: Measured
    units: float
    when: str

    @property
    def total(self) -> float | None:
        """Bytes of all units; None where one was not measured."""
        return None if self.each.value is None else self.each.value * self.units


def kept(rates: RunRates, counts: Counts) -> tuple[Volume, ...]:
    """What such a run keeps on disk."""
    run, rows = rates.path, round_rows(rates.path / rates.last)
    candidates, comparisons = counts.candidates, rows["comparisons"]
    checkpoint = run / rates.last / "checkpoint"
    told = [
        Volume("feature store", "a study", features_of(rates), counts.studies, "once"),
        Volume("studies", "a study", row_bytes(run / "studies", Study, "studies"), counts.studies, "once"),
        Volume("candidates", "a candidate", rows["candidates"], candidates, "a round"),
        Volume("judgements", "a candidate", rows["judgements"], candidates, "a round"),
        Volume("pairs", "a pair", rows["pairs"], counts.learnt, "a round"),
        Volume("held-out", "a report", heldout_rows(run / "heldout" / rates.last), counts.reports, "an evaluation"),
        Volume("policies", "a policy", policy_bytes(checkpoint), policies(rates, counts.rounds), "at most at once"),
    ]
    if comparisons.value is not None:
        pairwise = next((one for one in rates.judges if one.pairwise), None)
        asked = counts.align * pairwise.questions_a_case if pairwise else 0.0
        told.insert(4, Volume("comparisons", "a question", comparisons, asked, "a round"))
    return tuple(told)


def sent(rates: RunRates, counts: Counts, fleets: Sequence[Fleet]) -> tuple[Volume, ...]:
    """What goes over the network in a round: features from the shared file system, the rest between actors."""
    run, config = rates.path, rates.config
    told = messages(run, rates.last, config["run"]["target"])
    features = features_of(rates)
    weights = weight_bytes(run / rates.last / "checkpoint", with_encoder=rates.bypasses_store)
    return (
        Volume("features, samplers", "a case", features, counts.align, "a round"),
        Volume("features, learners", "a pair", features, counts.learnt * passes(rates), "a round"),
        Volume("features, evaluation", "a report", features, counts.reports, "a round"),
        Volume("candidates to the controller", "a candidate", told["candidate"], counts.candidates, "a round"),
        Volume("reports to each judge", "a case", told["reports"], counts.align, "a round"),
        Volume("judgements back", "a candidate", told["judgement"], counts.candidates, "a round, each judge"),
        *(Volume(f"weights, {one.name}", "an engine", weights, one.samplers, "a round") for one in fleets),
    )


def passes(rates: RunRates) -> int:
    """How often the learners read a pair, with PPO a report, in a round: in every epoch, and before or beside the first
    for the reference, with a value head for its values too.
    """
    valued = rates.config["run"].get("alignment") == "ppo" and rates.config["learner"]["ppo"]["advantage"] == "gae"
    return rates.alignment.epochs + 1 + int(valued)


def features_of(rates: RunRates) -> Measured:
    """Bytes of a study's features in the store."""
    if rates.bypasses_store:
        return Measured(None, "the encoder trains: nothing is kept, actors read the CTs")
    settings = read_settings(rates.path / rates.last / "checkpoint")
    return feature_bytes_stored(rates.path, Path(rates.config["cache"]["root"]), settings)


def policies(rates: RunRates, rounds: int) -> int:
    """Policy folders that stand at once: checkpoints, the two that are kept and the one being written; where the run
    fine-tunes, the start policy and each training's in the cache, and the run's own copy of the base.
    """
    fine_tunes = rates.config["policy"].get("path") is None
    return min(rounds, CHECKPOINTS) + (2 + len(rates.fine_tunings) if fine_tunes else 0)
