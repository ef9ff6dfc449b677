"""The policy before any fine-tuning: a pretrained language model, or a small one with a vision encoder of its own."""

from pathlib import Path

import ray

from actors.encoder_training import train_encoder
from actors.fleet import steps_of
from actors.ingest import read_studies, rows_of
from rlaif.config import Config, ConfigurationError
from rlaif.models.pretrained import pretrained_policy
from rlaif.models.tiny import new_policy
from rlaif.progress import Progress
from rlaif.records import Study


def make_start_policy(config: Config, studies: list[Study], texts: list[str], folder: Path) -> None:
    """Writes the start policy of the configuration into a folder; its tokenizer is made for the texts.

    Raises ConfigurationError for an image policy without a recipe or without encoder training.
    """
    policy = config.policy
    if policy.pretrained is not None:
        pretrained_policy(policy.settings(), policy.pretrained.path, policy.pretrained.package).save(folder, None)
    elif policy.language_model is not None:
        encoder = _train_encoder(config, studies, folder) if policy.encoder is not None else None
        new_policy(policy.settings(), policy.language_model, texts, seed=config.run.seed).save(folder, encoder)


def _train_encoder(config: Config, studies: list[Study], folder: Path) -> Path:
    policy, training = config.policy, config.policy.encoder_training
    if policy.encoder is None or policy.recipe is None or training is None:
        raise ConfigurationError("an image policy from nothing needs policy.recipe and policy.encoder_training")
    reports = {study.study_id: study.findings for study in studies if study.findings and study.volume}
    rows = rows_of([study for study in studies if study.study_id in reports], {})
    volumes = read_studies(rows, policy.recipe, config.recipe.orientation, config.ingest).materialize()
    target = folder / "encoder-training.safetensors"
    threads = max(1, int(ray.cluster_resources().get("CPU", 1)))
    stream = train_encoder.options(num_cpus=1).remote(
        volumes.iterator(), reports, policy.encoder, training, threads, config.run.seed, str(target)
    )
    progress: Progress | None = None
    for step in steps_of(stream, config.ingest.timeout_s, "the encoder's training"):
        progress = progress or Progress("vision encoder", int(step["of"]))
        progress.at(int(step["step"]) + 1, f"loss {step['loss']:.3f}")
    return target
