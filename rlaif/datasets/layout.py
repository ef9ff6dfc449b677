"""What the settings of all data sets share: where the data lie, how patients are divided, what is taken."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitSettings(Frozen):
    """How patients are divided: fractions that sum to 1, or numbers of patients (further ones are left out)."""

    sft: int | float = Field(default=0.6, ge=0)
    align: int | float = Field(default=0.3, ge=0)
    heldout: int | float = Field(default=0.1, ge=0)

    @property
    def counted(self) -> bool:
        """Whether the shares are numbers of patients rather than fractions."""
        return abs(self.sft + self.align + self.heldout - 1.0) > 1e-6

    @model_validator(mode="after")
    def _fractions_or_counts(self) -> "SplitSettings":
        shares = (self.sft, self.align, self.heldout)
        if self.counted and (sum(shares) == 0 or any(not float(share).is_integer() for share in shares)):
            raise ValueError(
                f"split {shares} for sft, align and heldout must be fractions that sum to 1, or numbers of patients"
            )
        return self


class Layout(Frozen):
    """What all layouts share.

    `path` is a folder of this machine or an `s3://bucket/prefix` address (`rlaif.storage`). `limit` is the most
    studies taken for each split, in the seed's order of patients; None takes all.
    """

    path: str
    split: SplitSettings = SplitSettings()
    limit: int | None = Field(default=None, ge=1)
    seed: int = 0

    @field_validator("path", mode="before")
    @classmethod
    def _text(cls, path: object) -> object:
        return str(path) if isinstance(path, Path) else path


class VolumeLayout(Layout):
    """What the layouts with CTs share.

    `missing_volumes` says what becomes of table rows whose volume is not there (`skip` is for partial downloads),
    `unlisted_volumes` what becomes of volumes that no row names, `empty_reports` what becomes of CTs without any text.
    """

    missing_volumes: Literal["quarantine", "skip"] = "quarantine"
    unlisted_volumes: Literal["quarantine", "skip"] = "quarantine"
    empty_reports: Literal["quarantine", "keep"] = "quarantine"
