"""What comes before the first round: studies, the policy to start from, features, the base policy.

Whatever depends on content alone is kept in the cache, so that another run takes it from there. What makes it is
imported when it is not there: a job that goes on waits for none of the engines.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

from actors.fleet import Fleet
from actors.outages import Outages
from rlaif.cases import cases_of
from rlaif.config import Config, ConfigurationError
from rlaif.datasets import phantom, registry
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.datasets.study_table import StudyTable
from rlaif.files import private_folder, replacing_folder
from rlaif.learner_settings import TrainingSettings
from rlaif.ledger import RunFolder
from rlaif.models.settings import read_settings
from rlaif.plan_counts import NOTHING_TO_ALIGN, NOTHING_TO_FINE_TUNE
from rlaif.progress import Progress
from rlaif.records import Case, Quarantined, Split, Study
from rlaif.reports.prompts import target_text
from rlaif.reports.region_reports import region_answer
from rlaif.storage import file_states
from rlaif.volumes.feature_keys import feature_keys
from rlaif.volumes.recipes import RECIPES

METRICS_FILE = "metrics.json"


class TooManyBad(RuntimeError):
    """More studies or judgements failed than `run.max_bad_fraction` allows."""


def key_of(*parts: Any) -> str:
    """A short name for a content: the same parts give the same key."""
    text = json.dumps([part.model_dump(mode="json") if hasattr(part, "model_dump") else part for part in parts])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def prepare_studies(run: RunFolder, config: Config, *, split: Split | None = None) -> None:
    """Reads the data set, or one split of it, into the run's tables `studies` and `quarantine`; draws the phantom where
    it is missing.
    """
    if run.done("studies"):
        return
    started = time.monotonic()
    table = _load(config)
    run.replace("studies", Study, [one for one in table.studies if split in (None, one.split)])
    run.replace("quarantine", Quarantined, table.quarantined)
    check_bad(config, len(table.quarantined), table.readable + len(table.quarantined), "studies", table.quarantined)
    counts = {split: sum(study.split == split for study in table.studies) for split in ("sft", "align", "heldout")}
    run.finish("studies", seconds=time.monotonic() - started, **counts, quarantined=len(table.quarantined))
    print(f"studies: {counts}, {len(table.quarantined)} in quarantine", flush=True)


def check_alignment(run: RunFolder, config: Config) -> None:
    """Raises ConfigurationError where rounds are wanted and no patient is there to align on."""
    if config.run.rounds and not run.facts("studies")["align"]:
        raise ConfigurationError(NOTHING_TO_ALIGN)


def _load(config: Config) -> StudyTable:
    if not isinstance(config.data, PhantomDataSettings):
        return registry.load(config.data)
    settings = config.data.generator
    root = private_folder(config.cache.root / "phantom") / phantom.fingerprint(settings)
    progress = Progress("phantom data", settings.sft + settings.align + settings.heldout)
    phantom.generate(root, settings, lambda done, _: progress.at(done))
    return registry.load_phantom(config.data, root)


def check_bad(config: Config, bad: int, of: int, what: str, examples: list[Quarantined]) -> None:
    """Raises TooManyBad where the share of bad ones exceeds the configured bound."""
    if of and bad / of > config.run.max_bad_fraction:
        reasons = "; ".join(sorted({f"{one.path}: {one.reason}" for one in examples})[:3])
        raise TooManyBad(
            f"{bad} of {of} {what} are bad, more than run.max_bad_fraction={config.run.max_bad_fraction}. {reasons}"
        )


def start_policy(run: RunFolder, config: Config) -> Path:
    """The folder of the policy before any fine-tuning: the user's own, a pretrained model, or a new small one.

    Once the run has trained its base, this stands in its place: it carries the encoder that the run's features are of,
    whatever has become of CTs, weights and cache since.
    """
    policy = config.policy
    if policy.path is not None:
        read_settings(Path(policy.path))
        return Path(policy.path)
    if run.done("base"):
        return run.path / "base"
    studies = [study for study in run.read("studies", Study) if study.split == "sft"]
    texts = [text for study in studies if (text := _spelt(study, config))]
    if not texts:
        raise ConfigurationError(NOTHING_TO_FINE_TUNE)
    studied = [(study.study_id, study.volume) for study in studies]
    # Weights count by their files' names, sizes and times: hashing a large model would take minutes.
    weights = [file_states(part.path) for part in policy.weights if part.path is not None]
    seen = _seen_by_encoder(config, studies)
    key = key_of("start", policy, weights, config.run.seed, config.run.target, studied, texts, seen)
    folder = private_folder(config.cache.root / "start") / key
    if not folder.is_dir():
        from actors.start_policy import make_start_policy

        started = time.monotonic()
        with replacing_folder(folder) as temporary:
            make_start_policy(config, studies, texts, temporary, Outages(run))
        if not run.done("start"):
            run.finish("start", seconds=time.monotonic() - started)
    return folder


def _seen_by_encoder(config: Config, studies: list[Study]) -> list[Any]:
    """What the key of a start policy says of the encoder's own training: orientation, CTs and reports."""
    policy, weights = config.policy, config.policy.encoder_weights
    if policy.encoder_training is None or policy.recipe is None or (weights is not None and weights.path is not None):
        return []
    reports = {study.study_id: study.findings for study in studies if study.findings and study.volume}
    reported = [study for study in studies if study.study_id in reports]
    orientation = config.recipe.orientation
    keys, _ = feature_keys(reported, RECIPES[policy.recipe], orientation, "voxels", regions=False)
    return [orientation, sorted(reports.items()), sorted(keys.items())]


