"""The stage of a run in which its studies are ingested: what is left, how large it will be, and every answer kept."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from actors.preparation import check_bad, key_of
from rlaif.config import Config, ConfigurationError
from rlaif.files import checksum_of, private_folder
from rlaif.ledger import RunFolder
from rlaif.models.settings import CTViTSettings, read_settings
from rlaif.plan import vision
from rlaif.plan_counts import counts_of
from rlaif.plan_needs import amount
from rlaif.progress import Progress
from rlaif.records import Ingested, Quarantined, Study
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.source import VolumeSource

# Questions to the storage at once when feature keys are made, and the room that compacting takes for a moment.
KEY_THREADS, COMPACTION_ROOM = 16, 1.1


def ingest_studies(run: RunFolder, config: Config, start: Path) -> Path | None:
    """Encodes every study once; gives the feature store's folder, or None for a text-only policy.

    Raises ConfigurationError where the disk has no room for the features.
    """
    settings = read_settings(start)
    if settings.recipe is None or settings.encoder is None:
        return None
    checksum = checksum_of(start / "encoder.safetensors")
    recipe, orientation = RECIPES[settings.recipe], config.recipe.orientation
    store = private_folder(config.cache.root / "features") / key_of(recipe.checksum, orientation, checksum)
    from rlaif.features import FeatureStore

    held = FeatureStore(store).keys()
    ingested = run.read("features", Ingested)
    if run.done("ingest") and all(one.feature_key in held for one in ingested):
        return store
    # What the cache has lost since is made again.
    run.replace("features", Ingested, [one for one in ingested if one.feature_key in held])
    studies = waiting_studies(run)
    keys, absent = feature_keys(studies, lambda source: source.feature_key(recipe, orientation, checksum))
    present = [Ingested(study_id, key) for study_id, key in keys.items() if key in held]
    left = [one for one in studies if one.study_id in keys and keys[one.study_id] not in held]
    tell_size(len(left), len(present), settings.encoder, store)
    ingest_all(run, config, left, keys, [*present, *absent], settings.recipe, (start, store))
    return store


def check_studies(run: RunFolder, config: Config) -> None:
    """Reads every study and puts it through the recipe, without an encoder; raises ConfigurationError without one."""
    recipe = config.recipe.name or config.policy.recipe
    if recipe is None:
        raise ConfigurationError("ingest.encode=false needs a recipe: set recipe=NAME")
    if not run.done("ingest"):
        ingest_all(run, config, waiting_studies(run), {}, [], recipe, None)


def tell_needs(config: Config) -> None:
    """Prints what an ingest would read and write (run.dry=true); reads the data set's tables, starts nothing."""
    from rlaif.features import feature_bytes

    own, encoder = vision(config)
    counts = counts_of(config, image=True)
    splits = ", ".join(f"{split} {number:,}" for split, number in counts.studies.items())
    print(f"studies: {splits}; {counts.quarantined:,} rows and files of the tables in quarantine")
    print(f"volumes: {counts.imaged:,}, recipe {config.recipe.name or own}, orientation {config.recipe.orientation}")
    if config.ingest.encode and encoder is not None:
        needed = feature_bytes(counts.imaged, encoder.tokens, encoder.hidden)
        print(f"features: at most {amount(needed)} below {config.cache.root / 'features'}, less what is there already")


def waiting_studies(run: RunFolder) -> list[Study]:
    """The studies with a CT that no earlier attempt has ingested; those set aside are looked at again."""
    done = {one.study_id for one in run.iterate("features", Ingested)}
    return [one for one in run.iterate("studies", Study) if one.volume is not None and one.study_id not in done]


def feature_keys(
    studies: list[Study], key_of_source: Callable[[VolumeSource], str]
) -> tuple[dict[str, str], list[Quarantined]]:
    """The feature key of each study, and those whose CT is not there; the storage is asked by several at once."""

    def key(study: Study) -> str | Quarantined:
        try:
            return key_of_source(VolumeSource.of(study))
        except OSError as error:
            return Quarantined(study.study_id, str(study.volume), "ingest", f"cannot be read: {error}")

    with ThreadPoolExecutor(KEY_THREADS) as threads:
        found = list(zip(studies, threads.map(key, studies), strict=True))
    keys = {study.study_id: one for study, one in found if isinstance(one, str)}
    return keys, [one for _, one in found if isinstance(one, Quarantined)]


def tell_size(left: int, present: int, encoder: CTViTSettings, store: Path) -> None:
    """Says how large the features will be before any is made; ConfigurationError where the disk is too small."""
    from rlaif.features import feature_bytes

    needed, free = feature_bytes(left, encoder.tokens, encoder.hidden), shutil.disk_usage(store.parent).free
    print(
        f"features: {left:,} studies x {encoder.tokens:,} tokens x {encoder.hidden:,} values in float16 = "
        f"{amount(needed)}; {present:,} are there already, {amount(free)} free",
        flush=True,
    )
    # Small shards stand beside the large one that they become.
    if needed * COMPACTION_ROOM > free:
        raise ConfigurationError(
            f"the encoder features need {amount(needed)} and {store.parent} has {amount(free)} free: "
            "set cache.root to a larger disk, or take fewer studies with data.limit"
        )


def ingest_all(
    run: RunFolder,
    config: Config,
    left: list[Study],
    keys: dict[str, str],
    known: Sequence[Ingested | Quarantined],
    recipe: str,
    encoder: tuple[Path, Path] | None,
) -> None:
    """Ingests what is left and writes every answer to the run as it comes, so that a kill loses seconds of work."""
    from actors.ingest import ingest

    total = sum(1 for one in run.iterate("studies", Study) if one.volume is not None)
    progress = Progress("ingest", total)
    progress.skip(total - len(left))
    run.append("features", Ingested, [one for one in known if isinstance(one, Ingested)])
    bad = [one for one in known if isinstance(one, Quarantined)]
    unread = [one for one in run.read("quarantine", Quarantined) if one.stage != "ingest"]
    run.replace("quarantine", Quarantined, [*unread, *bad])
    with run.writer("features", Ingested) as features, run.writer("quarantine", Quarantined) as quarantine:
        for one in ingest(left, keys, recipe, config.recipe.orientation, config.ingest, encoder):
            if isinstance(one, Ingested):
                features.add(one)
            else:
                bad.append(one)
                quarantine.add(one)
                check_bad(config, len(bad), total, "studies", bad)
            features.tick()
            quarantine.tick()
            progress.at(progress.done + 1, f"{len(bad)} in quarantine" if bad else "")
    check_bad(config, len(bad), total, "studies", bad)
    run.compact("features", Ingested, "study_id")
    run.replace("quarantine", Quarantined, [*unread, *bad])
    reused = sum(isinstance(one, Ingested) for one in known)
    run.finish(
        "ingest",
        recipe=recipe,
        seconds=progress.seconds,
        read=len(left),
        volumes=total,
        kept=total - len(bad),
        reused=reused,
        quarantined=len(bad),
    )
