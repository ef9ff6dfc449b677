"""What a policy folder says of itself, and the sizes of a small policy: read in milliseconds, without the engines."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlaif.models.connectors.settings import ConnectorSettings, RegionSettings
from rlaif.models.encoders.settings import EncoderSettings
from rlaif.reports.regions import REGIONS

POLICY_FILE = "policy.json"

Part = Literal["encoder", "connector", "language_model"]
TableName = Literal[
    "ct_clip",
    "ct_clip_encoder",
    "m3d_vit",
    "m3d_clip",
    "m3d_lamed",
    "radfm",
    "radfm_perceiver",
    "reg2rg",
    "mu2",
    "rlaif",
]
"""Publications whose names of weights are known (`rlaif.models.published`); `rlaif`: a policy folder of our own."""


class PolicyError(ValueError):
    """A policy folder or a batch that cannot be used, with the reason."""


class LanguageModelSettings(BaseModel):
    """The widths of a causal language model and the size of its vocabulary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["llama", "gpt2"] = "llama"
    # Bounds far above any published model, so that a slip is told before its plan is counted.
    hidden: int = Field(ge=1, le=65536)
    layers: int = Field(ge=1, le=512)
    heads: int = Field(ge=1, le=1024)
    key_value_heads: int | None = Field(default=None, ge=1, le=1024)
    """Heads of keys and values (grouped attention); None: as many as heads."""
    intermediate: int = Field(ge=1, le=524288)
    vocabulary: int = Field(ge=260, le=1048576)
    """At least the 256 bytes and the four special tokens, so that any text can be spelt."""
    positions: int = Field(ge=1, le=16777216)
    tied: bool = False
    """Whether input and output embeddings are one."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "LanguageModelSettings":
        # Rotary positions turn the two halves of each head against each other.
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden {self.hidden} is no multiple of 2 x heads {self.heads}: change one of the two")
        if self.heads % (self.key_value_heads or self.heads):
            raise ValueError(f"heads {self.heads} are no multiple of key_value_heads {self.key_value_heads}")
        return self


class PolicySettings(BaseModel):
    """What a policy folder's `policy.json` says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size: str
    recipe: str | None
    """The preprocessing that the encoder expects; None for a text-only policy."""
    encoder: EncoderSettings | None
    connector: ConnectorSettings | None
    template: str | None = None
    """The words around a prompt, with `{prompt}` in its place; None: the tokenizer's chat template, or none."""
    prompt: str | None = None
    """What is asked, in the place of our own words: with `<image>` where the scan goes, for region-guided policies also
    `{regions}` where the regions are named by their numbers, for text-only ones `{findings}`.
    """

    @model_validator(mode="after")
    def _asks(self) -> "PolicySettings":
        needed = {"findings": ("{findings}",), "scan": ("<image>",), "regions": ("<image>", "{regions}")}[self.reads]
        for place in ("<image>", "{regions}", "{findings}", "<region:"):
            wanted = int(place in needed)
            if self.prompt is not None and self.prompt.count(place) != wanted:
                raise ValueError(f"prompt {self.prompt!r} must hold {place} {'once' if wanted else 'nowhere'}")
            if self.template is not None and place in self.template:
                raise ValueError(f"template {self.template!r} must not hold {place}: prompts do")
        return self

    @model_validator(mode="after")
    def _fits(self) -> "PolicySettings":
        present = {name: getattr(self, name) is not None for name in ("recipe", "encoder", "connector")}
        if len(set(present.values())) > 1:
            raise ValueError(f"an image policy has recipe, encoder and connector, a text-only one none: {present}")
        if self.encoder is not None and self.connector is not None:
            # Raises where the connector does not fit the encoder's grid.
            self.connector.tokens(self.encoder)
        if self.template is not None and self.template.count("{prompt}") != 1:
            raise ValueError(f"template {self.template!r} must hold {{prompt}} once")
        return self

    @property
    def image_tokens(self) -> int:
        """Visual tokens of a whole scan; 0 for a text-only policy."""
        if self.encoder is None or self.connector is None:
            return 0
        return self.connector.tokens(self.encoder)

    @property
    def region_tokens(self) -> int:
        """Visual tokens of one region; 0 for policies that read none."""
        return self.connector.region_tokens if isinstance(self.connector, RegionSettings) else 0

    @property
    def views(self) -> int:
        """Volumes that a study hands to the encoder at most: the scan, and each of the ten regions."""
        return 1 + len(REGIONS) if self.region_tokens else 1

    @property
    def reads(self) -> Literal["findings", "scan", "regions"]:
        """What the policy writes its report from."""
        if self.connector is None:
            return "findings"
        return "regions" if self.region_tokens else "scan"


class LoraSettings(BaseModel):
    """Low-rank adapters on linear layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(ge=1, le=8192)
    alpha: int = Field(ge=1, le=65536)
    dropout: float = Field(ge=0, lt=1)
    targets: str | list[str]
    """Names of the language model's modules, or `all-linear`."""
    parts: tuple[Literal["language_model", "connector"], ...] = Field(default=("language_model",), min_length=1)
    """The parts of the policy that bear adapters, each once; in the connector, all of its linear layers do. Each part
    must be named by `train` of the fine-tuning or of the alignment: adapters never train elsewhere.
    """

    @model_validator(mode="after")
    def _each_once(self) -> "LoraSettings":
        if len(set(self.parts)) < len(self.parts):
            raise ValueError(f"parts {list(self.parts)} name a part twice: name each once")
        return self


def read_settings(folder: Path) -> PolicySettings:
    """The settings of a policy folder; raises PolicyError where there are none, or they are damaged."""
    path = folder / POLICY_FILE
    if not path.is_file():
        raise PolicyError(f"{folder} is no policy: it has no {POLICY_FILE}; name a folder such as runs/demo/base")
    try:
        return PolicySettings.model_validate_json(path.read_bytes())
    except ValidationError as error:
        places = [(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
        faults = "; ".join(f"{place}: {reason}" if place else reason for place, reason in places)
        raise PolicyError(
            f"{path} does not describe a policy ({faults}); take it from the run that wrote it, or see docs/policies.md"
        ) from error
