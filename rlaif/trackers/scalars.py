"""Which numbers of a run folder are tracked, by which names and at which steps.

All of them come from what finished stages left on disk, so that the same stage gives the same numbers at any time.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlaif.files import RunError
from rlaif.ledger import RunFolder
from rlaif.metrics.heldout_scores import scored_reports
from rlaif.metrics.summary import heldout_differences, heldout_intervals
from rlaif.records import HeldoutReport

AXES = {
    "pretrain": "pretrain",
    "sft": "sft",
    "dpo": "alignment",
    "ppo": "alignment",
    "heldout": "version",
    "blind": "version",
    "gain": "version",
    "heldout_judging": "version",
}
"""What the steps of a name's first part count: optimiser steps of a training (of `alignment` over all rounds), versions
of the policy (0 is the base, k + 1 that after round k); else rounds."""
ROUND = "round"

_ROUND_STAGE = re.compile(r"round-(\d+)/(sample|pairs|learn)")
_HELDOUT_STAGE = re.compile(r"(heldout|heldout-judging)/(?:base|round-(\d+))")
_BEFORE = ("studies", "start", "ingest", "base")
# What a step says of the training and not of the policy.
_NO_SCALARS = {"step", "of", "left_out"}
_ACCOUNTS = ("judgements", "scored", "mean_score", "cached", "prompt_tokens", "completion_tokens", "cost_usd")


@dataclass(frozen=True)
class Row:
    """Numbers of one step, by name."""

    step: int
    values: Mapping[str, float]


def axis_of(name: str) -> str:
    """What the steps of a tracked name count."""
    return AXES.get(name.partition("/")[0], ROUND)


def tracked_stages(run: RunFolder) -> list[str]:
    """The finished stages that have numbers, in no order that means anything."""
    marks = (run.path / "ledger").rglob("*.json")
    names = (path.relative_to(run.path / "ledger").with_suffix("").as_posix() for path in marks)
    return [name for name in names if name in _BEFORE or _ROUND_STAGE.fullmatch(name) or _HELDOUT_STAGE.fullmatch(name)]


def rows_of(run: RunFolder, stage: str, *, resamples: int) -> list[Row]:
    """The numbers of a finished stage; intervals are of `resamples` bootstrap resamples, as in the summary.

    Raises RunError where the stage is not finished, or where its files are damaged.
    """
    if stage in _BEFORE:
        facts = run.facts(stage)
        counted = {"studies/quarantined": facts.get("quarantined")} if stage == "studies" else {}
        rows = [_row(0, {f"seconds/{stage}": facts.get("seconds"), **counted})]
        return rows + (_base_steps(run) if stage == "base" else [])
    if match := _ROUND_STAGE.fullmatch(stage):
        return _round_rows(run, int(match[1]), match[2])
    if match := _HELDOUT_STAGE.fullmatch(stage):
        return _heldout_rows(run, stage, int(match[2]) if match[2] else None, resamples)
    raise RunError(f"{stage} is no stage whose numbers are tracked")


def _row(step: int, values: Mapping[str, Any]) -> Row:
    """The values that are numbers; what is absent, null or infinite has no point."""
    numbers = {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    return Row(step, numbers)


def _learning_steps(run: RunFolder, file: str) -> list[dict[str, Any]]:
    """The optimiser steps that a metrics.json holds; none where there is no file."""
    try:
        content = run.read_json(file)
    except FileNotFoundError:
        return []
    try:
        return [dict(step) for step in content["learning"]["steps"]]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run.path / file} is damaged (it has no learning.steps): restore it") from error


def _training_rows(training: str, steps: Iterable[Mapping[str, Any]], offset: int = 0) -> list[Row]:
    return [
        _row(offset + place, {f"{training}/{key}": value for key, value in step.items() if key not in _NO_SCALARS})
        for place, step in enumerate(steps)
    ]


def _base_steps(run: RunFolder) -> list[Row]:
    """Each training of the base policy counts its steps from 0; the last is the fine-tuning."""
    trainings: list[list[dict[str, Any]]] = []
    for step in _learning_steps(run, "base/metrics.json"):
        if not trainings or step.get("step") == 0:
            trainings.append([])
        trainings[-1].append(step)
    names = ["pretrain"] * (len(trainings) - 1) + ["sft"]
    return [row for name, steps in zip(names, trainings, strict=False) for row in _training_rows(name, steps)]


def _round_rows(run: RunFolder, number: int, stage: str) -> list[Row]:
    name = f"round-{number:03d}"
    facts = run.facts(f"{name}/{stage}")
    values: dict[str, Any] = {f"seconds/{stage}": facts.get("seconds")}
    if stage == "sample":
        values["judging/repeated_calls"] = facts.get("repeated_calls")
        return [_row(number, values | _judging("judging", facts))]
    if stage == "pairs":
        values["pairs/built"] = facts.get("pairs")
        values |= {f"pairs/dropped/{reason}": count for reason, count in facts.get("dropped", {}).items()}
        return [_row(number, values)]
    for key, value in (facts.get("logprob_gap") or {}).items():
        values[f"logprob_gap/{key}"] = value
    learnt = (f"round-{earlier:03d}/learn" for earlier in range(number))
    offset = sum(run.facts(earlier)["steps"] for earlier in learnt if run.done(earlier))
    training = "ppo" if "kl_weight" in facts else "dpo"
    return [*_training_rows(training, _learning_steps(run, f"{name}/metrics.json"), offset), _row(number, values)]


def _judging(prefix: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The accounts of each judge; failures are counted, and are no scores."""
    values: dict[str, Any] = {}
    for judge, account in (facts.get("judging") or {}).get("judges", {}).items():
        values |= {f"{prefix}/{judge}/{key}": account.get(key) for key in _ACCOUNTS}
        values |= {f"{prefix}/{judge}/failures/{reason}": n for reason, n in account.get("failures", {}).items()}
    return values


