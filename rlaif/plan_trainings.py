"""What trains in each training of a run, told from the policy's parameters before anything starts."""

from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.config import Config, ConfigurationError
from rlaif.models.settings import PolicyError, PolicySettings, read_settings

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def settings_of(config: Config) -> PolicySettings:
    """What the policy that the run starts from says of itself."""
    return config.policy.settings() if config.policy.path is None else read_settings(Path(config.policy.path))


def language_model_of(config: Config) -> "PretrainedConfig":
    """The configuration of the language model that the run starts from; raises PolicyError where there is none, or a
    pretrained one is not what the policy's size names.
    """
    # The models' own classes take seconds to import, and a run that goes on does not need them.
    from rlaif.models.new_policy import language_configuration
    from rlaif.models.pretrained import check_architecture, pretrained_configuration, pretrained_source
    from rlaif.models.size import saved_configuration

    policy = config.policy
    if policy.path is not None:
        return saved_configuration(Path(policy.path))
    pretrained, language = policy.pretrained, policy.language_model
    if pretrained is not None and (language is None or pretrained.path is not None or pretrained.package is not None):
        source = pretrained_source(pretrained.path, pretrained.package)
        found = pretrained_configuration(source)
        if language is not None:
            check_architecture(found, language, str(source))
        return found
    assert language is not None
    return language_configuration(language, language.vocabulary)


def check_trainings(config: Config) -> dict[str, int]:
    """How many parameters train in each training that the policy can go through: `pretrain`, `sft`, and `dpo` or `ppo`.

    Raises ConfigurationError where a name of `train` matches none of the policy's parameters or only such as stay
    frozen, and where nothing would train; PolicyError where the policy's parts do not fit each other, or a policy
    folder does not hold what it says.
    """
    from rlaif.models.size import add_meta_adapters, meta_policy

    policy, lora = meta_policy(language_model_of(config), settings_of(config)), config.learner.lora
    if config.policy.path is not None:
        from rlaif.models.folder_check import check_folder

        sampler = config.sampler
        check_folder(Path(config.policy.path), policy, max_length=sampler.max_length, max_tokens=sampler.max_tokens)
    counts, adapted = {}, False
    for name, training in config.trainings.items():
        # Pre-training is without adapters, and comes first.
        if lora is not None and name != "pretrain" and not adapted:
            add_meta_adapters(policy, lora)
            adapted = True
        try:
            policy.train_only(training.train)
        except PolicyError as error:
            raise ConfigurationError(f"learner.{name}.train: {error}") from error
        counts[name] = sum(one.numel() for one in policy.parameters() if one.requires_grad)
        if not counts[name]:
            raise ConfigurationError(
                f"learner.{name}.train=[{','.join(training.train)}]: policy={config.policy.name} has no such part, so "
                "nothing would train; name language_model"
            )
    return counts
