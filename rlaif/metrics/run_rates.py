"""How fast a finished run was at each of its stages, in seconds that one actor takes for one unit of work.

Of the stages of a round the last one's seconds are taken: its engines and ranks stand, and none has to start. Where a
stage was done in several attempts, its seconds are those of the last one, and only what that one made counts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from rlaif.files import RunError
from rlaif.metrics.judge_rates import JudgeRates, judge_rates
from rlaif.metrics.measured import Measured
from rlaif.metrics.scale import Counts, Fleet, Training, busiest
from rlaif.records import Candidate, Ingested
from rlaif.run_configuration import CONFIG_FILE
from rlaif.tables import Table

# The cache gives a policy's files the times that they had: those of one that this run trained are of its own stage.
CLOCKS_S = 2.0
_CHANGING = Measured(None, "engines came and went (sampler.max_actors): take a run without")


@dataclass(frozen=True)
class RunRates:
    """What a run measured of its speed; `config` are the plain values that it was started with, `last` its last round.

    Seconds are of one actor: of a reader, an encoder, a sampler, a rank; of `pairs`, of the controller.
    """

    path: Path
    config: Mapping[str, Any]
    last: str
    counts: Counts
    fleet: Fleet
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
        return bool(self.config["sampler"]["gpus"] and self.config["learner"]["gpus"])


def rates_of(run: Path) -> RunRates:
    """The rates of a finished run.

    Raises RunError for a folder that holds none, one that is not finished, or one whose last round sampled nothing.
    """
    summary = finished_summary(run)
    config = yaml.safe_load((run / CONFIG_FILE).read_text(encoding="utf-8"))
    name = f"round-{len(summary['rounds']) - 1:03d}"
    told, learner = summary["rounds"][-1], config["learner"]
    align = learner[config["run"].get("alignment", "dpo")]
    evaluated = _mark(run, f"heldout/{name}")["facts"]
    studies = summary["studies"]
    learnt = int(told.get("pairs", told.get("reports", 0)))
    counts = Counts(
        sft=studies["sft"],
        align=studies["align"],
        heldout=studies["heldout"],
        rounds=len(summary["rounds"]),
        candidates_a_case=config["sampler"]["n"],
        learnt_a_case=learnt / studies["align"],
        reports_a_case=evaluated["reports"] / studies["heldout"] if studies["heldout"] else 0.0,
    )
    samplers, ranks = config["sampler"]["actors"], learner["ranks"]
    fleet = Fleet("as the run", samplers, ranks, readers=1, encoders=config["ingest"]["encoders"])
    changing = _CHANGING if (config["sampler"].get("max_actors") or samplers) > samplers else None
    trainings = tuple(_training(one) for one in (learner["pretrain"], learner["sft"]) if one)
    candidates = Table(run / name / "candidates", Candidate).arrow(["token_ids", "sampled_at"])
    read, encode = _ingested(run)
    return RunRates(
        path=run,
        config=config,
        last=name,
        counts=counts,
        fleet=fleet,
        tokens=_tokens(candidates),
        read=read,
        encode=encode,
        fine_tuning=_fine_tuning(run, trainings, ranks),
        sample=changing or _sampled(candidates, _mark(run, f"{name}/sample"), samplers),
        pairs=_paired(run, name, studies["align"]),
        learn=_learnt(told["seconds"]["learn"], learnt, _training(align), ranks),
        evaluate=changing or _evaluated(evaluated, samplers),
        fine_tunings=trainings,
        alignment=_training(align),
        judges=judge_rates(run, counts),
        bypasses_store=summary.get("features") == "bypassed",
    )


def finished_summary(run: Path) -> dict[str, Any]:
    """The summary of a finished run of at least one round; raises RunError where there is none."""
    path = run / "summary.json"
    if not (run / CONFIG_FILE).is_file():
        raise RunError(f"{run} is no run folder, it has no {CONFIG_FILE}: name one, such as runs/demo")
    if not path.is_file():
        raise RunError(f"{run} is not finished, it has no summary.json: give its command again, which goes on with it")
    summary: dict[str, Any] = json.loads(path.read_bytes())
    if summary.get("status") != "finished":
        raise RunError(f"{path} says {summary.get('status')!r}, not finished: give the run's command again")
    if not summary["rounds"]:
        raise RunError(f"{run} has no round, so nothing was sampled or learnt: give its command with run.rounds=2")
    if summary["rounds"][-1].get("given"):
        raise RunError(f"{run}: its last round was taken from a file, and not sampled: give its command with one more")
    return summary


def _mark(run: Path, stage: str) -> dict[str, Any]:
    path = run / "ledger" / f"{stage}.json"
    if not path.is_file():
        raise RunError(f"{run} has no stage {stage} in its ledger: it was copied in part; copy all of the folder")
    mark: dict[str, Any] = json.loads(path.read_bytes())
    return mark


def _training(settings: Mapping[str, Any]) -> Training:
    return Training(settings["epochs"], settings["batch"])


def _started(mark: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(mark["finished_at"]) - timedelta(seconds=mark["facts"]["seconds"])


def _tokens(candidates: pa.Table) -> Measured:
    total = pc.sum(pc.list_value_length(candidates["token_ids"])).as_py() or 0
    return Measured(total / len(candidates), f"{total:,} tokens / {len(candidates):,} candidates")


def _sampled(candidates: pa.Table, mark: Mapping[str, Any], samplers: int) -> Measured:
    """Judging, which goes on beside it, and the weight sync are in it."""
    fresh = candidates.filter(pc.greater_equal(candidates["sampled_at"], pa.scalar(_started(mark))))
    seconds = mark["facts"]["seconds"]
    if not len(fresh):
        return Measured(None, "all candidates were there before the last attempt: take a run that was not stopped")
    tokens = pc.sum(pc.list_value_length(fresh["token_ids"])).as_py()
    rate = f"{tokens / seconds / samplers:,.0f} tokens a second each"
    return Measured(
        seconds * samplers / len(fresh), f"{seconds:.1f} s x {samplers} / {len(fresh):,} candidates; {rate}"
    )


def _paired(run: Path, name: str, cases: int) -> Measured:
    if not (run / "ledger" / name / "pairs.json").is_file():
        return Measured(0.0, "PPO builds no pairs")
    seconds = _mark(run, f"{name}/pairs")["facts"]["seconds"]
    return Measured(seconds / cases, f"{seconds:.2f} s / {cases:,} cases")


def _learnt(seconds: float, items: int, training: Training, ranks: int) -> Measured:
    """Loading, reference log-probs and the checkpoint's writing are in it."""
    if not items:
        return Measured(None, "the last round had nothing to learn from: see its dropped cases")
    one_rank = busiest(items, (training,), ranks)
    return Measured(seconds / one_rank, f"{seconds:.1f} s / {one_rank:,} pairs or reports of the busiest rank")


def _evaluated(facts: Mapping[str, Any], samplers: int) -> Measured:
    seconds, reports = facts["seconds"], facts["reports"]
    if not reports:
        return Measured(None, "this run held nobody out")
    return Measured(seconds * samplers / reports, f"{seconds:.1f} s x {samplers} / {reports:,} reports")


def _fine_tuning(run: Path, trainings: Sequence[Training], ranks: int) -> Measured:
    """Starting the learners is in it."""
    mark = _mark(run, "base")
    facts, written = mark["facts"], run / "base" / "policy.json"
    if not facts["trained"]:
        return Measured(None, "this run took its policy as it was: take one that fine-tunes")
    if written.is_file() and written.stat().st_mtime < _started(mark).timestamp() - CLOCKS_S:
        return Measured(None, "this run took its base from the cache: take one with another cache.root")
    one_rank = busiest(facts["cases"], trainings, ranks)
    made_of = f"{facts['seconds']:.1f} s, the learners' start in them / {one_rank:,} reports of the busiest rank"
    return Measured(facts["seconds"] / one_rank, made_of)


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
