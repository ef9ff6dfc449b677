"""What an encoder is given of a study: its CT put through a recipe and, for region-guided policies, its regions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlaif.storage import local_copy
from rlaif.volumes.grid import read_grid
from rlaif.volumes.recipes import Recipe
from rlaif.volumes.regions import RegionInputs, RegionMasks, region_inputs
from rlaif.volumes.resampling import apply
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import Orientation, Volume, VolumeError


@dataclass(frozen=True, eq=False)
class EncoderInput:
    """`image` float32 `[1, depth, height, width]` of the whole scan, and its regions where they were asked for."""

    image: npt.NDArray[np.float32]
    regions: RegionInputs
    remarks: tuple[str, ...]


def encoder_input(
    recipe: Recipe,
    volume: Volume,
    source: VolumeSource,
    orientation: Orientation,
    regions: Mapping[str, Sequence[str]] | None = None,
) -> EncoderInput:
    """The encoder's input for a volume that was read from a source; `regions` maps names to masks, None reads none.

    Raises VolumeError, with what to do, for a study of which no region can be used.
    """
    if regions is None:
        return EncoderInput(apply(recipe, volume), RegionInputs({}, {}, {}), volume.remarks)
    if not regions:
        raise VolumeError(
            f"{source.location}: no region masks, which a region-guided policy reads: segment the CT, or take a policy "
            "that reads the whole scan"
        )
    with local_copy(source.location) as path:
        masks = RegionMasks(read_grid(Path(path), source.series), orientation)
    found = region_inputs(recipe, volume, masks.read_all(regions))
    if not found.images:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.absent.items())
        raise VolumeError(f"{source.location}: none of its regions can be used ({reasons})")
    left_out = tuple(f"region {name} is left out: {reason}" for name, reason in found.absent.items())
    return EncoderInput(apply(recipe, volume), found, (*volume.remarks, *left_out))
