"""A run that starts from another one: its base policy, its evaluation, its first candidates where they are the same.

So runs that differ in their judge or their pairs differ in nothing else.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from rlaif.config import Config, ConfigurationError
from rlaif.ledger import RunError, RunFolder, Table, facts_of
from rlaif.records import Candidate, HeldoutReport, Study
from rlaif.run_configuration import differences, loop_configuration

# What makes a base policy, with what the cache tells trained ones apart by, and what makes candidates of it.
BASE = ("data", "recipe", "policy", "run.target")
TRAINED = (
    "learner.pretrain",
    "learner.sft",
    "learner.lora",
    "learner.weight_decay",
    "learner.ranks",
    "learner.micro_batch",
    "learner.dtype",
    "learner.zero_stage",
    "learner.max_grad_norm",
)
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

    Raises ConfigurationError where that is no run of a loop, has no base policy yet, or has one of other data or
    settings, and RunError where what it holds is damaged.
    """
    earlier = config.run.start_from
    if earlier is None or run.done("base"):
        return
    try:
        differing = sorted(differences(loop_configuration(earlier), loop_configuration(run.path)))
    except RunError as error:
        raise ConfigurationError(f"run.start_from: {error}") from error
    # A policy of the user's own is the base as it is.
    made_by = BASE if config.policy.path is not None else (*BASE, *TRAINED)
    if other := [key for key in differing if key.startswith(made_by)]:
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
        facts, reports = facts_of(earlier, "heldout/base"), Table(earlier / "heldout" / "base", HeldoutReport).read()
        # Where some are gone, this run writes them all anew.
        if len(reports) == facts.get("reports"):
            run.replace("heldout/base", HeldoutReport, reports)
            run.finish("heldout/base", **facts)
    if not any(key.startswith(SAMPLES) for key in differing) and _done(earlier, "round-000/sample"):
        candidates = Table(earlier / "round-000" / "candidates", Candidate)
        run.replace("round-000/candidates", Candidate, candidates.iterate())
    if config.policy.path is None:
        with run.folder("base") as target:
            shutil.copytree(earlier / "base", target, dirs_exist_ok=True)
    # Last, and with it all of this is taken over.
    run.finish("base", **facts_of(earlier, "base") | {"seconds": 0.0, "ran": [], "start_from": str(earlier)})


def _content(study: Study) -> Study:
    """A study without the paths of its files, which another cache has elsewhere."""
    return replace(study, volume=None, regions=None)


def _done(run: Path, stage: str) -> bool:
    return (run / "ledger" / f"{stage}.json").is_file()
