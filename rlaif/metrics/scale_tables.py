"""The tables of a run's rates and of what they come to at another size, in Markdown."""

import math
import pickle
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from rlaif.metrics.run_bytes import ByteCount, kept, sent
from rlaif.metrics.run_rates import JudgeRates, RunRates
from rlaif.metrics.scale import (
    MINUTE_S,
    Actors,
    Counts,
    Measured,
    Training,
    busiest,
    duration,
    markdown_table,
    rounds_seconds,
    short,
)
from rlaif.plan_memory import amount
from rlaif.records import Candidate, Judgement
from rlaif.tables import Table

ABSENT = "-"
# Rows that the controller's work is tried on.
ROWS = 2000


def scale_tables(
    rates: RunRates, counts: Counts, fleets: Sequence[Actors], judges: Sequence[JudgeRates], per_minute: float | None
) -> str:
    """What a run measured, and what that makes of the counts on each fleet; `per_minute` are questions that a judge's
    service takes. A table each for bytes on disk, bytes on the wire, time, and judges.
    """
    sections = [
        _head(rates, counts),
        _bytes("On disk", kept(rates, counts)),
        _bytes("On the wire", sent(rates, counts, fleets)),
        _times(stages(rates, counts, fleets), fleets),
        _judging(judges, counts, per_minute),
    ]
    return "\n".join(sections)


@dataclass(frozen=True)
class Stage:
    """One stage: what one actor takes for a unit, and the seconds of all units on each fleet, in order; what cannot be
    told is no number.
    """

    what: str
    unit: str
    each: Measured
    units: int
    seconds: tuple[float, ...]
    limit: str


def stages(rates: RunRates, counts: Counts, fleets: Sequence[Actors]) -> tuple[Stage, ...]:
    """The stages of a run: before the rounds, those of one round, and the rounds together.

    Without `run.staleness` the stages of a round follow each other; with 1, the next round is sampled while one is
    learnt, which PPO cannot: nor does it build pairs.
    """
    readers, encoders, engines = zip(*((one.readers, one.encoders, one.samplers) for one in fleets), strict=True)
    alone = [1] * len(fleets)

    def spread(what: str, unit: str, each: Measured, units: int, actors: Iterable[int], limit: str) -> Stage:
        """A stage of which any actor takes a share: so many are as fast as one, times their number."""
        return Stage(what, unit, each, units, tuple(_seconds(each, units / one) for one in actors), limit)

    def learnt(what: str, unit: str, each: Measured, items: int, trainings: Sequence[Training], limit: str) -> Stage:
        """A stage of the ranks, over which each batch is shared out."""
        seconds = tuple(_seconds(each, busiest(items, trainings, one.ranks)) for one in fleets)
        return Stage(what, unit, each, items * sum(one.epochs for one in trainings), seconds, limit)

    reading = "readers; the bandwidth of the CTs' storage"
    teaching = "ranks, no more than a batch has cases; gradients between nodes"
    asking, scoring = "engines; judges that ask a service; features", "engines; metrics in the controller"
    one_process = "one process, whatever the fleet; Ray's own work comes on top"
    learning, by_reports = f"a {rates.learns_from} and epoch", rates.config.reinforcement is not None
    rows = controller_seconds(rates.path / rates.last)
    before = (
        spread("ingest: read, recipe", "a study", rates.read, counts.studies, readers, reading),
        spread("ingest: encode, beside it", "a study", rates.encode, counts.studies, encoders, "encoders"),
        learnt("fine-tuning", "a report and epoch", rates.fine_tuning, counts.sft, rates.fine_tunings, teaching),
    )
    in_turn = (
        spread("sample and judge, a round", "a candidate", rates.sample, counts.candidates, engines, asking),
        spread("pairs, a round", "a case", rates.pairs, counts.align, alone, "the controller alone"),
        learnt("learn, a round", learning, rates.learn, counts.learnt, [rates.alignment], "as fine-tuning"),
        spread("evaluate, a round", "a report", rates.evaluate, counts.reports, engines, scoring),
    )
    beside = spread(
        "the controller's rows, beside sampling", "a candidate", rows, counts.candidates, alone, one_process
    )
    apart = Measured(None, "the stages of a round; ingest, fine-tuning and the base's evaluation come before")
    of_fleets = list(zip(*(one.seconds for one in in_turn), strict=True))
    together = (
        Stage(
            f"all rounds, `run.staleness={staleness}`",
            "a round",
            apart,
            counts.rounds,
            tuple(rounds_seconds(*parts, rounds=counts.rounds, staleness=staleness) for parts in of_fleets),
            "",
        )
        for staleness in ((0,) if by_reports else (0, 1))
    )
    return *before, *(one for one in in_turn if not (by_reports and one.each is rates.pairs)), beside, *together


