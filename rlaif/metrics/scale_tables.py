"""The tables of a run's rates and of what they come to at another size, in Markdown."""

from collections.abc import Iterable, Sequence

from rlaif.metrics.judge_rates import JudgeRates
from rlaif.metrics.measured import MINUTE_S, duration, short
from rlaif.metrics.run_rates import RunRates
from rlaif.metrics.scale import Counts, Fleet, per_second
from rlaif.metrics.scale_bytes import Volume, features_of, kept, sent
from rlaif.metrics.scale_times import Stage, stages
from rlaif.plan_memory import amount

ABSENT = "-"


def scale_tables(
    rates: RunRates, counts: Counts, fleets: Sequence[Fleet], judges: Sequence[JudgeRates], per_minute: float | None
) -> str:
    """What a run measured, and what that makes of the counts on each fleet; `per_minute` are questions that a judge's
    service takes. A table each for bytes on disk, bytes on the wire, time, reading of features, and judges.
    """
    sections = [
        _head(rates, counts),
        _volumes("On disk", kept(rates, counts)),
        _volumes("On the wire", sent(rates, counts, fleets)),
        _times(stages(rates, counts, fleets), fleets),
        _reading(rates),
        _judging(judges, counts, per_minute),
    ]
    return "\n".join(sections)


def _head(rates: RunRates, counts: Counts) -> str:
    """What the tables are of."""
    learnt = "pairs" if rates.config["run"].get("alignment", "dpo") == "dpo" else "reports to learn from"
    where = "on GPUs" if rates.on_gpus else "without GPUs: its actors, and those of every column, are CPU actors"
    return (
        f"{counts.studies:,} studies: {counts.sft:,} to fine-tune on, {counts.align:,} to align on, "
        f"{counts.heldout:,} held out; rounds: {counts.rounds}. Of the run `{rates.path.name}`, {rates.last}: "
        f"{short(rates.tokens.value or 0.0)} tokens a candidate, {counts.learnt_a_case:.2f} {learnt} a case. It ran "
        f"{where}.\n"
    )


def _volumes(title: str, volumes: Iterable[Volume]) -> str:
    rows = [[title, "a unit", "units", "together", "how often", "measured"]]
    for one in volumes:
        each = ABSENT if one.each.value is None else f"{short(one.each.value)} bytes {one.unit}"
        total = ABSENT if one.total is None else amount(one.total)
        rows.append([one.what, each, f"{one.units:,.0f}", total, one.when, one.each.made_of])
    return _table(rows, right=(1, 2, 3))


def _times(told: Iterable[Stage], fleets: Sequence[Fleet]) -> str:
    names = [
        f"{one.name}: samplers {one.samplers}, ranks {one.ranks}, readers {one.readers}, encoders {one.encoders}"
        for one in fleets
    ]
    rows = [["Time", "one actor, a unit", "units", *names, "limited by", "measured"]]
    for one in told:
        each = ABSENT if one.each.value is None else f"{short(one.each.value)} s {one.unit}"
        times = [ABSENT if seconds is None else duration(seconds) for seconds in one.seconds]
        rows.append([one.what, each, f"{one.units:,.0f}", *times, one.limit, one.each.made_of])
    return _table(rows, right=range(1, 3 + len(fleets)))


def _reading(rates: RunRates) -> str:
    """What an actor reads of the shared file system while it works."""
    features, case = features_of(rates), rates.counts.candidates_a_case
    rows = [["Features read by one", "bytes a second", "made of"]]
    units = {
        "sampler": (rates.sample.value and rates.sample.value * case, f"{case} candidates of a study"),
        "rank": (rates.learn.value, "a pair"),
    }
    for who, (seconds, unit) in units.items():
        if features.value is None or not seconds:
            rows.append([who, ABSENT, features.made_of])
            continue
        speed = f"{amount(per_second(features.value, seconds))} a second"
        rows.append([who, speed, f"{short(features.value)} bytes / {short(seconds)} s for {unit}"])
    return _table(rows, right=(1,))


def _judging(judges: Iterable[JudgeRates], counts: Counts, per_minute: float | None) -> str:
    pace = "time" if per_minute is None else f"time at {per_minute:,.0f} questions a minute"
    rows = [
        ["Judge", "questions a case", "questions", "tokens of prompts", "of answers", "US dollars", pace, "made of"]
    ]
    for one in judges:
        questions = one.questions(counts)
        usd = ABSENT if one.usd is None else f"{questions * one.usd:,.0f}"
        time = ABSENT if per_minute is None else duration(questions / per_minute * MINUTE_S)
        tokens = [f"{questions * each:,.0f}" for each in (one.prompt_tokens, one.completion_tokens)]
        rows.append([one.name, f"{one.questions_a_case:g}", f"{questions:,.0f}", *tokens, usd, time, one.made_of])
    return _table(rows, right=range(1, 7))


def _table(rows: Sequence[Sequence[str]], right: Iterable[int]) -> str:
    to_right = {*right}
    rule = ["---:" if number in to_right else "---" for number in range(len(rows[0]))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (rows[0], rule, *rows[1:]))
