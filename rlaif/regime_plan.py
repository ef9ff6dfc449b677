"""The runs that compare fine-tuning with alignment, at several shares of the training part (RGRO, section 4).

A run's base policy is its control: fine-tuned on the same share alone, and measured on the same held-out patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlaif.config import Config, ConfigurationError
from rlaif.datasets.layout import SplitSettings
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.launch import CONFIGS
from rlaif.metrics.regimes import MeasuredPolicy
from rlaif.override_text import hydra_text, kept_overrides
from rlaif.regime_sources import own_settings, title_of
from rlaif.run_configuration import CONFIG_FILE, read_configuration

# What the comparison itself sets in each run.
_SET = {
    r"data\.split(\..+)?": "say it in regimes.shares and regimes.heldout",
    r"run\.rounds": "each of them aligns for one round: leave it out",
    r"run\.start_from": "the loops of a share begin at one base by themselves: leave it out",
    r"run\.alignment": "say it in regimes.loops",
}
# The order of a share's loops, whatever order they are named in: the first trains the base.
_LOOPS = ("dpo", "ppo")
# What a policy that writes on another source takes over from the run that made it: how it writes and is judged, and
# what everything stands on. A sampler, a judge and a learner must fit one cluster, even where nobody learns.
_HANDED_ON = ("cluster", "sampler", "judge", "heldout", "ingest", "cache", "trackers", "recipe.orientation")
_OF_RUN = ("run.root", "run.seed", "run.target", "run.blind_control", "run.max_bad_fraction")
_OF_TRAINING = {"lora", "pretrain", "sft", "dpo", "ppo"}


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


def split_of(config: Config, share: int) -> SplitSettings:
    """The division of the patients whose training part is fine-tuned on by `share` per cent."""
    heldout = config.regimes.heldout
    sft = round((1 - heldout) * share / 100, 6)
    return SplitSettings(sft=sft, align=round(1 - heldout - sft, 6), heldout=heldout)


def regimes_of(config: Config, overrides: Sequence[str]) -> list[Regime]:
    """A run for each share and loop, all with the same held-out patients; the loops of a share begin at one base, that
    of the run which trains it or has trained it on disk.

    Raises ConfigurationError for overrides that the comparison sets itself, and for what cannot be compared.
    """
    kept = kept_overrides(overrides, "regimes", _SET, "the comparison")
    _check(config)
    runs = []
    for share in config.regimes.shares:
        names = {loop: f"{config.run.name}-{share}-{loop}" for loop in _LOOPS}
        wanted = [loop for loop in _LOOPS if loop in config.regimes.loops]
        first = next((loop for loop in _LOOPS if _trains_base(config.run.root / names[loop])), wanted[0])
        wanted.sort(key=lambda loop: loop != first)
        for loop in wanted:
            shares = hydra_text(split_of(config, share).model_dump())
            own = [f"data.split={shares}", "run.rounds=1", f"run.name={names[loop]}"]
            # A plan starts from nothing: the run before it is not there.
            if loop != first and not config.run.dry:
                own.append(f"run.start_from={hydra_text(str(config.run.root / names[first]))}")
            policies = ("base", "round-000") if loop == wanted[0] else ("round-000",)
            runs.append(Regime(share, loop, names[loop], (*kept, *own), policies))
    return runs


def transfers_of(config: Config, regimes: Sequence[Regime]) -> list[Transfer]:
    """Every base policy and every aligned one on each source of `regimes.zero_shot`.

    All patients of a source are held out, and where it has an official test split only those of that one, unless its
    own `split` says otherwise.
    """
    handed_on = _handed_on(config)
    runs = []
    for regime in regimes:
        for number, source in enumerate(config.regimes.zero_shot):
            data = [f"data.{key}={hydra_text(value)}" for key, value in own_settings(source).items()]
            for policy in regime.policies:
                folder = config.run.root / regime.name / ("base" if policy == "base" else "round-000/checkpoint")
                name = f"{regime.name}-{policy}-on-{source['data']}-{number}"
                own = ["policy=folder", f"policy.path={hydra_text(str(folder))}", "run.rounds=0", f"run.name={name}"]
                overrides = (*handed_on, f"data={source['data']}", *data, *own)
                runs.append(Transfer(regime, policy, title_of(source), name, overrides))
    return runs


def tables_of(
    config: Config, regimes: Sequence[Regime], transfers: Sequence[Transfer]
) -> dict[str, list[MeasuredPolicy]]:
    """The policies of each table by its title: one table of the held-out patients, and one for each other source."""
    root = config.run.root
    own = [
        _measured(regime, policy, root / regime.name / "heldout" / policy)
        for regime in regimes
        for policy in regime.policies
    ]
    tables = {f"{config.data.name}, held out": own}
    for one in transfers:
        reports = root / one.name / "heldout" / "base"
        tables.setdefault(f"{one.source}, not seen in training", []).append(_measured(one.regime, one.policy, reports))
    return tables


def _measured(regime: Regime, policy: str, reports: Path) -> MeasuredPolicy:
    control = f"SFT-{regime.share}"
    if policy == "base":
        return MeasuredPolicy(control, None, reports)
    return MeasuredPolicy(f"RGRO-{regime.share} by {regime.loop.upper()}", control, reports)


def _check(config: Config) -> None:
    data = config.data
    if config.policy.path is not None:
        raise ConfigurationError(
            f"policy.path={config.policy.path} is taken as it is, and the comparison is of policies that are "
            "fine-tuned: choose one that is, such as policy=rgro"
        )
    if isinstance(data, PhantomDataSettings):
        raise ConfigurationError(
            f"data={data.name} has no data.split, by which the comparison divides patients: choose another data set"
        )
    if data.limit is not None:
        raise ConfigurationError(
            f"data.limit={data.limit} limits each split, so that larger shares would be cut to the same size: leave it "
            "out; heldout.limit limits the held-out cases, and a larger regimes.heldout leaves a smaller training part"
        )


def _trains_base(folder: Path) -> bool:
    """Whether a run stands there that begins at no other one's base."""
    if not (folder / CONFIG_FILE).is_file():
        return False
    run = read_configuration(folder).get("run")
    return isinstance(run, dict) and run.get("start_from") is None


def _handed_on(config: Config) -> list[str]:
    """The overrides that give a run of another source and policy all else of this configuration."""
    plain = config.plain()
    values = {key: plain["run"][key.partition(".")[2]] for key in _OF_RUN}
    for section, _, only in (key.partition(".") for key in _HANDED_ON):
        values |= {f"{section}.{key}": value for key, value in plain[section].items() if only in ("", key)}
    values |= {f"learner.{key}": value for key, value in plain["learner"].items() if key not in _OF_TRAINING}
    # A preset also says how a learner keeps its reference, and a judge's kind which settings there are.
    preset = (CONFIGS / "cluster" / f"{config.cluster.name}.yaml").is_file()
    chosen = [f"judge={config.judge.kind}", *([f"cluster={config.cluster.name}"] if preset else [])]
    return [*chosen, *(f"{key}={hydra_text(value)}" for key, value in values.items())]