def _heldout_rows(run: RunFolder, stage: str, number: int | None, resamples: int) -> list[Row]:
    facts, name = run.facts(stage), "base" if number is None else f"round-{number:03d}"
    version, round_ = (0, 0) if number is None else (number + 1, number)
    judged = stage.startswith("heldout-judging")
    values = _judging("heldout_judging", facts) if judged else {}
    seeing, blind = _reports(run, name, judged=judged)
    values |= _named("heldout", heldout_intervals(seeing, resamples))
    if blind and not judged:
        values |= _named("blind", heldout_intervals(blind, resamples))
    if number is not None:
        values |= _named("gain", heldout_differences(_reports(run, "base", judged=judged)[0], seeing, resamples))
    took = "judge_heldout" if judged else "evaluate"
    seconds = _row(round_, {f"seconds/{took}{'_base' if number is None else ''}": facts.get("seconds")})
    return [_row(version, values), seconds]


def _reports(run: RunFolder, name: str, *, judged: bool) -> tuple[list[HeldoutReport], list[HeldoutReport]]:
    """The held-out reports and those of the blind control; judged ones with the judges' scores alone."""
    if not judged:
        rows = run.read(f"heldout/{name}", HeldoutReport)
        return [row for row in rows if not row.control], [row for row in rows if row.control]
    own = {row.case_id: row.metrics for row in run.read(f"heldout/{name}", HeldoutReport) if not row.control}
    scored: Sequence[HeldoutReport] = [row for row in scored_reports(run.path, name) if not row.control]
    return [_without(row, own[row.case_id]) for row in scored], []


def _without(row: HeldoutReport, metrics: Mapping[str, float]) -> HeldoutReport:
    return replace(row, metrics={name: value for name, value in row.metrics.items() if name not in metrics})


def _named(prefix: str, intervals: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {
        f"{prefix}/{metric}/{bound}": interval[bound]
        for metric, interval in intervals.items()
        for bound in ("mean", "low", "high")
    }
