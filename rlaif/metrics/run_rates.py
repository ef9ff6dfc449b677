"""How fast a finished run was at each of its stages, in seconds that one actor takes for one unit of work, and what its
judges took for a question.

Of the stages of a round the last one's seconds are taken: its engines and ranks stand, and none has to start. Where a
stage was done in several attempts, its seconds are those of the last one, and only what that one made counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rlaif.files import RunError
from rlaif.judges.tournament import most_comparisons
from rlaif.metrics.run_files import Facts, Mark, RunConfiguration, finished_run, mark_of
from rlaif.metrics.scale import Actors, Counts, Measured, Training, busiest, short
from rlaif.records import Candidate, Comparison, Ingested, Judgement
from rlaif.tables import Table

_CHANGING = Measured(None, "engines came and went (sampler.max_actors): take a run without")


@dataclass(frozen=True)
class JudgeRates:
    """One judge's questions and what one takes; `usd` is None where no price is known."""

    name: str
    pairwise: bool
    questions_a_case: float
    """Of a round, at most: equal texts are asked about once. 0 of one that judges held-out reports alone."""
    prompt_tokens: float
    """0 where it asks nobody, or was answered from the cache."""
    completion_tokens: float
    usd: float | None
    made_of: str

    def questions(self, counts: Counts) -> float:
        """Questions of a run: about its candidates, and about held-out reports, which pairwise judges compare with the
        base's in both orders.
        """
        if not self.prompt_tokens:
            return 0.0
        heldout = 2 * counts.rounds if self.pairwise else counts.rounds + 1
        return counts.align * counts.rounds * self.questions_a_case + counts.evaluated * heldout

    def priced(self, prompt: float, completion: float) -> "JudgeRates":
        """The same at prices in US dollars a million tokens of prompts and of answers."""
        return replace(self, usd=(self.prompt_tokens * prompt + self.completion_tokens * completion) / 1e6)


@dataclass(frozen=True)
class RunRates:
    """What a run measured of its speed; `config` is what it was started with, `last` its last round.

    Seconds are of one actor: of a reader, an encoder, a sampler, a rank; of `pairs`, of the controller.
    """

    path: Path
    config: RunConfiguration
    last: str
    counts: Counts
    actors: Actors
    tokens: Measured
    """Of a candidate, as it was kept."""
    read: Measured
    encode: Measured
    fine_tuning: Measured
    sample: Measured
    pairs: Measured
    learn: Measured
    evaluate: Measured
    fine_tunings: tuple[Training, ...]
    alignment: Training
    judges: tuple[JudgeRates, ...]
    bypasses_store: bool
    """Whether the encoder trains, so that no features are kept."""

    @property
    def on_gpus(self) -> bool:
        """Whether samplers and learners stood on GPUs."""
        return bool(self.config.sampler.gpus and self.config.learner.gpus)

    @property
    def learns_from(self) -> str:
        """What one unit of learning is."""
        return "report" if self.config.reinforcement else "pair"


def rates_of(run: Path) -> RunRates:
    """The rates of a finished run.

    Raises RunError for a folder that holds none, or one that is damaged; where the run is not finished, and where its
    last round sampled nothing.
    """
    config, summary = finished_run(run)
    name = f"round-{len(summary.rounds) - 1:03d}"
    told, studies, sampler, learner = summary.rounds[-1], summary.studies, config.sampler, config.learner
    evaluated = mark_of(run, f"heldout/{name}").facts
    counts = Counts(
        sft=studies.sft,
        align=studies.align,
        heldout=studies.heldout,
        rounds=len(summary.rounds),
        candidates_a_case=sampler.n,
        learnt_a_case=told.learnt / studies.align,
        reports_a_case=0.0,
        heldout_limit=config.heldout.limit,
    )
    counts = replace(counts, reports_a_case=evaluated.reports / (counts.evaluated or 1))
    actors = Actors("as the run", sampler.actors, learner.ranks, readers=1, encoders=config.ingest.encoders)
    changing = _CHANGING if (sampler.max_actors or sampler.actors) > sampler.actors else None
    fine_tunings = {name: one for name, one in (("pretrain", learner.pretrain), ("sft", learner.sft)) if one}
    candidates = Table(run / name / "candidates", Candidate).arrow(["token_ids", "sampled_at"])
    if not len(candidates):
        raise RunError(f"{run}/{name}/candidates is gone or empty: copy all of the run's folder, or name another run")
    pairs = Measured(0.0, "PPO builds no pairs") if config.reinforcement else _paired(run, name, studies.align)
    read, encode = _ingested(run)
    return RunRates(
        path=run,
        config=config,
        last=name,
        counts=counts,
        actors=actors,
        tokens=_tokens(candidates),
        read=read,
        encode=encode,
        fine_tuning=_fine_tuning(mark_of(run, "base").facts, fine_tunings, learner.ranks),
        sample=changing or _sampled(candidates, mark_of(run, f"{name}/sample"), sampler.actors),
        pairs=pairs,
        learn=_learnt(told.seconds.learn, told.learnt, config, learner.ranks),
        evaluate=changing or _evaluated(evaluated, sampler.actors),
        fine_tunings=tuple(fine_tunings.values()),
        alignment=config.aligning,
        judges=_judges(run, sampler.n),
        bypasses_store=summary.features == "bypassed",
    )


