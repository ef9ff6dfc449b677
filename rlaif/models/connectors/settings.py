"""The settings of the connectors: encoder features to visual tokens in the language model's width."""

from math import prod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlaif.models.encoders.settings import Count, EncoderSettings, Size


class ConnectorPart(BaseModel):
    """A part of a connector's settings: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MlpSettings(ConnectorPart):
    """Two linear layers with a GELU between. With the encoder's pooling: average pooling and MLP (3D-CT-GPT++), or
    M3D's spatial pooling projector.
    """

    kind: Literal["mlp"] = "mlp"

    def tokens(self, encoder: EncoderSettings) -> int:
        """Visual tokens of the whole scan."""
        return encoder.tokens


class PixelShuffleSettings(ConnectorPart):
    """Pixel shuffle and MLP (Argus): neighbouring tokens become channels of one."""

    kind: Literal["pixel_shuffle"] = "pixel_shuffle"
    factor: int = Field(default=2, ge=2, le=64)
    """Tokens along each axis that become one: 2 makes 8 tokens one, 8 times as wide."""

    def tokens(self, encoder: EncoderSettings) -> int:
        """Visual tokens of the whole scan; raises ValueError where the grid is no multiple of the factor."""
        if any(side % self.factor for side in encoder.pooled_grid):
            raise ValueError(f"a grid of {encoder.pooled_grid} tokens is no multiple of the factor {self.factor}")
        return encoder.tokens // self.factor**3


class PerceiverSettings(ConnectorPart):
    """A Perceiver resampler and a linear layer (RadFM with 32 latents, Argus' ablation with 64)."""

    kind: Literal["perceiver"] = "perceiver"
    latents: Count = 32
    layers: Count = 6
    heads: Count = 8
    head_size: Count = 64

    def tokens(self, encoder: EncoderSettings) -> int:
        """Visual tokens of the whole scan."""
        return self.latents


class Mu2Settings(ConnectorPart):
    """The mu2 tokenizer, each part with a switch (mu2LLM, the ablation table)."""

    kind: Literal["mu2"] = "mu2"
    queries: Count = 256
    """Visual tokens; the paper says 1,024, its code 256."""
    selected: Count = 1024
    """Soft tokens of the differentiable selection."""
    scales: tuple[Count, ...] = (1, 2, 4)
    """Kernels of the multi-scale pooling."""
    layers: Count = 4
    heads: Count = 8
    temperature: float = Field(default=1.0, gt=0)
    positions: Count = 512
    """Reach of the relative positional encoding: tokens of a frame, frames and queries, each at most so many."""
    relative_positions: bool = True
    """RPE."""
    differentiable_selection: bool = True
    """DTS; without it the tokens of the highest scores, hard."""
    multi_scale_pooling: bool = True
    """Pooling at each of the scales; without it the selected tokens as they are."""
    dynamic_pooling: bool = True
    """DMTP: scales weighted by a learnt gate; without it all scales count the same, as in LinVT."""
    text_condition: bool = True
    """Whether the aggregation looks at the question."""
    residual: bool = False
    """Residual connections and layer norm in the attention over space and time; the published code has neither."""

    @model_validator(mode="after")
    def _scales_fit(self) -> "Mu2Settings":
        if self.multi_scale_pooling and (not self.scales or max(self.scales) > self.selected):
            raise ValueError(f"scales {self.scales} must be one or more kernels from 1 to selected {self.selected}")
        return self

    @model_validator(mode="after")
    def _all_count(self) -> "Mu2Settings":
        switched_off = {
            "multi_scale_pooling": ("scales", "dynamic_pooling"),
            "differentiable_selection": ("temperature",),
        }
        for switch, settings in switched_off.items():
            for name in settings:
                default = type(self).model_fields[name].default
                if not getattr(self, switch) and getattr(self, name) != default:
                    raise ValueError(
                        f"{name} {getattr(self, name)} has no effect without {switch}: set {name}={default}"
                    )
        return self

    def tokens(self, encoder: EncoderSettings) -> int:
        """Visual tokens of the whole scan; raises ValueError where the encoder gives more positions than the relative
        encoding reaches, or fewer tokens than a hard selection takes.
        """
        lengths = {"tokens of a frame": prod(encoder.pooled_grid), "frames": encoder.frames, "queries": self.queries}
        for what, length in lengths.items():
            if self.relative_positions and length > self.positions:
                raise ValueError(
                    f"{length} {what} are more than the {self.positions} positions of the relative encoding: raise "
                    "positions, or set relative_positions=false"
                )
        if not self.differentiable_selection and self.selected > encoder.tokens:
            raise ValueError(f"a hard selection of {self.selected} tokens from {encoder.tokens}: lower selected")
        return self.queries


class MaskEncoderSettings(ConnectorPart):
    """Reg2RG's mask encoder: a small vision transformer over a region's mask, averaged to one token."""

    volume: Size = (64, 256, 256)
    patch: Size = (16, 32, 32)
    hidden: int = Field(default=255, ge=3, le=2**17, multiple_of=3)
    layers: Count = 3
    heads: Count = 8
    head_size: Count = 64
    intermediate: Count = 512

    @model_validator(mode="after")
    def _fits(self) -> "MaskEncoderSettings":
        if any(voxels % patch for voxels, patch in zip(self.volume, self.patch, strict=True)):
            raise ValueError(f"mask volume {self.volume} is no multiple of patch {self.patch}: change one of them")
        return self

    @property
    def grid(self) -> Size:
        """Patches along depth, height and width."""
        return tuple(voxels // patch for voxels, patch in zip(self.volume, self.patch, strict=True))  # type: ignore[return-value]

    @property
    def tokens(self) -> int:
        """Patches of one mask."""
        return prod(self.grid)


class RegionSettings(ConnectorPart):
    """Reg2RG's region branch: texture by the perceiver from crops, geometry from masks, and the global scan."""

    kind: Literal["regions"] = "regions"
    perceiver: PerceiverSettings = PerceiverSettings()
    mask: MaskEncoderSettings = MaskEncoderSettings()

    def tokens(self, encoder: EncoderSettings) -> int:
        """Visual tokens of the whole scan."""
        return self.perceiver.latents

    @property
    def region_tokens(self) -> int:
        """Visual tokens of one region: its texture and its geometry."""
        return self.perceiver.latents + 1


ConnectorSettings = Annotated[
    MlpSettings | PixelShuffleSettings | PerceiverSettings | Mu2Settings | RegionSettings, Field(discriminator="kind")
]
