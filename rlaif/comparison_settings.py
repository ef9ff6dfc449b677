"""What the jobs that compare whole runs vary: jobs/ablate.py and jobs/regimes.py."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rlaif.preferences.settings import StrategyName
from rlaif.section import Section


class AblateSettings(Section):
    """What jobs/ablate.py varies."""

    judges: tuple[str | dict[str, Any], ...] = Field(min_length=1)
    """Judges that train, each in runs of its own; all of them score every run's held-out reports."""
    pairs: tuple[StrategyName, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)


class RegimeSettings(Section):
    """What jobs/regimes.py compares."""

    shares: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field(min_length=1)
    """Of the training part, how many per cent are fine-tuned on; the rest is aligned on."""
    heldout: float = Field(gt=0, lt=1)
    """The share of all patients that is held out, the same ones in every run; an official test split stands instead."""
    loops: tuple[Literal["dpo", "ppo"], ...] = Field(min_length=1)
    zero_shot: tuple[dict[str, Any], ...]
    """Other sources that every policy is measured on: {data: NAME, path: FOLDER, ...}."""

    @model_validator(mode="after")
    def _tells_sources(self) -> "RegimeSettings":
        if unnamed := [one for one in self.zero_shot if "data" not in one]:
            raise ValueError(f"zero_shot: write {{data: NAME, path: FOLDER, ...}}, not {unnamed[0]}")
        for name in ("shares", "loops", "zero_shot"):
            entries = list(getattr(self, name))
            if any(entries.count(one) > 1 for one in entries):
                raise ValueError(f"{name} has one of its entries twice")
        return self