def _started(mark: Mark) -> datetime:
    return mark.finished_at - timedelta(seconds=mark.facts.seconds)


def _tokens(candidates: pa.Table) -> Measured:
    total = pc.sum(pc.list_value_length(candidates["token_ids"])).as_py() or 0
    return Measured(total / len(candidates), f"{total:,} tokens / {len(candidates):,} candidates")


def _sampled(candidates: pa.Table, mark: Mark, samplers: int) -> Measured:
    """Judging, which goes on beside it, and the weight sync are in it."""
    fresh = candidates.filter(pc.greater_equal(candidates["sampled_at"], pa.scalar(_started(mark))))
    seconds = mark.facts.seconds
    if not len(fresh) or not seconds:
        return Measured(None, "all candidates were there before the last attempt: take a run that was not stopped")
    tokens = pc.sum(pc.list_value_length(fresh["token_ids"])).as_py()
    rate = f"{short(tokens / seconds / samplers)} tokens a second each"
    return Measured(
        seconds * samplers / len(fresh), f"{seconds:.1f} s x {samplers} / {len(fresh):,} candidates; {rate}"
    )


def _paired(run: Path, name: str, cases: int) -> Measured:
    seconds = mark_of(run, f"{name}/pairs").facts.seconds
    return Measured(seconds / cases, f"{seconds:.2f} s / {cases:,} cases")


def _learnt(seconds: float, items: int, config: RunConfiguration, ranks: int) -> Measured:
    """Loading, reference log-probs and the checkpoint's writing are in it."""
    if not items:
        return Measured(None, "the last round had nothing to learn from: see its dropped cases")
    one_rank, units = busiest(items, (config.aligning,), ranks), "reports" if config.reinforcement else "pairs"
    return Measured(seconds / one_rank, f"{seconds:.1f} s / {one_rank:,} {units} of the busiest rank")


def _evaluated(facts: Facts, samplers: int) -> Measured:
    seconds, reports = facts.seconds, facts.reports
    if not reports:
        return Measured(None, "this run held nobody out")
    return Measured(seconds * samplers / reports, f"{seconds:.1f} s x {samplers} / {reports:,} reports")


def _fine_tuning(facts: Facts, trainings: Mapping[str, Training], ranks: int) -> Measured:
    """Starting the learners is in it; a training whose policy came from the cache took none of its seconds."""
    if not facts.trained or not facts.cases:
        return Measured(None, "this run took its policy as it was: take one that fine-tunes")
    if facts.start_from is not None:
        return Measured(None, f"this run took its base from {facts.start_from}: ask that one")
    if facts.ran is None:
        return Measured(None, "an earlier version made this run, and did not note what came from the cache")
    ran = [training for name, training in trainings.items() if name in facts.ran]
    if not ran:
        return Measured(None, "this run took its base from the cache: take one with another cache.root")
    one_rank = busiest(facts.cases, ran, ranks)
    made_of = f"{facts.seconds:.1f} s, the learners' start in them / {one_rank:,} reports of the busiest rank"
    return Measured(facts.seconds / one_rank, made_of)


