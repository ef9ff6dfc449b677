"""What a configuration says of a data set: one frozen model for each layout, told apart by `name`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rlaif.datasets.phantom_settings import PhantomSettings


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitSettings(_Frozen):
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


class _Layout(_Frozen):
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


class _VolumeLayout(_Layout):
    """What the layouts with CTs share.

    `missing_volumes` says what becomes of table rows whose volume is not there (`skip` is for partial downloads),
    `unlisted_volumes` what becomes of volumes that no row names.
    """

    missing_volumes: Literal["quarantine", "skip"] = "quarantine"
    unlisted_volumes: Literal["quarantine", "skip"] = "quarantine"


class CtRateColumns(_Frozen):
    """The columns of CT-RATE's report tables, and of its metadata tables, which the original release needs."""

    volume: str = "VolumeName"
    findings: str = "Findings_EN"
    impression: str = "Impressions_EN"
    slope: str = "RescaleSlope"
    intercept: str = "RescaleIntercept"
    xy_spacing: str = "XYSpacing"
    z_spacing: str = "ZSpacing"


class CtRateSettings(_VolumeLayout):
    """A folder in the layout of CT-RATE.

    The `valid` volumes are held out; `split.sft` and `split.align` divide the patients of `train`
    in their proportion (or by number), in the seed's order or in that of the patients' numbers.
    `release` says what the volumes hold: HU (`fixed`), or stored values (`original`), whose slope,
    intercept and spacing are then taken from the metadata tables.
    """

    name: Literal["ct_rate"] = "ct_rate"
    columns: CtRateColumns = CtRateColumns()
    order: Literal["seed", "number"] = "seed"
    release: Literal["fixed", "original"] = "fixed"


class FolderColumns(_Frozen):
    """The columns of a folder's table; `findings` or `impression` is null where the table has none."""

    study_id: str = "study_id"
    path: str = "path"
    patient_id: str = "patient_id"
    findings: str | None = "findings"
    impression: str | None = "impression"
    split: str = "split"


class FolderSettings(_VolumeLayout):
    """A folder of NIfTI files and DICOM series, with a table of reports.

    `table` is the CSV file's path within the folder; null takes `studies.csv` where it is there, and
    otherwise every CT below the folder as a study without report.
    """

    name: Literal["folder"] = "folder"
    table: str | None = None
    columns: FolderColumns = FolderColumns()


class OpeniColumns(_Frozen):
    """The columns of the Open-I report table in its CSV form."""

    study_id: str = "uid"
    findings: str = "findings"
    impression: str = "impression"


class OpeniSettings(_Layout):
    """The Open-I chest X-ray reports (text only): a folder of XML files, or the CSV form."""

    name: Literal["openi"] = "openi"
    columns: OpeniColumns = OpeniColumns()


class PhantomDataSettings(PhantomSettings):
    """The built-in data: what the generator draws, under the name that configurations choose it by."""

    name: Literal["phantom"] = "phantom"

    @property
    def generator(self) -> PhantomSettings:
        """The generator's own settings, which its fingerprint is taken of."""
        return PhantomSettings(**self.model_dump(exclude={"name"}))


DataSettings = Annotated[
    PhantomDataSettings | CtRateSettings | FolderSettings | OpeniSettings, Field(discriminator="name")
]
