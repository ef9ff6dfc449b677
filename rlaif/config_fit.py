"""What of a configuration must fit together across its sections, before anything starts."""

from typing import TYPE_CHECKING

from rlaif.datasets.settings import MimicCxrSettings, OpeniSettings
from rlaif.judges.settings import leaves_of
from rlaif.models.settings import PolicySettings

if TYPE_CHECKING:
    from rlaif.config import Config


def check_lengths(config: "Config") -> None:
    """Raises ValueError where reports leave no room for prompts, or both do not fit a new language model."""
    language, sampler = config.policy.language_model, config.sampler
    if sampler.max_tokens >= sampler.max_length:
        raise ValueError(
            f"sampler.max_tokens={sampler.max_tokens} leaves no room for a prompt in "
            f"sampler.max_length={sampler.max_length}: lower the first or raise the second"
        )
    if language is not None and sampler.max_length > language.positions:
        raise ValueError(
            f"sampler.max_length={sampler.max_length} is more than policy.language_model.positions="
            f"{language.positions}: lower the first or raise the second"
        )


def check_judges(config: "Config") -> None:
    """Raises ValueError where one name stands for two judges, so that their verdicts could not be told apart."""
    for judges in ((config.judge, *config.heldout.judges), config.score.judges):
        named: dict[str, object] = {}
        for one in (one for judge in judges for one in (judge, *leaves_of(judge))):
            if named.setdefault(one.name, one) != one:
                raise ValueError(
                    f"two judges with other settings are called {one.name}: give one of them another name, such as "
                    f"{{judge: {one.kind}, name: {one.name}-2, ...}}"
                )


def check_policy(config: "Config", settings: PolicySettings) -> None:
    """Raises ValueError where data, target or learner are not for a policy that says this of itself."""
    name, target = config.policy.name, config.run.target
    visual, sampler = settings.image_tokens + settings.region_tokens, config.sampler
    if visual + sampler.max_tokens >= sampler.max_length:
        raise ValueError(
            f"policy={name} puts {visual} visual tokens into a prompt, which with sampler.max_tokens="
            f"{sampler.max_tokens} leaves no room in sampler.max_length={sampler.max_length}: raise the last"
        )
    if settings.reads == "findings" and target != "impression":
        raise ValueError(f"policy={name} writes the impression from the findings: set run.target=impression")
    if settings.reads == "regions" and target != "findings":
        raise ValueError(f"policy={name} writes the findings of each region: set run.target=findings")
    if settings.reads != "findings" and isinstance(config.data, OpeniSettings | MimicCxrSettings):
        raise ValueError(f"data={config.data.name} holds reports alone, and policy={name} reads CTs: use policy=rgro")
    if settings.reads == "regions" and config.trains_encoder and config.learner.zero_stage == 3:
        # ZeRO 3 gathers weights whenever a rank calls a module, and the ranks' studies have unequal numbers of regions.
        raise ValueError(
            f"policy={name} encodes each region, and with learner.zero_stage=3 ranks whose studies have fewer regions "
            "would wait for ever while the encoder trains: set learner.zero_stage=2, or leave encoder out of train"
        )