def _ingested(run: Path) -> tuple[Measured, Measured]:
    """Of reading and recipe together, and of encoding; what was there before took no seconds, and does not count."""
    rows = Table(run / "features", Ingested).arrow(["read_s", "recipe_s", "encode_s"])
    read = rows.filter(pc.greater(pc.add(rows["read_s"], rows["recipe_s"]), 0.0))
    if not len(rows):
        absent = Measured(None, "this run has no CTs")
        return absent, absent
    if not len(read):
        absent = Measured(None, "this run read no CT, its features were there: take one with another cache.root")
        return absent, absent
    reading = pc.sum(pc.add(read["read_s"], read["recipe_s"])).as_py()
    encoding = pc.sum(read["encode_s"]).as_py()
    encoded = Measured(encoding / len(read), f"{encoding:.1f} s of encoders / {len(read):,} studies")
    if not encoding:
        encoded = Measured(None, "this run encoded nothing: its encoder trains, or it reads no images")
    return Measured(reading / len(read), f"{reading:.1f} s of readers / {len(read):,} studies"), encoded


def assumed_judge(name: str, prompt_tokens: float, completion_tokens: float, candidates_a_case: int) -> JudgeRates:
    """A judge that the run has not, with the tokens that its question took elsewhere; `llm_parser` is pairwise."""
    pairwise = name == "llm_parser"
    a_case = _questions(candidates_a_case, pairwise)
    return JudgeRates(name, pairwise, a_case, prompt_tokens, completion_tokens, None, "tokens as given")


def _questions(candidates: int, pairwise: bool) -> int:
    return 2 * most_comparisons(candidates) if pairwise else candidates


def _judges(run: Path, candidates: int) -> tuple[JudgeRates, ...]:
    """What each judge of a run's rounds and of its held-out reports took for a question, by name."""
    rounds, heldout = sorted(run.glob("round-*")), sorted(run.glob("heldout-judging/*"))
    trains, others = _names(rounds), _names(heldout)
    asked = ((name, candidates if name in trains else 0) for name in sorted(trains | others))
    return tuple(_judge([*rounds, *heldout], name, number) for name, number in asked)


def _names(stages: Sequence[Path]) -> set[str]:
    tables = (Table(stage / "judgements", Judgement).arrow(["judge"]) for stage in stages)
    return {name for table in tables for name in table["judge"].to_pylist()}


def _judge(stages: Sequence[Path], name: str, candidates: int) -> JudgeRates:
    """What a judge took in some stages, of so many candidates a case."""
    fresh = prompt = completion = compared = of_fresh = 0
    usd = 0.0
    columns = ["judge", "candidate_id", "cached", "prompt_tokens", "completion_tokens", "cost_usd"]
    for stage in stages:
        asked = Table(stage / "judgements", Judgement).arrow(columns)
        asked = asked.filter((pc.field("judge") == name) & ~pc.field("cached") & (pc.field("prompt_tokens") > 0))
        fresh += len(asked)
        prompt += pc.sum(asked["prompt_tokens"], min_count=0).as_py()
        completion += pc.sum(asked["completion_tokens"], min_count=0).as_py()
        usd += pc.sum(asked["cost_usd"], min_count=0).as_py()
        comparisons = Table(stage / "comparisons", Comparison).arrow(["judge", "candidate_a"])
        comparisons = comparisons.filter(pc.field("judge") == name)
        compared += len(comparisons)
        # What both orders of a comparison took stands with the first of the two.
        of_fresh += comparisons.filter(pc.is_in(comparisons["candidate_a"], asked["candidate_id"])).num_rows
    if not fresh:
        return JudgeRates(name, False, 0.0, 0.0, 0.0, 0.0, "asks nobody, or was answered from the cache")
    questions, pairwise = of_fresh if compared else fresh, compared > 0
    made_of = f"{prompt:,} and {completion:,} tokens / {questions:,} fresh questions"
    price = usd / questions if usd else None
    a_case = _questions(candidates, pairwise)
    return JudgeRates(name, pairwise, a_case, prompt / questions, completion / questions, price, made_of)
