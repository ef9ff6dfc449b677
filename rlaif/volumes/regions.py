"""Masks of a CT's regions, and what a region-guided encoder is given of each.

The published steps are those of Reg2RG's src/Dataset/radgenome_dataset_train.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rlaif.storage import local_copy, with_retries
from rlaif.volumes.grid import Grid, read_grid
from rlaif.volumes.intensity import Box, foreground
from rlaif.volumes.mask_files import LABELS
from rlaif.volumes.recipes import Recipe, Window
from rlaif.volumes.resampling import apply
from rlaif.volumes.volume import Orientation, Volume, VolumeError, read_volume

Mask = npt.NDArray[np.bool_]
Placement = Literal["by_affine", "by_index"]

# What Reg2RG puts in the place of everything outside of a region.
OUTSIDE_HU = -1024


class RegionMasks:
    """The masks of one CT's regions, on the voxels of the CT as it is read in an orientation.

    `grid` is the CT's. `by_affine` puts masks where their headers say they lie: one stored in another order is
    turned, one on another grid is an error. `by_index` takes them voxel by voxel in the CT's stored order whatever
    their headers say, as Reg2RG's code does: for masks that lost their affine, when it is known whose order they have.
    """

    def __init__(self, grid: Grid, orientation: Orientation = "canonical", placement: Placement = "by_affine") -> None:
        self._grid, self._orientation, self._placement = grid, orientation, placement
        self._last: tuple[str, npt.NDArray[Any]] | None = None

    def read(self, sources: Iterable[str]) -> Mask:
        """The union of a region's sources as bool `[z, y, x]`, as a study's record names them (`rlaif.records.Study`).

        A source with labels counts where the label map has one of them, another one where it is above 0. Raises
        VolumeError, with the path, for a mask that cannot be read, lies on another grid, or holds values that are no
        whole numbers; FileNotFoundError and StorageUnavailable for remote ones.
        """
        union: Mask | None = None
        for source in sources:
            match = LABELS.fullmatch(source)
            location, labels = (
                (source, None) if match is None else (match[1], [int(one) for one in match[2].split(",")])
            )
            values = self._values(location)
            mask = values > 0 if labels is None else np.isin(values, labels)
            union = mask if union is None else np.logical_or(union, mask, out=union)
        if union is None:
            raise ValueError("a region without sources has no mask")
        return union

    def read_all(self, regions: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, Mask]]:
        """Each region with its mask, one at a time: ten masks of a large CT would take more memory than the CT."""
        for region, sources in regions.items():
            yield region, self.read(sources)

    def check(self, location: str) -> None:
        """Raises VolumeError where a mask's header says that it does not fit on the CT; its voxels are not read.

        `location` is a local file.
        """
        grid = read_grid(Path(location))
        try:
            self._grid.reordered(np.broadcast_to(np.uint8(0), grid.shape[::-1]), grid)
        except VolumeError as error:
            raise VolumeError(f"{location}: {error}") from error

    def _values(self, location: str) -> npt.NDArray[Any]:
        # A study's regions mostly come from one label map.
        if self._last is None or self._last[0] != location:
            self._last = None
            self._last = location, self._placed(location)
        return self._last[1]

    def _placed(self, location: str) -> npt.NDArray[Any]:
        with local_copy(location) as path:
            try:
                return self._grid.oriented(with_retries(lambda: self._stored(path), location), self._orientation)
            except VolumeError as error:
                # A copy's name says nothing to a person.
                said = str(error).removeprefix(f"{path}: ").replace(str(path), location)
                raise VolumeError(f"{location}: {said}") from error

    def _stored(self, path: Path) -> npt.NDArray[Any]:
        """The values of a local mask, in the stored order of the CT."""
        if path.is_dir():
            raise VolumeError("is a folder; a mask is one file (NIfTI, NRRD, MHA)")
        stored = read_volume(path, orientation="stored").voxels
        _check_whole(stored)
        if self._placement == "by_affine":
            return self._grid.reordered(stored, read_grid(path))
        if stored.shape != self._grid.shape[::-1]:
            raise VolumeError(f"has {stored.shape[::-1]} voxels where the CT has {self._grid.shape}")
        return stored


def mask_remarks(ct: Path, series: str | None, masks: Iterable[str]) -> tuple[str, ...]:
    """What is wrong with the headers of a local CT's local masks, so that it is known before a model needs them."""
    try:
        placed = RegionMasks(read_grid(ct, series))
    except VolumeError as error:
        # Such as a CT that is read as stored: it has voxels, and no place.
        return (f"its regions' masks cannot be placed: {error}",)
    remarks = []
    for mask in masks:
        try:
            placed.check(mask)
        except (VolumeError, OSError) as error:
            remarks.append(f"a region's mask cannot be used: {error}")
    return tuple(remarks)


