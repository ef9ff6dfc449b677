"""What the phantom is to hold: its settings, the ids of its studies and their splits."""

import hashlib
import json
import re
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rlaif.datasets.phantom_findings import FINDING_NAMES
from rlaif.records import Split

GENERATOR_VERSION = 3
"""Part of the fingerprint: raised whenever the same settings would give other files."""

LEAST_FIELD_MM, MOST_FIELD_MM, MOST_VOXELS = 280.0, 600.0, 512**3

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Size = Annotated[int, Field(ge=8, le=1024)]
Spacing = Annotated[float, Field(gt=0.1, le=40)]


class PhantomSettings(BaseModel):
    """What to generate: patients for each split, the volumes' geometry (z, y, x), and which findings how often.

    `prevalence` is the mean number of findings of a study, `normal_fraction` the share of studies without any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sft: Count = 1500
    align: Count = 1000
    heldout: Count = 500
    seed: int = Field(default=0, ge=0)
    shape: tuple[Size, Size, Size] = (32, 48, 48)
    spacing_mm: tuple[Spacing, Spacing, Spacing] = (10.0, 7.0, 7.0)
    findings: tuple[str, ...] = FINDING_NAMES
    prevalence: float = Field(default=3.0, ge=0)
    normal_fraction: float = Field(default=0.12, ge=0, le=1)
    noise_hu: float = Field(default=20.0, ge=0, le=500)
    regions: bool = False

    @field_validator("findings", mode="after")
    @classmethod
    def _known(cls, findings: tuple[str, ...]) -> tuple[str, ...]:
        lowered = tuple(name.lower() for name in findings)
        unknown = sorted(set(lowered) - set(FINDING_NAMES))
        if unknown:
            raise ValueError(f"unknown findings {unknown}; the phantom draws {list(FINDING_NAMES)}")
        return tuple(name for name in FINDING_NAMES if name in lowered)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        extents = [size * spacing for size, spacing in zip(self.shape, self.spacing_mm, strict=True)]
        if not all(LEAST_FIELD_MM <= extent <= MOST_FIELD_MM for extent in extents):
            raise ValueError(
                f"shape {self.shape} with spacing {self.spacing_mm} mm gives a field of {extents} mm (z, y, x); "
                f"a chest needs {LEAST_FIELD_MM:.0f} to {MOST_FIELD_MM:.0f} mm along each axis"
            )
        if int(np.prod(self.shape)) > MOST_VOXELS:
            raise ValueError(f"shape {self.shape} has more than {MOST_VOXELS} voxels")
        share = 1 - self.normal_fraction
        if self.normal_fraction < 1 and not share <= self.prevalence <= share * len(self.findings):
            raise ValueError(
                f"prevalence {self.prevalence} cannot be reached: with normal_fraction {self.normal_fraction} and "
                f"{len(self.findings)} findings it must lie from {share:.2f} to {share * len(self.findings):.2f}"
            )
        return self


def fingerprint(settings: PhantomSettings) -> str:
    """A short name for what these settings give, stable across processes and machines; 16 hex digits."""
    text = json.dumps({"generator": GENERATOR_VERSION, **settings.model_dump(mode="json")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def study_ids(settings: PhantomSettings) -> list[str]:
    """The ids of all studies, in order: training patients first, then held-out ones."""
    train = [f"train_{number}_a_1" for number in range(1, settings.sft + settings.align + 1)]
    return train + [f"valid_{number}_a_1" for number in range(1, settings.heldout + 1)]


def split_of(study_id: str, settings: PhantomSettings) -> Split:
    """The split of a study, by its patient's number.

    Raises ValueError for an id that these settings do not generate.
    """
    match = re.fullmatch(r"(train|valid)_([1-9][0-9]*)_[a-z]+_[0-9]+", study_id)
    number = int(match[2]) if match else 0
    if match and match[1] == "valid" and number <= settings.heldout:
        return "heldout"
    if match and match[1] == "train" and number <= settings.sft + settings.align:
        return "sft" if number <= settings.sft else "align"
    raise ValueError(
        f"study {study_id!r} is not of this phantom set: it has train_1 to train_{settings.sft + settings.align} "
        f"and valid_1 to valid_{settings.heldout}"
    )