def _spelt(study: Study, config: Config) -> str | None:
    """What a new tokenizer should spell in few tokens: what the policy will write of a study, and what it reads."""
    target, reads = target_text(study, config.run.target), config.policy.settings().reads
    if reads == "regions" and study.region_reports:
        return region_answer(tuple(study.region_reports), study.region_reports)
    return f"{study.findings}\n{target}" if reads == "findings" and target else target


def base_policy(run: RunFolder, config: Config, start: Path, fleet: Fleet) -> Path:
    """The base policy: the start policy after supervised fine-tuning, or as it is where it is the user's own."""
    if config.policy.path is not None:
        if not run.done("base"):
            run.finish("base", seconds=0.0, trained=False)
        return start
    if run.done("base"):
        return run.path / "base"
    started = time.monotonic()
    learner = config.learner
    cases = [one for one in cases_of(run.path, "sft", config.run.target, read_settings(start)) if one.answer]
    # Which trainings take this stage's time, and did not come from the cache.
    ran: list[str] = []
    given, begin, steps = _given(config, start, cases), start, []
    if learner.pretrain is not None:
        # Under a key of its own: what ends the fine-tuning leaves the pre-training as it is.
        begin = private_folder(config.cache.root / "base") / key_of("pretrained", learner.pretrain, given)
        ran += [] if begin.is_dir() else ["pretrain"]
        steps += _trained(begin, fleet, "pre-training", start, cases, learner.pretrain, adapted=False)
    cached = private_folder(config.cache.root / "base") / key_of("base", begin.name, learner.sft, learner.lora, given)
    ran += [] if cached.is_dir() else ["sft"]
    steps += _trained(cached, fleet, "supervised fine-tuning", begin, cases, learner.sft, adapted=True)
    with run.folder("base") as target:
        shutil.copytree(cached, target, dirs_exist_ok=True)
        (target / METRICS_FILE).write_text(json.dumps({"learning": {"steps": steps}}), encoding="utf-8")
    run.finish("base", seconds=time.monotonic() - started, trained=True, cases=len(cases), ran=ran)
    return run.path / "base"


def _given(config: Config, start: Path, cases: list[Case]) -> str:
    """The key of what any supervised training of a run is made of, beside its own settings."""
    learner = config.learner
    return key_of(
        start.name,
        learner.weight_decay,
        learner.ranks,
        learner.micro_batch,
        learner.dtype,
        # In bfloat16 the stages keep their sums and master weights in different ways.
        learner.zero_stage,
        learner.max_grad_norm,
        config.run.seed,
        [(case.case_id, case.prompt, case.answer, case.feature_key) for case in cases],
    )


def _trained(
    folder: Path, fleet: Fleet, name: str, begin: Path, cases: list[Case], training: TrainingSettings, *, adapted: bool
) -> list[dict[str, float]]:
    """Makes a folder of the cache by training another's policy, where it is not there; gives the training's steps."""
    if not folder.is_dir():
        with replacing_folder(folder) as temporary:
            steps = _fine_tune(fleet, name, (begin, temporary), cases, training, adapted=adapted)
            (temporary / METRICS_FILE).write_text(json.dumps({"learning": {"steps": steps}}), encoding="utf-8")
    kept: list[dict[str, float]] = json.loads((folder / METRICS_FILE).read_bytes())["learning"]["steps"]
    return kept


def _fine_tune(
    fleet: Fleet, name: str, folders: tuple[Path, Path], cases: list[Case], training: TrainingSettings, *, adapted: bool
) -> list[dict[str, float]]:
    """One supervised training from the first folder's policy to the second's; gives its steps."""
    steps: list[dict[str, float]] = []
    progress: Progress | None = None
    source, target = (str(folder) for folder in folders)
    for step in fleet.learners.train("train_sft", source, cases, target, training, adapted):
        progress = progress or Progress(name, int(step["of"]))
        progress.at(int(step["step"]) + 1, f"loss {step['loss']:.3f}")
        # After a restart of the learners they begin again.
        steps[int(step["step"]) :] = [step]
    if steps and steps[0]["left_out"]:
        left_out = int(steps[0]["left_out"])
        print(f"{name}: {left_out} of {len(cases)} reports are longer than the language model's positions", flush=True)
    return steps
