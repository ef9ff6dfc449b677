"""The geometry of the vision encoders: voxels, patches, widths and depths.

Every encoder takes a recipe's output `[studies, 1, depth, height, width]` and gives encoder features
`[studies, tokens, hidden]`; all sizes here are depth, height, width, whatever order a publication writes them in.
"""

from collections.abc import Sequence
from math import prod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Bounds that no model comes near: settings also come from policy folders, and are not trusted.
Side = Annotated[int, Field(ge=1, le=4096)]
"""Voxels, patches or table entries along one axis."""
Size = tuple[Side, Side, Side]
Count = Annotated[int, Field(ge=1, le=2**17)]
"""A width, or a number of layers, heads or tokens."""


class VisionSettings(BaseModel):
    """What the encoders' settings have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    volume: Size
    """Voxels of the recipe's output: depth, height, width."""
    patch: Size
    """Voxels of one patch: depth, height, width."""
    hidden: Count
    pool: Side = 1
    """Kernel of the closing 3D average pooling; 1: none. It has no weights, so the store holds what comes after it."""
    frames: Side = 1
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
    def patches(self) -> int:
        """Patches of one study, all frames together, before the pooling."""
        return self.frames * prod(self.grid)

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raises ValueError where volumes of a shape are not what the encoder takes."""
        if tuple(shape[1:]) != (1, *self.volume):
            raise ValueError(
                f"the encoder takes volumes [batch, 1, {', '.join(map(str, self.volume))}], got {list(shape)}: use the "
                "recipe that the policy names"
            )

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
    hidden: Count = 512
    spatial_depth: Count = 4
    slice_depth: Count = 4
    heads: Count = 8
    head_size: Count = 32
    pool: Side = 2
    frames: Literal[1] = 1
    released: bool = False
    """CT-CLIP's own form: position convolutions causal and on misplaced axes, no slice bias."""
    codebook: int = Field(default=0, ge=0, le=2**20)
    """Entries of the vector quantisation that CT-CLIP's features go through; 0: none (the paper names none)."""

    @property
    def layers(self) -> int:
        """Layers of both transformers."""
        return self.spatial_depth + self.slice_depth


class ViTSettings(VisionSettings):
    """A 3D vision transformer with learnt absolute positions: M3D's ViT3D, and Argus' ViT-B."""

    kind: Literal["vit3d"] = "vit3d"
    hidden: Count = 768
    layers: Count = 12
    heads: Count = 12
    intermediate: Count = 3072
    class_token: bool = True
    """M3D has one; it is dropped from the features."""
    qkv_bias: bool = False

    @model_validator(mode="after")
    def _heads_fit(self) -> "ViTSettings":
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is no multiple of heads {self.heads}: change one of them")
        return self


class RadFMSettings(VisionSettings):
    """RadFM's ViT3D: three equal channels, and positions from separate row, column and depth tables."""

    kind: Literal["radfm"] = "radfm"
    hidden: Count = 768
    layers: Count = 12
    heads: Count = 8
    head_size: Count = 64
    intermediate: Count = 2048
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
