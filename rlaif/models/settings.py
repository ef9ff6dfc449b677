"""What a policy folder says of itself, and the sizes of a small policy: read in milliseconds, without the engines."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

POLICY_FILE = "policy.json"


class PolicyError(ValueError):
    """A policy folder or a batch that cannot be used, with the reason."""


class CTViTSettings(BaseModel):
    """The geometry of the encoder: voxels, patches, widths and depths."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    volume: tuple[int, int, int]
    """Voxels of the recipe's output: depth, height, width."""
    patch: tuple[int, int, int]
    """Voxels of one patch: depth, height, width."""
    hidden: int = 512
    spatial_depth: int = 4
    slice_depth: int = 4
    heads: int = 8
    head_size: int = 32
    pool: int = 2
    """Kernel of the closing 3D average pooling."""

    @model_validator(mode="after")
    def _fits(self) -> "CTViTSettings":
        for axis, voxels, patch in zip(("depth", "height", "width"), self.volume, self.patch, strict=True):
            if voxels % (patch * self.pool):
                raise ValueError(
                    f"volume {axis} {voxels} is no multiple of patch {patch} x pool {self.pool}: change one of them"
                )
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches along depth, height and width."""
        depth, height, width = (voxels // patch for voxels, patch in zip(self.volume, self.patch, strict=True))
        return depth, height, width

    @property
    def tokens(self) -> int:
        """Visual tokens of one study, after the pooling."""
        depth, height, width = (patches // self.pool for patches in self.grid)
        return depth * height * width


class LanguageModelSettings(BaseModel):
    """The widths of a small Llama and the size of its vocabulary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    vocabulary: int = Field(ge=260)
    """At least the 256 bytes and the four special tokens, so that any text can be spelt."""
    positions: int = Field(ge=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> "LanguageModelSettings":
        # Rotary positions turn the two halves of each head against each other.
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden {self.hidden} is no multiple of 2 x heads {self.heads}: change one of the two")
        return self


class PolicySettings(BaseModel):
    """What a policy folder's `policy.json` says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size: str
    recipe: str | None
    """The preprocessing that the encoder expects; None for a text-only policy."""
    encoder: CTViTSettings | None


class LoraSettings(BaseModel):
    """Low-rank adapters on the language model's linear layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int
    alpha: int
    dropout: float
    targets: str | list[str]
    """Module names, or `all-linear`."""


def read_settings(folder: Path) -> PolicySettings:
    """The settings of a policy folder; raises PolicyError where there are none, or they are damaged."""
    path = folder / POLICY_FILE
    if not path.is_file():
        raise PolicyError(f"{folder} is no policy: it has no {POLICY_FILE}; name a folder such as runs/demo/base")
    try:
        return PolicySettings.model_validate_json(path.read_bytes())
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise PolicyError(
            f"{path} does not describe a policy ({faults}); take it from the run that wrote it"
        ) from error
