"""The runs of an ablation: names, overrides, and from which other run each of them starts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rlaif.config import Config, ConfigurationError
from rlaif.judge_choice import named_judge
from rlaif.judges.settings import JUDGE_NAME
from rlaif.launch import CONFIGS
from rlaif.override_text import hydra_text, kept_overrides

_JUDGES = (
    "say it in ablate.judges, such as 'ablate.judges=[rules,{judge: gpt4, model: my-model}]'; all of them score the "
    "held-out reports"
)
# What the ablation itself sets in each run.
_SET = {
    r"judge(\..+)?|heldout\.judges(\..+)?": _JUDGES,
    "pairs": "say it in ablate.pairs",
    r"run\.seed": "say it in ablate.seeds",
    r"run\.start_from": "they begin at one base by themselves: leave it out",
    r"run\.alignment": "they align by DPO, and jobs/regimes.py compares it with PPO: leave it out",
}


@dataclass(frozen=True)
class Part:
    """One run: what it varies, its name, and the overrides of its command."""

    judge: str
    pairs: str
    seed: int
    name: str
    overrides: tuple[str, ...]


def parts_of(config: Config, overrides: Sequence[str]) -> list[Part]:
    """The runs in their order: the first trains the base for all; the first of a seed samples its first candidates.

    Seeds change sampling, pairs and learning, not the data and the base.
    Raises ConfigurationError for overrides that the ablation sets itself, without rounds, and for two judges of one
    name.
    """
    kept = kept_overrides(overrides, "ablate", _SET, "an ablation")
    if not config.run.rounds:
        raise ConfigurationError("run.rounds=0 leaves no gain for an ablation to compare: set it to 1 or more")
    settings = config.ablate
    judges = [_named(entry) for entry in settings.judges]
    if bad := [name for name, _ in judges if not re.fullmatch(JUDGE_NAME, name)]:
        raise ConfigurationError(f"ablate.judges: {bad[0]} is no judge's name: use letters, digits and . _ -")
    if len({name for name, _ in judges}) < len(judges):
        raise ConfigurationError("ablate.judges has two judges of one name: give one of them another with name")
    for name in ("pairs", "seeds"):
        values = list(getattr(settings, name))
        if repeated := [one for one in values if values.count(one) > 1]:
            raise ConfigurationError(f"ablate.{name} has {repeated[0]} twice")
    follows = hasattr(config.data, "seed") and not any(one.lstrip("+").startswith("data.seed=") for one in kept)
    every = hydra_text([entry for _, entry in judges])
    parts: list[Part] = []
    leads: dict[int, Path] = {}
    for seed, (name, entry), pairs in product(settings.seeds, judges, settings.pairs):
        run = f"{config.run.name}-{name}-{pairs}-{seed}"
        start = leads.get(seed) or (config.run.root / parts[0].name if parts else None)
        leads.setdefault(seed, config.run.root / run)
        own = [*_of_judge(entry), f"pairs={pairs}", f"run.seed={seed}", f"run.name={run}", f"heldout.judges={every}"]
        # The data's own seed follows run.seed: one base policy needs one data set with one split.
        own += [f"data.seed={settings.seeds[0]}"] if follows else []
        # A plan starts from nothing: the runs before it are not there.
        own += [f"run.start_from={hydra_text(str(start))}"] if start is not None and not config.run.dry else []
        parts.append(Part(name, pairs, seed, run, (*kept, *own)))
    return parts


def _named(entry: str | dict[str, Any]) -> tuple[str, str | dict[str, Any]]:
    if not isinstance(entry, str) and "judge" not in entry:
        raise ConfigurationError(f"ablate.judges: write {{judge: NAME, ...}} or a judge's name, not {entry}")
    try:
        values = named_judge(entry, "ablate.judges", CONFIGS / "judge")
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    return str(values.get("name")), entry


def _of_judge(entry: str | dict[str, Any]) -> list[str]:
    if isinstance(entry, str):
        return [f"judge={entry}"]
    changed = {key: value for key, value in entry.items() if key != "judge"}
    return [f"judge={entry['judge']}", *(f"judge.{key}={hydra_text(value)}" for key, value in changed.items())]
