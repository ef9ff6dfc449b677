"""Recipes: the exact preprocessing of a volume that a vision encoder expects."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Window:
    """A fixed range of HU."""

    low_hu: float
    high_hu: float


@dataclass(frozen=True)
class Percentiles:
    """The range of HU between two percentiles of each volume's own voxels; 0 and 100 are its extremes."""

    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The steps from HU to an encoder's input, in this order.

    1. `crop_foreground` keeps the smallest box around the voxels above the low end of `intensity`.
    2. `clip` says whether values are held within `intensity` before resampling too, or after it only.
    3. `spacing_mm` (None: as the scan has it) is what the volume is resampled to first.
    4. `fit` brings it to `size`: cropped or padded about its centre; stretched; or, keeping the
       aspect of slices, each enlarged or reduced by one factor, only surplus slices reduced, the rest padded
       at the far end. Padding has the low end's value.
    5. `intensity` is mapped linearly onto `value_range`.

    `size` and `spacing_mm` are (depth, height, width), in voxels and mm. `interpolation` is linear
    between voxel centres, linear with the outermost centres kept in place, or the mean over each new
    voxel's area. `anti_aliasing` puts a Gaussian filter before an axis that `fit` makes shorter.
    `in_plane` says which canonical axes the encoder takes as height and width: `yx`, or `xy` for
    encoders trained on transposed slices. `layout`, `frames` and `channels` are the published code's
    own arrangement of the result; see `published`. Raises ValueError for settings that contradict.
    """

    name: str
    size: tuple[int, int, int]
    intensity: Window | Percentiles
    fit: Literal["crop_or_pad", "stretch", "keep_aspect"]
    value_range: tuple[float, float] = (-1.0, 1.0)
    crop_foreground: bool = False
    clip: Literal["before", "after"] = "before"
    spacing_mm: tuple[float, float, float] | None = None
    interpolation: Literal["linear", "linear_align_corners", "area"] = "linear"
    anti_aliasing: bool = False
    in_plane: Literal["yx", "xy"] = "yx"
    layout: Literal["depth_height_width", "height_width_depth", "width_height_depth"] = "depth_height_width"
    frames: int = 1
    channels: int = 1

    def __post_init__(self) -> None:
        low, high = asdict(self.intensity).values()
        if min(self.size) < 1 or (self.spacing_mm is not None and min(self.spacing_mm) <= 0):
            raise ValueError(f"recipe {self.name}: size {self.size} and spacing {self.spacing_mm} must be positive")
        if low >= high or self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"recipe {self.name}: intensity and value range must rise from low to high")
        if isinstance(self.intensity, Percentiles) and not 0 <= low < high <= 100:
            raise ValueError(f"recipe {self.name}: percentiles {low:g} and {high:g} must lie between 0 and 100")
        if self.frames < 1 or self.channels < 1 or self.size[0] % self.frames or min(self.frames, self.channels) > 1:
            raise ValueError(
                f"recipe {self.name}: {self.frames} frames must divide the depth {self.size[0]}, with one channel; "
                f"{self.channels} channels need one frame"
            )

    @property
    def checksum(self) -> str:
        """Sixteen hexadecimal digits over everything that changes the output: a part of feature keys."""
        settings = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(settings.encode()).hexdigest()[:16]

    def published(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the system's own code feeds its encoder for one study, as a view of `values` without a copy.

        `values` is `[1, depth, height, width]`, contiguous. Returns `[frames, depth / frames, height, width]`
        with the last three axes in the order of `layout`, or `[channels, ...]` where the one channel is
        repeated. Raises ValueError for another shape.
        """
        if values.shape != (1, *self.size) or not values.flags.c_contiguous:
            raise ValueError(f"values of shape {values.shape} are not the contiguous {(1, *self.size)} of {self.name}")
        depth, height, width = self.size
        order = {
            "depth_height_width": (0, 1, 2, 3),
            "height_width_depth": (0, 2, 3, 1),
            "width_height_depth": (0, 3, 2, 1),
        }[self.layout]
        view = values.reshape(self.frames, depth // self.frames, height, width).transpose(order)
        return np.broadcast_to(view, (self.frames * self.channels, *view.shape[1:]))


def _ctclip(name: str, window: Window) -> Recipe:
    """CT-CLIP (generatect), release 1 of February and 2 of October 2024, as its inference prepares a scan.

    Its code feeds the NIfTI array as (z, first, second index), so slices reach the encoder transposed.
    """
    return Recipe(
        name=name,
        size=(240, 480, 480),
        intensity=window,
        spacing_mm=(1.5, 0.75, 0.75),
        fit="crop_or_pad",
        in_plane="xy",
    )


def _argus(name: str, size: tuple[int, int, int]) -> Recipe:
    """Argus, appendix on preprocessing: both resamplings are published, so both are made.

    The paper names sizes as sagittal, coronal, transverse; the code is not public.
    """
    return Recipe(
        name=name,
        size=size,
        intensity=Window(-1000.0, 1000.0),
        value_range=(0.0, 1.0),
        spacing_mm=(4.0, 1.0, 1.0),
        fit="stretch",
        layout="width_height_depth",
    )


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="phantom",
            size=(32, 48, 48),
            intensity=Window(-1000.0, 400.0),
            spacing_mm=(10.0, 7.0, 7.0),
            fit="crop_or_pad",
        ),
        _ctclip("ctclip_v1", Window(-1000.0, 200.0)),
        _ctclip("ctclip_v2", Window(-1000.0, 1000.0)),
        _argus("argus", (64, 256, 256)),
        _argus("argus_high", (256, 512, 512)),
        # M3D's Data/process/m3d_cap_data_prepare.py, without the flips and quarter turns of its training.
        Recipe(
            name="m3d",
            size=(32, 256, 256),
            intensity=Percentiles(0.0, 100.0),
            value_range=(0.0, 1.0),
            crop_foreground=True,
            fit="stretch",
        ),
        # u2Tokenizer's src/utils/u2Transform.py, its validation branch.
        Recipe(
            name="mu2",
            size=(256, 256, 256),
            intensity=Percentiles(0.5, 99.5),
            value_range=(0.0, 1.0),
            crop_foreground=True,
            fit="keep_aspect",
            interpolation="linear_align_corners",
            anti_aliasing=True,
            in_plane="xy",
            frames=8,
        ),
        # Reg2RG's src/Dataset/radgenome_dataset_test.py, which resizes HU and clamps them afterwards.
        Recipe(
            name="reg2rg",
            size=(64, 256, 256),
            intensity=Window(-1000.0, 200.0),
            crop_foreground=True,
            clip="after",
            fit="stretch",
            interpolation="area",
            in_plane="xy",
            layout="height_width_depth",
            channels=3,
        ),
    )
}


def check_recipe(name: str, volume: tuple[int, int, int] | None = None) -> None:
    """Raises ValueError where there is no recipe of a name, or its output has not the size of an encoder's volume."""
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}")
    if volume is not None and volume != RECIPES[name].size:
        raise ValueError(
            f"encoder.volume {volume} is not what the recipe {name} gives, {RECIPES[name].size}: change one of the two"
        )
