"""Where a study's CT comes from, and what the data set's tables say of it that its file does not."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rlaif.records import Study
from rlaif.storage import file_states, local_copy, with_retries
from rlaif.volumes.mask_files import mask_files
from rlaif.volumes.recipes import Recipe
from rlaif.volumes.volume import Orientation, Volume, VolumeError, check_hounsfield, read_volume

if TYPE_CHECKING:
    from rlaif.volumes.grid import Grid

Result = TypeVar("Result")

# Raised when reading or resampling gives other values for the same file and recipe: earlier features are then stale.
READING = 1


@dataclass(frozen=True)
class VolumeSource:
    """A CT to be read: a path or `s3://` address, the series to take from a folder of several, and what tables say.

    `rescale` is (slope, intercept) from stored values to HU, `spacing_mm` is (z, y, x); None takes the file's own.
    """

    location: str
    series: str | None = None
    rescale: tuple[float, float] | None = None
    spacing_mm: tuple[float, float, float] | None = None

    @classmethod
    def of(cls, study: Study) -> "VolumeSource":
        """The source of a study's CT; raises ValueError for a study without one."""
        if study.volume is None:
            raise ValueError(f"study {study.study_id} has no volume")
        return cls.at(study.volume, study.rescale, study.spacing_mm)

    @classmethod
    def at(
        cls, volume: str, rescale: Sequence[float] | None = None, spacing_mm: Sequence[float] | None = None
    ) -> "VolumeSource":
        """The source that a record's `volume` names, with what its row says of it."""
        location, mark, series = volume.rpartition("#")
        # A UID holds digits and dots alone: a `#` before anything else belongs to the file's name.
        if not mark or not series or series.strip("0123456789."):
            location, series = volume, ""
        slope_intercept = None if rescale is None else (rescale[0], rescale[1])
        spacing = None if spacing_mm is None else (spacing_mm[0], spacing_mm[1], spacing_mm[2])
        return cls(location, series or None, slope_intercept, spacing)

    @classmethod
    def from_json(cls, text: str) -> "VolumeSource":
        """The source that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        source = cls.at(values["location"], values["rescale"], values["spacing_mm"])
        return replace(source, location=values["location"], series=values["series"])

    def to_json(self) -> str:
        """The source as text, to travel with a row."""
        return json.dumps(asdict(self))

    def read(self, orientation: Orientation = "canonical") -> Volume:
        """The volume in HU, checked to be that of a patient.

        Raises VolumeError for data that cannot be used, FileNotFoundError where nothing is there, and
        StorageUnavailable where remote storage does not answer.
        """
        with local_copy(self.location) as path:
            return self._read(path, orientation)

    def read_with_grid(self, orientation: Orientation = "canonical") -> tuple[Volume, "Grid"]:
        """The volume with the grid of its files, which masks are put onto; a remote CT is fetched once for both.

        Raises as `read`, and VolumeError where headers give the voxels no place in the patient.
        """
        # It brings the readers of all formats, which a job that only makes keys does not wait for.
        from rlaif.volumes.grid import read_grid

        with local_copy(self.location) as path:
            volume = self._read(path, orientation)
            return volume, self._from(path, lambda: read_grid(path, self.series))

    def _read(self, path: Path, orientation: Orientation) -> Volume:
        volume = self._from(path, lambda: read_volume(path, orientation=orientation, series=self.series))
        try:
            return self._stated(volume, orientation)
        except VolumeError as error:
            raise VolumeError(f"{self.location}: {error}") from error

    def _from(self, path: Path, action: Callable[[], Result]) -> Result:
        """What an action makes of the local copy at `path`, whose name says nothing to a person."""
        try:
            return with_retries(action, self.location)
        except VolumeError as error:
            raise VolumeError(str(error).replace(str(path), self.location)) from error

    def _stated(self, volume: Volume, orientation: Orientation) -> Volume:
        """The volume with what tables say of it, checked to be HU."""
        if self.spacing_mm is not None:
            if orientation == "canonical":
                _check_header(volume, self.spacing_mm)
            volume = replace(volume, spacing_mm=self.spacing_mm)
        if self.rescale is not None:
            volume = replace(volume, voxels=_rescaled(volume, *self.rescale))
        check_hounsfield(volume)
        return volume

    def feature_key(
        self,
        recipe: Recipe,
        orientation: Orientation,
        encoder: str,
        regions: Mapping[str, Sequence[str]] | None = None,
    ) -> str:
        """The key of this CT's features: its files, what tables say of it, recipe, orientation, encoder and dtype.

        `encoder` stands for its weights and its settings, as pooling and heads have no weights. `regions` are the masks
        that a region-guided policy reads; None where it reads none. Files count by name, size and time of change; a
        series by all files of its folder. Raises FileNotFoundError where nothing is there, and StorageUnavailable.
        """
        states = file_states(self.location)
        identity = [READING, asdict(self), states, recipe.checksum, orientation, encoder, "float16"]
        if regions is not None:
            identity += [sorted(regions.items()), [file_states(mask) for mask in mask_files(regions)]]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def _rescaled(volume: Volume, slope: float, intercept: float) -> np.ndarray[Any, Any]:
    """Stored values as HU: int16 where slope and intercept are whole and the values fit, else float32."""
    limits = np.iinfo(np.int16)
    low, high = float(volume.voxels.min()) * slope + intercept, float(volume.voxels.max()) * slope + intercept
    if not np.isfinite([low, high]).all() or max(abs(low), abs(high)) > 1e6:
        raise VolumeError(
            f"rescale slope {slope:g} and intercept {intercept:g} of the metadata give values up to "
            f"{max(abs(low), abs(high)):g}: the row is wrong, or the volume is in HU already"
        )
    whole = slope.is_integer() and intercept.is_integer() and volume.voxels.dtype == np.int16
    fits = limits.min <= min(low, high) and max(low, high) <= limits.max
    rescaled = np.empty(volume.voxels.shape, np.int16 if whole and fits else np.float32)
    # Slice by slice: 32-bit values of a whole volume would take twice its memory for a moment.
    for stored, hounsfield in zip(volume.voxels, rescaled, strict=True):
        hounsfield[...] = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    return rescaled


def _check_header(volume: Volume, stated_mm: tuple[float, float, float]) -> None:
    """Raise VolumeError where the header's spacing is not the table's: its orientation cannot be trusted either."""
    if not np.allclose(sorted(volume.spacing_mm), sorted(stated_mm), rtol=0.01):
        header, stated = (" x ".join(f"{one:.3g}" for one in spacing) for spacing in (volume.spacing_mm, stated_mm))
        raise VolumeError(
            f"the header gives a spacing of {header} mm where the table has {stated} mm, so its orientation cannot be "
            "trusted either: take the corrected release, or the voxels as they are with recipe.orientation=stored"
        )