def _seconds(each: Measured, units: float) -> float:
    """Nothing takes no time, whether it was measured or not."""
    return 0.0 if not units else math.nan if each.value is None else each.value * units


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


def _head(rates: RunRates, counts: Counts) -> str:
    """What the tables are of."""
    learnt = "reports to learn from" if rates.config.reinforcement else "pairs"
    limit = f", of which heldout.limit={counts.evaluated:,} are evaluated" if counts.evaluated < counts.heldout else ""
    where = "on GPUs" if rates.on_gpus else "without GPUs: its actors, and those of every column, are CPU actors"
    return (
        f"{counts.studies:,} studies: {counts.sft:,} to fine-tune on, {counts.align:,} to align on, "
        f"{counts.heldout:,} held out{limit}; rounds: {counts.rounds}. Of the run `{rates.path.name}`, {rates.last}: "
        f"{short(rates.tokens.value or 0.0)} tokens a candidate, {counts.learnt_a_case:.2f} {learnt} a case. It ran "
        f"{where}.\n"
    )


def _bytes(title: str, counted: Iterable[ByteCount]) -> str:
    rows = [[title, "a unit", "units", "together", "how often", "measured"]]
    for one in counted:
        each = ABSENT if one.each.value is None else f"{short(one.each.value)} bytes {one.unit}"
        total = ABSENT if one.total is None else amount(one.total)
        rows.append([one.what, each, f"{one.units:,.0f}", total, one.when, one.each.made_of])
    return markdown_table(rows, words=2)


def _times(told: Iterable[Stage], fleets: Sequence[Actors]) -> str:
    names = [
        f"{one.name}: samplers {one.samplers}, ranks {one.ranks}, readers {one.readers}, encoders {one.encoders}"
        for one in fleets
    ]
    rows = [["Time", "one actor, a unit", "units", *names, "limited by", "measured"]]
    for one in told:
        each = ABSENT if one.each.value is None else f"{short(one.each.value)} s {one.unit}"
        times = [ABSENT if math.isnan(seconds) else duration(seconds) for seconds in one.seconds]
        rows.append([one.what, each, f"{one.units:,}", *times, one.limit, one.each.made_of])
    return markdown_table(rows, words=2)


def _judging(judges: Iterable[JudgeRates], counts: Counts, per_minute: float | None) -> str:
    pace = "time" if per_minute is None else f"time at {per_minute:,.0f} questions a minute"
    rows = [
        ["Judge", "questions a case", "questions", "tokens of prompts", "of answers", "US dollars", pace, "made of"]
    ]
    for one in judges:
        questions = one.questions(counts)
        usd = ABSENT if one.usd is None else f"{questions * one.usd:,.0f}"
        time_taken = ABSENT if per_minute is None else duration(questions / per_minute * MINUTE_S)
        tokens = [f"{questions * each:,.0f}" for each in (one.prompt_tokens, one.completion_tokens)]
        rows.append([one.name, f"{one.questions_a_case:g}", f"{questions:,.0f}", *tokens, usd, time_taken, one.made_of])
    return markdown_table(rows, words=1)
