"""What an encoder is given of a study: its CT put through a recipe and, for region-guided policies, its regions."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlaif.volumes.recipes import Recipe
from rlaif.volumes.regions import RegionInputs, RegionMasks, region_inputs
from rlaif.volumes.resampling import apply
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import Orientation, VolumeError


@dataclass(frozen=True, eq=False)
class EncoderInput:
    """`image` float32 `[1, depth, height, width]` of the whole scan, and its regions where they were asked for.

    `remarks` are what a person should know of the study, `read_s` and `recipe_s` the seconds of reading the CT and of
    all that came after it.
    """

    image: npt.NDArray[np.float32]
    regions: RegionInputs
    remarks: tuple[str, ...]
    read_s: float
    recipe_s: float


def encoder_input(
    recipe: Recipe,
    source: VolumeSource,
    orientation: Orientation,
    regions: Mapping[str, Sequence[str]] | None = None,
) -> EncoderInput:
    """The encoder's input for the CT of a source; `regions` maps names to masks, None reads none.

    Raises VolumeError, with what to do, for a study of which no region can be used, and as `VolumeSource.read`.
    """
    started = time.monotonic()
    remarks: tuple[str, ...] = ()
    if regions is None:
        volume, found = source.read(orientation), RegionInputs({}, {}, {})
        read = time.monotonic()
    else:
        if not regions:
            raise VolumeError(
                f"{source.location}: no region masks, which a region-guided policy reads: segment the CT, or take a "
                "policy that reads the whole scan"
            )
        volume, grid = source.read_with_grid(orientation)
        read = time.monotonic()
        found = region_inputs(recipe, volume, RegionMasks(grid, orientation).read_all(regions))
        if not found.images:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in found.absent.items())
            raise VolumeError(f"{source.location}: none of its regions can be used ({reasons})")
        remarks = tuple(f"region {name} is left out: {reason}" for name, reason in found.absent.items())
    image = apply(recipe, volume)
    return EncoderInput(image, found, (*volume.remarks, *remarks), read - started, time.monotonic() - read)
