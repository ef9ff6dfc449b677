"""What the stages of a run of some size take on a fleet, from what one unit took in a finished run."""

import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from rlaif.metrics.measured import Measured
from rlaif.metrics.run_rates import RunRates
from rlaif.metrics.scale import Counts, Fleet, RoundSeconds, Training, busiest, rounds_seconds, seconds_of
from rlaif.records import Candidate, Judgement
from rlaif.tables import Table

# Rows that the controller's work is tried on.
ROWS = 2000


@dataclass(frozen=True)
class Stage:
    """One stage: what one actor takes for a unit, and the seconds of all units on each fleet, in order."""

    what: str
    unit: str
    each: Measured
    units: float
    seconds: tuple[float | None, ...]
    limit: str


def stages(rates: RunRates, counts: Counts, fleets: Sequence[Fleet]) -> tuple[Stage, ...]:
    """The stages of a run: before the rounds, those of one round, and the rounds together.

    Without `run.staleness` the stages of a round follow each other; with 1, the next round is sampled while one is
    learnt.
    """
    fine_tuned = sum(one.epochs for one in rates.fine_tunings) * counts.sft
    sampled = _spread(rates.sample, counts.candidates, [one.samplers for one in fleets])
    paired = _spread(rates.pairs, counts.align, [1 for _ in fleets])
    learnt = _learnt(rates.learn, counts.learnt, [rates.alignment], fleets)
    evaluated = _spread(rates.evaluate, counts.reports, [one.samplers for one in fleets])
    rows = controller_seconds(rates.path / rates.last)
    together = [
        None if None in parts else RoundSeconds(*(one for one in parts if one is not None))
        for parts in zip(sampled, paired, learnt, evaluated, strict=True)
    ]
    of_rounds = Measured(None, "the stages of a round; ingest, fine-tuning and the base's evaluation come before")

    def all_rounds(staleness: int) -> Stage:
        seconds = tuple(
            None if one is None else rounds_seconds(one, counts.rounds, staleness=staleness) for one in together
        )
        return Stage(f"all rounds, `run.staleness={staleness}`", "a round", of_rounds, counts.rounds, seconds, "")

    return (
        Stage(
            "ingest: read, recipe",
            "a study",
            rates.read,
            counts.studies,
            _spread(rates.read, counts.studies, [one.readers for one in fleets]),
            "readers; the bandwidth of the CTs' storage",
        ),
        Stage(
            "ingest: encode, beside it",
            "a study",
            rates.encode,
            counts.studies,
            _spread(rates.encode, counts.studies, [one.encoders for one in fleets]),
            "encoders",
        ),
        Stage(
            "fine-tuning",
            "a report and epoch",
            rates.fine_tuning,
            fine_tuned,
            _learnt(rates.fine_tuning, counts.sft, rates.fine_tunings, fleets),
            "ranks, no more than a batch has cases; gradients between nodes",
        ),
        Stage(
            "sample and judge, a round",
            "a candidate",
            rates.sample,
            counts.candidates,
            sampled,
            "engines; judges that ask a service; features",
        ),
        Stage(
            "the controller's rows, beside it",
            "a candidate",
            rows,
            counts.candidates,
            _spread(rows, counts.candidates, [1 for _ in fleets]),
            "one process, whatever the fleet; Ray's own work comes on top",
        ),
        Stage("pairs, a round", "a case", rates.pairs, counts.align, paired, "the controller alone"),
        Stage(
            "learn, a round",
            "a pair and epoch",
            rates.learn,
            counts.learnt * rates.alignment.epochs,
            learnt,
            "as fine-tuning",
        ),
        Stage(
            "evaluate, a round",
            "a report",
            rates.evaluate,
            counts.reports,
            evaluated,
            "engines; metrics in the controller",
        ),
        all_rounds(0),
        all_rounds(1),
    )


def controller_seconds(folder: Path) -> Measured:
    """Processor seconds that the controller takes to unpack a candidate with its judgement and to write both; tried
    here and now on rows of a finished round.
    """
    candidates = list(islice(Table(folder / "candidates", Candidate).iterate(), ROWS))
    judgements = list(islice(Table(folder / "judgements", Judgement).iterate(), len(candidates)))
    messages = pickle.dumps(candidates, protocol=5), pickle.dumps(judgements, protocol=5)
    with TemporaryDirectory(prefix="rlaif-scale-") as name:
        sampled, judged = Table(Path(name) / "candidates", Candidate), Table(Path(name) / "judgements", Judgement)
        began = time.process_time()
        sampled.append(pickle.loads(messages[0]))
        judged.append(pickle.loads(messages[1]))
        sampled.compact("candidate_id")
        judged.compact("judgement_id")
        took = time.process_time() - began
    return Measured(took / len(candidates), f"{took:.2f} s / {len(candidates):,} candidates, tried now on this machine")


def _spread(each: Measured, units: float, actors: Sequence[int]) -> tuple[float | None, ...]:
    """Nothing takes no time, whether it was measured or not."""
    return tuple(
        0.0 if not units else None if each.value is None else seconds_of(each.value, units, one) for one in actors
    )


def _learnt(
    each: Measured, items: int, trainings: Sequence[Training], fleets: Sequence[Fleet]
) -> tuple[float | None, ...]:
    return tuple(None if each.value is None else each.value * busiest(items, trainings, one.ranks) for one in fleets)
