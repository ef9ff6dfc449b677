"""What a configuration says of a policy: its parts, and where each of them begins."""

from pydantic import Field, model_validator

from rlaif.models.connectors.settings import ConnectorSettings
from rlaif.models.encoders.settings import EncoderSettings
from rlaif.models.settings import LanguageModelSettings, PolicySettings, TableName
from rlaif.section import Section
from rlaif.volumes.recipes import check_recipe


class EncoderTraining(Section):
    """How a new encoder learns what its reports name, before it is frozen."""

    epochs: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)


class PretrainedModel(Section):
    """A language model to start from."""

    path: str | None
    """A Hugging Face folder, a .gguf file, or a folder with one; None: the file of the installed `package`."""
    package: str | None = None
    published: str | None = None
    """Where its publication is to be had."""


class PublishedWeights(Section):
    """A publication's weights of one part of a policy."""

    path: str | None
    """The file, or the Hugging Face folder; None: the part starts anew."""
    table: TableName
    """Whose names the file has (`rlaif.models.published`)."""
    published: str | None = None
    """Where the publication is to be had."""


# What a policy folder says itself.
_PARTS = (
    "recipe",
    "encoder",
    "encoder_weights",
    "encoder_training",
    "connector",
    "connector_weights",
    "language_model_weights",
    "template",
    "prompt",
)


class PolicyChoice(Section):
    name: str
    size: str
    recipe: str | None = None
    path: str | None = None
    """A policy folder to start from, as it is (policy=folder)."""
    encoder: EncoderSettings | None = None
    encoder_weights: PublishedWeights | None = None
    encoder_training: EncoderTraining | None = None
    connector: ConnectorSettings | None = None
    connector_weights: PublishedWeights | None = None
    language_model: LanguageModelSettings | None = None
    """A new language model's widths; with `pretrained`, those that the pretrained one must have."""
    pretrained: PretrainedModel | None = None
    language_model_weights: PublishedWeights | None = None
    """Weights of a publication that tuned `pretrained`, whose folder gives configuration and tokenizer."""
    template: str | None = None
    """The words around a prompt, with `{prompt}` in its place; None: the tokenizer's chat template, or none."""
    prompt: str | None = None
    """What is asked, in the place of our own words (`PolicySettings.prompt`)."""

    @model_validator(mode="after")
    def _one_start(self) -> "PolicyChoice":
        new = self.language_model is not None or self.pretrained is not None
        if (self.path is not None) == new:
            raise ValueError(
                "a policy starts from policy.path, or from policy.pretrained and policy.language_model; "
                "policy=folder needs policy.path=FOLDER"
            )
        given = [name for name in _PARTS if getattr(self, name) is not None]
        if self.path is not None and (given or self.size != "folder"):
            told = ", ".join(f"policy.{name}" for name in given or ["size"])
            raise ValueError(f"policy.path takes the folder as it is: leave {told} out, or change its policy.json")
        return self

    @model_validator(mode="after")
    def _recipe_fits(self) -> "PolicyChoice":
        if self.recipe is not None:
            check_recipe(self.recipe, None if self.encoder is None else self.encoder.volume)
        if self.path is None:
            self.settings()
        return self

    @property
    def weights(self) -> list[PretrainedModel | PublishedWeights]:
        """The weights that the policy begins with, of each part that has some."""
        parts = (self.pretrained, self.encoder_weights, self.connector_weights, self.language_model_weights)
        return [part for part in parts if part is not None]

    def settings(self) -> PolicySettings:
        """What the folder of a new policy will say of itself; raises ValueError where its parts do not fit."""
        return PolicySettings(
            name=self.name,
            size=self.size,
            recipe=self.recipe,
            encoder=self.encoder,
            connector=self.connector,
            template=self.template,
            prompt=self.prompt,
        )
