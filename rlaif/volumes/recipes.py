"""Recipes: the exact preprocessing of a volume that a vision encoder expects."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """The steps from HU to an encoder's input, in this order.

    Values are clipped to `window_hu`; the volume is resampled to `spacing_mm` (trilinear; None
    stretches it to `size` instead); it is cropped or padded about its centre to `size`, padding with
    the window's low value; the window is mapped linearly onto `value_range`. `size` and
    `spacing_mm` are (depth, height, width), in voxels and mm. `in_plane` says which canonical axes
    the encoder takes as height and width: `yx`, or `xy` for encoders trained on transposed slices.
    """

    name: str
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None
    window_hu: tuple[float, float]
    value_range: tuple[float, float] = (-1.0, 1.0)
    in_plane: Literal["yx", "xy"] = "yx"

    def __post_init__(self) -> None:
        if min(self.size) < 1 or (self.spacing_mm is not None and min(self.spacing_mm) <= 0):
            raise ValueError(f"recipe {self.name}: size {self.size} and spacing {self.spacing_mm} must be positive")
        if self.window_hu[0] >= self.window_hu[1] or self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"recipe {self.name}: window and value range must rise from low to high")

    @property
    def checksum(self) -> str:
        """Sixteen hexadecimal digits over everything that changes the output: a part of feature keys."""
        settings = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(settings.encode()).hexdigest()[:16]


# Published sizes and windows of CT-CLIP (generatect), release 1 of February and 2 of October 2024; its
# code feeds the NIfTI array as (z, first, second index), so slices reach the encoder transposed.
_CTCLIP_SIZE, _CTCLIP_SPACING = (240, 480, 480), (1.5, 0.75, 0.75)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("phantom", (32, 48, 48), (10.0, 7.0, 7.0), (-1000.0, 400.0)),
        Recipe("ctclip_v1", _CTCLIP_SIZE, _CTCLIP_SPACING, (-1000.0, 200.0), in_plane="xy"),
        Recipe("ctclip_v2", _CTCLIP_SIZE, _CTCLIP_SPACING, (-1000.0, 1000.0), in_plane="xy"),
    )
}
