"""The policy before any fine-tuning: published weights, a pretrained language model, new parts for what is missing."""

import time
from pathlib import Path

from actors.encoder_training import train_encoder
from actors.ingest import read_studies, rows_of
from actors.outages import Outages
from actors.remote import ActorDied, steps_of
from rlaif.config import Config, ConfigurationError
from rlaif.models.encoders.build import new_encoder
from rlaif.models.encoders.settings import EncoderSettings
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.pretrained import pretrained_policy
from rlaif.models.published.tables import load_connector, load_encoder, load_language_model
from rlaif.models.tensor_files import write_tensors
from rlaif.plan_trainings import language_model_of
from rlaif.progress import Progress
from rlaif.records import Study

# How often the encoder's training begins again after its process, or the node of it, was lost.
RESTARTS = 2


def make_start_policy(config: Config, studies: list[Study], texts: list[str], folder: Path, outages: Outages) -> None:
    """Writes the start policy of the configuration into a folder; a new tokenizer is made for the texts.

    The encoder, whose training takes longest, comes last. Raises ConfigurationError where published weights are needed
    and not named, PolicyError and PublishedWeightsError where they do not fit.
    """
    _check_named(config)
    policy = _policy(config, texts)
    for weights, load in (
        (config.policy.connector_weights, load_connector),
        (config.policy.language_model_weights, load_language_model),
    ):
        if weights is not None and weights.path is not None:
            load(policy, Path(weights.path), weights.table)
    encoder = _encoder(config, studies, folder, outages) if config.policy.encoder is not None else None
    policy.save_pretrained(folder, encoder)
    if encoder is not None:
        encoder.unlink()


def _check_named(config: Config) -> None:
    choice = config.policy
    pretrained, weights = choice.pretrained, choice.encoder_weights
    if pretrained is not None and pretrained.path is None and pretrained.package is None:
        raise ConfigurationError(
            f"policy={choice.name} policy.size={choice.size} starts from {pretrained.published}: download it, "
            "and set policy.pretrained.path=FOLDER"
        )
    begins_anew = choice.encoder_training is not None or (config.trains_encoder and weights is None)
    if choice.encoder is not None and (weights is None or weights.path is None) and not begins_anew:
        named = weights.published if weights is not None else "a publication"
        raise ConfigurationError(
            f"policy={choice.name} policy.size={choice.size} needs the encoder's weights of {named}: download them, "
            "and set policy.encoder_weights.path=FILE; or train a new one with policy.encoder_training"
        )


def _policy(config: Config, texts: list[str]) -> Policy:
    choice, settings, seed = config.policy, config.policy.settings(), config.run.seed
    if choice.pretrained is None:
        assert choice.language_model is not None
        return new_policy(settings, choice.language_model, texts, seed=seed)
    # Also where the widths are not the size's: told before the weights are read, which may take minutes.
    language_model_of(config)
    return pretrained_policy(settings, choice.pretrained.path, choice.pretrained.package, seed=seed)


def _encoder(config: Config, studies: list[Study], folder: Path, outages: Outages) -> Path:
    """The file of the encoder's weights: published, trained on what the reports name, or new where it trains later."""
    policy, target = config.policy, folder / "encoder-start.safetensors"
    assert policy.encoder is not None
    weights = policy.encoder_weights
    if weights is not None and weights.path is not None:
        encoder = load_encoder(policy.encoder, Path(weights.path), weights.table)
    elif policy.encoder_training is not None:
        _train_encoder(config, policy.encoder, studies, target, outages)
        return target
    else:
        encoder = new_encoder(policy.encoder)
    write_tensors(encoder.state_dict(), target)
    return target


def _train_encoder(
    config: Config, encoder: EncoderSettings, studies: list[Study], target: Path, outages: Outages
) -> None:
    training, recipe = config.policy.encoder_training, config.policy.recipe
    assert training is not None and recipe is not None
    reports = {study.study_id: study.findings for study in studies if study.findings and study.volume}
    rows = rows_of([study for study in studies if study.study_id in reports], {})
    reading = read_studies(rows, recipe, config.recipe.orientation, config.ingest)
    # Otherwise blocks stand in the order in which they were read, and no second run trains the same encoder.
    reading.context.execution_options.preserve_order = True
    volumes = reading.materialize()
    lost: tuple[ActorDied, int, float] | None = None
    restarts = 0
    while True:
        begun, steps = time.monotonic(), 0
        stream = train_encoder.options(num_cpus=1).remote(
            volumes.iterator(), reports, encoder, training, config.run.seed, str(target)
        )
        progress: Progress | None = None
        try:
            for step in steps_of(stream, config.ingest.timeout_s, "the encoder's training"):
                if lost is not None:
                    died, repeated, since = lost
                    _note(outages, died, repeated, time.monotonic() - since)
                    lost = None
                progress = progress or Progress("vision encoder", int(step["of"]))
                progress.at(int(step["step"]) + 1, f"loss {step['loss']:.3f}")
                steps += 1
            return
        except ActorDied as died:
            if restarts == RESTARTS:
                _note(outages, died, steps, None)
                raise
            restarts += 1
            print(f"{died}: the encoder's training begins again ({restarts} of {RESTARTS} times)", flush=True)
            lost = died, steps, begun


def _note(outages: Outages, died: ActorDied, steps: int, seconds: float | None) -> None:
    outages.note("encoder", "the encoder's training", str(died), repeated=steps, unit="steps", seconds=seconds)