def _check_whole(values: npt.NDArray[Any]) -> None:
    if values.dtype.kind == "f" and any((plane != np.rint(plane)).any() for plane in values):
        raise VolumeError("holds values that are no whole numbers, so it is no mask but a soft one; round it")


def masked_to_region(volume: Volume, mask: Mask) -> Volume:
    """The volume with everything outside of the mask at -1024 HU."""
    _check_shape(volume, mask)
    voxels = volume.voxels.copy()
    voxels[~mask] = OUTSIDE_HU
    return replace(volume, voxels=voxels)


def crop_to_region(volume: Volume, mask: Mask, margin_mm: float = 0.0) -> Volume:
    """The smallest box of the volume around the mask, grown by at least `margin_mm` where the volume goes on.

    Raises VolumeError for an empty mask.
    """
    _check_shape(volume, mask)
    if not mask.any():
        raise VolumeError("the region's mask is empty, so there is nothing to crop to")
    margins = (int(np.ceil(margin_mm / spacing)) for spacing in volume.spacing_mm)
    grown = (
        slice(max(0, side.start - margin), side.stop + margin) for side, margin in zip(_box(mask), margins, strict=True)
    )
    return replace(volume, voxels=volume.voxels[tuple(grown)].copy())


def _box(mask: Mask) -> Box:
    """The smallest box around a mask that is not empty."""
    in_slices = np.flatnonzero(mask.any(axis=(1, 2)))
    first, last = int(in_slices[0]), int(in_slices[-1])
    rows = np.flatnonzero(mask[first : last + 1].any(axis=(0, 2)))
    columns = np.flatnonzero(mask[first : last + 1].any(axis=(0, 1)))
    return (
        slice(first, last + 1),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


@dataclass(frozen=True, eq=False)
class RegionInputs:
    """What the encoders are given of a study's regions, float32 `[1, depth, height, width]` each, by region.

    `images` show one region alone, zoomed to it, within the recipe's value range; `geometry` is its mask within the
    whole scan, from 0 to 1. `absent` says why regions have neither.
    """

    images: dict[str, npt.NDArray[np.float32]]
    geometry: dict[str, npt.NDArray[np.float32]]
    absent: dict[str, str]


def region_inputs(recipe: Recipe, volume: Volume, masks: Iterable[tuple[str, Mask]]) -> RegionInputs:
    """The inputs of a volume's regions.

    A region is put through the recipe with everything else at -1024 HU, so that its foreground crop zooms to the
    region; masks are cropped and resampled with the whole scan. A region with an empty mask, or without anything
    above the window's low end, is absent. Raises ValueError for a recipe without a fixed window: percentiles of a
    volume that is mostly -1024 say nothing; VolumeError as `apply`.
    """
    if not isinstance(recipe.intensity, Window):
        raise ValueError(
            f"recipe {recipe.name} takes its range from each volume, which regions need a fixed window for"
        )
    low = recipe.intensity.low_hu
    whole: Box = (slice(None), slice(None), slice(None))
    box = foreground(volume.voxels, low) if recipe.crop_foreground else whole
    geometry = replace(recipe, intensity=Window(0.0, 1.0), value_range=(0.0, 1.0), crop_foreground=False)
    inputs = RegionInputs({}, {}, {})
    for region, mask in masks:
        _check_shape(volume, mask)
        if not mask.any():
            inputs.absent[region] = "its mask is empty"
            continue
        # What lies around the region's box goes with the foreground crop anyway.
        near = _box(mask) if recipe.crop_foreground else whole
        alone = masked_to_region(replace(volume, voxels=volume.voxels[near]), mask[near])
        if recipe.crop_foreground and alone.voxels.max() <= low:
            inputs.absent[region] = f"nothing in its mask is above {low:g} HU"
            continue
        inputs.images[region] = apply(recipe, alone)
        inputs.geometry[region] = apply(geometry, replace(volume, voxels=mask[box].astype(np.int16)))
    return inputs


def _check_shape(volume: Volume, mask: Mask) -> None:
    if mask.shape != volume.voxels.shape or mask.dtype != np.bool_:
        raise ValueError(f"a mask of {mask.dtype} {mask.shape} is none of the volume's {volume.voxels.shape} voxels")
