"""The geometry of the vision encoders: voxels, patches, widths and depths.

Every encoder takes a recipe's output `[studies, 1, depth, height, width]` and gives encoder features
`[studies, tokens, hidden]`; all sizes here are depth, height, width, whatever order a publication writes them in.
"""

from math import prod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Size = tuple[int, int, int]


class VisionSettings(BaseModel):
    """What the encoders' settings have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    volume: Size
    """Voxels of the recipe's output: depth, height, width."""
    patch: Size
    """Voxels of one patch: depth, height, width."""
    hidden: int = Field(ge=1)
    pool: int = Field(default=1, ge=1)
    """Kernel of the closing 3D average pooling; 1: none. It has no weights, so the store holds what comes after it."""
    frames: int = Field(default=1, ge=1)
    """Slabs along the depth that are encoded each for itself (mu2: 8)."""

    @model_validator(mode="after")
    def _fits(self) -> "VisionSettings":
        if self.volume[0] % self.frames:
            raise ValueError(f"volume depth {self.volume[0]} is no multiple of frames {self.frames}: change one")
        slab = (self.volume[0] // self.frames, *self.volume[1:])
        for axis, voxels, patch in zip(("depth", "height", "width"), slab, self.patch, strict=True):
            if voxels % (patch * self.pool):
                raise ValueError(
                    f"volume {axis} {voxels} is no multiple of patch {patch} x pool {self.pool}: change one of them"
                )
        return self

    @property
    def grid(self) -> Size:
        """Patches of one frame along depth, height and width, before the pooling."""
        depth, height, width = self.volume
        slab = (depth // self.frames, height, width)
        return tuple(voxels // patch for voxels, patch in zip(slab, self.patch, strict=True))  # type: ignore[return-value]

    @property
    def pooled_grid(self) -> Size:
        """Tokens of one frame along depth, height and width."""
        return tuple(patches // self.pool for patches in self.grid)  # type: ignore[return-value]

    @property
    def tokens(self) -> int:
        """Tokens of one study's features, all frames together."""
        return self.frames * prod(self.pooled_grid)


class CTViTSettings(VisionSettings):
    """CTViT-V (3D-CT-GPT++), or CTViT as CT-CLIP released it (`released=true`)."""

    kind: Literal["ctvit"] = "ctvit"
    hidden: int = 512
    spatial_depth: int = 4
    slice_depth: int = 4
    heads: int = 8
    head_size: int = 32
    pool: int = 2
    frames: Literal[1] = 1
    released: bool = False
    """CT-CLIP's own form: position convolutions causal and on misplaced axes, no slice bias."""
    codebook: int = Field(default=0, ge=0)
    """Entries of the vector quantisation that CT-CLIP's features go through; 0: none (the paper names none)."""


class ViTSettings(VisionSettings):
    """A 3D vision transformer with learnt absolute positions: M3D's ViT3D, and Argus' ViT-B."""

    kind: Literal["vit3d"] = "vit3d"
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    class_token: bool = True
    """M3D has one; it is dropped from the features."""
    qkv_bias: bool = False


class RadFMSettings(VisionSettings):
    """RadFM's ViT3D: three equal channels, and positions from separate row, column and depth tables."""

    kind: Literal["radfm"] = "radfm"
    hidden: int = 768
    layers: int = 12
    heads: int = 8
    head_size: int = 64
    intermediate: int = 2048
    position_tables: Size = (128, 16, 16)
    """Entries of the depth, row and column tables, on which a smaller grid's positions are spread."""
    frames: Literal[1] = 1

    @model_validator(mode="after")
    def _positions_fit(self) -> "RadFMSettings":
        if self.hidden % 3:
            raise ValueError(f"hidden {self.hidden} is no multiple of 3: the three position tables share it")
        if any(patches > entries for patches, entries in zip(self.grid, self.position_tables, strict=True)):
            raise ValueError(f"a grid of {self.grid} patches is larger than the position tables {self.position_tables}")
        return self


EncoderSettings = Annotated[CTViTSettings | ViTSettings | RadFMSettings, Field(discriminator="kind")]
