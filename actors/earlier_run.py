"""A run that starts from another one: its base policy, its evaluation, its first candidates where they are the same.

So runs that differ in their judge or their pairs differ in nothing else.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from rlaif.config import Config, ConfigurationError
from rlaif.ledger import RunFolder, Table
from rlaif.records import Candidate, HeldoutReport, Study
from rlaif.run_configuration import CONFIG_FILE, differences

# What makes a base policy, and what makes candidates of it.
BASE = ("data", "recipe", "policy", "run.target", "learner.pretrain", "learner.sft", "learner.lora")
SAMPLES = (
    "start",
    "run.seed",
    "sampler.n",
    "sampler.temperature",
    "sampler.top_p",
    "sampler.max_tokens",
    "sampler.max_length",
    "sampler.attempts",
    "sampler.dtype",
)
EVALUATION = ("heldout.limit", "run.blind_control", "sampler.max_tokens", "sampler.max_length", "sampler.dtype")


def take_over(run: RunFolder, config: Config) -> None:
    """Copies what is the same from `run.start_from`, where the run has not made its own yet.

    Raises ConfigurationError where that run has no base policy yet, or has one of other data or settings.
    """
    earlier = config.run.start_from
    if earlier is None or run.done("base"):
        return
    differing = _differing(run, earlier)
    if other := [key for key in differing if key.startswith(BASE)]:
        raise ConfigurationError(
            f"run.start_from={earlier} has a base policy of other settings ({', '.join(other)}): give this run the same"
        )
    if not _done(earlier, "base"):
        raise ConfigurationError(f"run.start_from={earlier} has no base policy yet: let that run go on first")
    theirs, ours = (
        [_content(one) for one in rows]
        for rows in (Table(earlier / "studies", Study).read(), run.read("studies", Study))
    )
    if theirs != ours:
        raise ConfigurationError(f"run.start_from={earlier} is of other studies: its data has changed since")
    if not any(key.startswith(EVALUATION) for key in differing) and _done(earlier, "heldout/base"):
        run.replace("heldout/base", HeldoutReport, Table(earlier / "heldout" / "base", HeldoutReport).read())
        run.finish("heldout/base", **_facts(earlier, "heldout/base"))
    if not any(key.startswith(SAMPLES) for key in differing) and _done(earlier, "round-000/sample"):
        candidates = Table(earlier / "round-000" / "candidates", Candidate)
        run.replace("round-000/candidates", Candidate, candidates.iterate())
    if config.policy.path is None:
        with run.folder("base") as target:
            shutil.copytree(earlier / "base", target, dirs_exist_ok=True)
    # Last, and with it all of this is taken over.
    run.finish("base", **_facts(earlier, "base") | {"seconds": 0.0, "start_from": str(earlier)})


def _content(study: Study) -> Study:
    """A study without the paths of its files, which another cache has elsewhere."""
    return replace(study, volume=None, regions=None)


def _differing(run: RunFolder, earlier: Path) -> list[str]:
    try:
        theirs = yaml.safe_load((earlier / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"run.start_from={earlier} is no run folder: {error}") from error
    ours = yaml.safe_load((run.path / CONFIG_FILE).read_text(encoding="utf-8"))
    return sorted(differences(theirs, ours))


def _done(run: Path, stage: str) -> bool:
    return (run / "ledger" / f"{stage}.json").is_file()


def _facts(run: Path, stage: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((run / "ledger" / f"{stage}.json").read_bytes())["facts"]
    return facts
