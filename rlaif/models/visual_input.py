"""What a policy sees of a study: encoder features, or voxels where the encoder is on board and trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RegionInput:
    """One region: `image` as the study's own, and `mask` `[depth, height, width]` uint8, 0 outside to 255 inside."""

    image: Tensor
    mask: Tensor


@dataclass(frozen=True, eq=False)
class VisualInput:
    """One study: `image` is encoder features `[tokens, hidden]`, or voxels `[1, depth, height, width]`.

    `regions` holds its regions by name, for policies that read them.
    """

    image: Tensor
    regions: Mapping[str, RegionInput] = field(default_factory=dict)

    def to(self, device: torch.device) -> "VisualInput":
        """The same on a device."""
        regions = {name: RegionInput(one.image.to(device), one.mask.to(device)) for name, one in self.regions.items()}
        return VisualInput(self.image.to(device), regions)
