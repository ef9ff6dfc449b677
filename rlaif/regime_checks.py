"""What is asked of a comparison's data before its first run: patients for every share, and reports of every source."""

from typing import Any

from rlaif.config import Config, ConfigurationError
from rlaif.plan_counts import Counts, counts_of
from rlaif.regime_plan import split_of
from rlaif.regime_sources import title_of, with_source


def check_shares(config: Config) -> None:
    """Raises ConfigurationError for a share that leaves no patient to fine-tune on, to align on or to measure on."""
    data: Any = config.data
    for share in config.regimes.shares:
        divided = data.model_copy(update={"split": split_of(config, share)})
        counts = _counts(config.model_copy(update={"data": divided}))
        uses = {"sft": "fine-tune", "align": "align", "heldout": "measure"}
        empty = [use for split, use in uses.items() if not counts.cases[split]]  # type: ignore[index]
        if empty:
            raise ConfigurationError(
                f"regimes.shares={share} with regimes.heldout={config.regimes.heldout:g} leaves nothing to "
                f"{' or to '.join(empty)} on, of {sum(counts.studies.values()):,} studies: choose other shares"
            )


def heldout_cases(config: Config) -> dict[str, int]:
    """How many held-out cases each source of `regimes.zero_shot` has, by its title.

    Raises ConfigurationError and DatasetError for a source that cannot be read, or has none.
    """
    cases = {}
    for source in config.regimes.zero_shot:
        counts = _counts(with_source(config, source))
        if not counts.cases["heldout"]:
            raise ConfigurationError(
                f"regimes.zero_shot, {title_of(source)}: it has no held-out case to measure on; see its split"
            )
        cases[title_of(source)] = counts.cases["heldout"]
    return cases


def _counts(config: Config) -> Counts:
    return counts_of(config, image=config.policy.settings().recipe is not None)
