"""The runs that compare fine-tuning with alignment, at several shares of the training part (RGRO, section 4).

A run's base policy is its control: fine-tuned on the same share alone, and measured on the same held-out patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rlaif.config import Config, ConfigurationError
from rlaif.override_text import hydra_text

# What the comparison itself sets in each run.
_SET = ("run.name", "data.split", "run.rounds", "run.start_from")
# What a policy on another source takes over from the run that made it.
_WRITING = ("run.target", "run.seed", "sampler.max_tokens", "sampler.max_length", "sampler.max_sequences")


@dataclass(frozen=True)
class Regime:
    """One run: the share of fine-tuning in per cent, by what it aligns, its name, and the overrides of its command.

    `policies` are those that it adds to the tables: the base that a share's loops have in common stands there once.
    """

    share: int
    loop: str
    name: str
    overrides: tuple[str, ...]
    policies: tuple[str, ...]


@dataclass(frozen=True)
class Transfer:
    """A policy of a regime (`base` or `round-000`) that writes and is scored on another source; nothing is trained."""

    regime: Regime
    policy: str
    source: str
    name: str
    overrides: tuple[str, ...]


def regimes_of(config: Config, overrides: Sequence[str]) -> list[Regime]:
    """A run for each share and loop, all with the same held-out patients; the loops of a share begin at one base.

    Raises ConfigurationError for overrides that the comparison sets itself.
    """
    kept, settings = _kept(overrides), config.regimes
    runs = []
    for share in settings.shares:
        sft = round((1 - settings.heldout) * share / 100, 6)
        align = round(1 - settings.heldout - sft, 6)
        split = f"data.split={{sft: {sft}, align: {align}, heldout: {settings.heldout}}}"
        first = f"{config.run.name}-{share}-{settings.loops[0]}"
        for loop in settings.loops:
            name = f"{config.run.name}-{share}-{loop}"
            own = [split, "run.rounds=1", f"run.name={name}"]
            if name != first and not config.run.dry:
                own.append(f"run.start_from={hydra_text(str(config.run.root / first))}")
            policies = ("base", "round-000") if name == first else ("round-000",)
            runs.append(Regime(share, loop, name, (*kept, *own), policies))
    return runs


def transfers_of(config: Config, regimes: Sequence[Regime]) -> list[Transfer]:
    """Every base policy and every aligned one on each source of `regimes.zero_shot`, whose patients are all held out
    unless its own `split` says otherwise.
    """
    plain = config.plain()
    places = [f"run.root={hydra_text(str(config.run.root))}", f"cache.root={hydra_text(str(config.cache.root))}"]
    for key in _WRITING:
        section, name = key.split(".")
        places.append(f"{key}={plain[section][name]}")
    runs = []
    for regime in regimes:
        for number, source in enumerate(config.regimes.zero_shot):
            settings = {"split": {"sft": 0.0, "align": 0.0, "heldout": 1.0}} | source
            data = [f"data.{key}={hydra_text(value)}" for key, value in settings.items() if key != "data"]
            for policy in regime.policies:
                folder = config.run.root / regime.name / ("base" if policy == "base" else "round-000/checkpoint")
                name = f"{regime.name}-{policy}-on-{source['data']}-{number}"
                own = ["policy=folder", f"policy.path={hydra_text(str(folder))}", "run.rounds=0", f"run.name={name}"]
                overrides = (*places, f"data={source['data']}", *data, *own)
                runs.append(Transfer(regime, policy, str(source["data"]), name, overrides))
    return runs


def _kept(overrides: Sequence[str]) -> list[str]:
    kept = []
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key == "run.name" or key.startswith("regimes."):
            continue
        if key.startswith(_SET):
            raise ConfigurationError(
                f"{override}: the comparison sets {key} in each of its runs; say it in regimes.shares and "
                "regimes.heldout"
            )
        kept.append(override)
    return kept
