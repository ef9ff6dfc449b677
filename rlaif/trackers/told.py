"""What trackers are told of a run, and what the run folder remembers of that.

`trackers.json` holds an id that the run keeps in every tracker, and the order in which its stages are told, so that
what was told before a kill is known again wherever it went.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from rlaif.files import RunError
from rlaif.ledger import RunFolder
from rlaif.run_configuration import read_configuration
from rlaif.trackers.scalars import Row, rows_of, tracked_stages

TRACKERS_FILE = "trackers.json"
_ID = re.compile(r"[0-9a-f]{32}")
# What runs are compared by; no paths and no addresses.
_SETTINGS = (
    "run.target",
    "run.alignment",
    "run.seed",
    "run.rounds",
    "data.name",
    "policy.name",
    "policy.size",
    "judge.name",
    "pairs.strategy",
    "sampler.n",
    "sampler.temperature",
)


@dataclass(frozen=True)
class Stage:
    """A finished stage: its name, when it ended, and its numbers."""

    name: str
    at: datetime
    rows: Sequence[Row]


@dataclass(frozen=True)
class Tracked:
    """The run as trackers know it: its id, and its finished stages in the order in which they are told."""

    id: str
    stages: tuple[str, ...]
    failures: Mapping[str, Mapping[str, Any]]
    """By tracker: the last attempt of the run at which it failed, and why."""


def settle(run: RunFolder) -> tuple[Tracked, bool]:
    """What trackers know of the run, and whether stages have ended since; durable before anybody is told.

    Raises RunError where the file is damaged.
    """
    kept = _read(run)
    known = kept.stages if kept else ()
    fresh = sorted(set(tracked_stages(run)) - set(known), key=lambda stage: (ended(run, stage), stage))
    if kept is not None and not fresh:
        return kept, False
    tracked = Tracked(kept.id if kept else uuid.uuid4().hex, (*known, *fresh), kept.failures if kept else {})
    write(run, tracked)
    return tracked, True


def write(run: RunFolder, tracked: Tracked) -> None:
    """Keeps what trackers know."""
    content = {"id": tracked.id, "stages": list(tracked.stages), "failures": tracked.failures}
    run.write_json(TRACKERS_FILE, content)


def _read(run: RunFolder) -> Tracked | None:
    try:
        kept = run.read_json(TRACKERS_FILE)
    except FileNotFoundError:
        return None
    id_, stages, failures = (kept.get(key) if isinstance(kept, dict) else None for key in ("id", "stages", "failures"))
    if not (
        isinstance(id_, str)
        and _ID.fullmatch(id_)
        and isinstance(stages, list)
        and all(isinstance(stage, str) for stage in stages)
        and isinstance(failures, dict)
        and all(isinstance(failure, dict) for failure in failures.values())
    ):
        raise RunError(f"{run.path / TRACKERS_FILE} is damaged: remove it, and the run has another id in its trackers")
    # A stage without a mark has no numbers to tell.
    return Tracked(id_, tuple(stage for stage in stages if run.done(stage)), failures)


def ended(run: RunFolder, stage: str) -> datetime:
    """When a finished stage ended, UTC."""
    try:
        return datetime.fromisoformat(run.read_json(f"ledger/{stage}.json")["finished_at"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run.path}: the mark of {stage} in the ledger is damaged: restore it") from error


def stage_of(run: RunFolder, name: str, *, resamples: int) -> Stage:
    """A finished stage with its numbers, which are read and resampled once in a process."""
    at = ended(run, name)
    return Stage(name, at, _rows(run, name, at, resamples))


# Every telling tells all stages, and their intervals take their time.
@lru_cache(maxsize=4096)
def _rows(run: RunFolder, name: str, _ended: datetime, resamples: int) -> tuple[Row, ...]:
    return tuple(rows_of(run, name, resamples=resamples))


def settings_of(run: RunFolder) -> dict[str, Any]:
    """The settings that runs are compared by, from the run's configuration; absent ones are left out."""
    kept = read_configuration(run.path)
    found = {key: kept.get(section, {}).get(name) for key in _SETTINGS for section, _, name in [key.partition(".")]}
    return {key: value for key, value in found.items() if value is not None}
