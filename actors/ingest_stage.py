"""The stage of a run in which its studies are ingested: what is left, how large it will be, and every answer kept."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from actors.outages import Outages
from actors.preparation import check_bad, key_of
from rlaif.config import Config, ConfigurationError
from rlaif.files import checksum_of, private_folder
from rlaif.ledger import RunFolder
from rlaif.models.settings import PolicySettings, read_settings
from rlaif.plan_counts import counts_of
from rlaif.plan_memory import amount
from rlaif.plan_trainings import settings_of
from rlaif.progress import Progress
from rlaif.records import Ingested, Quarantined, Study
from rlaif.volumes.feature_keys import feature_keys
from rlaif.volumes.recipes import RECIPES, Window

if TYPE_CHECKING:
    from rlaif.vision import Vision

# The room that compacting takes for a moment.
COMPACTION_ROOM = 1.1


def ingest_studies(run: RunFolder, config: Config, start: Path) -> "Vision | None":
    """Encodes every study once; gives where its features are, or None for a text-only policy.

    Where the encoder trains, every study is read once and none is encoded. Raises ConfigurationError where the disk
    has no room for the features, or the recipe serves no regions.
    """
    from rlaif.features import FeatureStore
    from rlaif.vision import StoredFeatures, StudyVoxels

    settings = read_settings(start)
    if settings.recipe is None or settings.encoder is None:
        return None
    recipe, orientation, regions = RECIPES[settings.recipe], config.recipe.orientation, settings.reads == "regions"
    if regions and not isinstance(recipe.intensity, Window):
        raise ConfigurationError(
            f"recipe {recipe.name} takes its range from each volume, and regions need a fixed window: take another "
            "recipe for a region-guided policy, such as reg2rg"
        )
    if config.trains_encoder:
        print("the encoder trains, so the feature store is bypassed: learners and samplers read the CTs", flush=True)
        if not run.done("ingest"):
            left = waiting_studies(run)
            keys, absent = feature_keys(left, recipe, orientation, "voxels", regions=regions)
            ingest_all(run, config, [one for one in left if one.study_id in keys], keys, absent, settings, None)
        return StudyVoxels(run.path, settings.recipe, orientation, regions)
    # One file of weights serves several encoders: pooling, heads and a publication's own form have none.
    encoder = key_of(settings.encoder, checksum_of(start / "encoder.safetensors"))
    folder = private_folder(config.cache.root / "features") / key_of(recipe.checksum, orientation, encoder)
    store = FeatureStore(folder)
    held = store.keys()
    ingested = run.read("features", Ingested)
    if run.done("ingest") and all(one.feature_key in held for one in ingested):
        return StoredFeatures(folder)
    # What the cache has lost since is made again.
    run.replace("features", Ingested, [one for one in ingested if one.feature_key in held])
    studies = waiting_studies(run)
    keys, absent = feature_keys(studies, recipe, orientation, encoder, regions=regions)
    present = [
        Ingested(study_id, key, regions=store.regions(key) or None) for study_id, key in keys.items() if key in held
    ]
    left = [one for one in studies if one.study_id in keys and keys[one.study_id] not in held]
    tell_size(len(left), len(present), settings, folder)
    ingest_all(run, config, left, keys, [*present, *absent], settings, (start, folder))
    return StoredFeatures(folder)


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

    policy = settings_of(config)
    counts = counts_of(config, image=True)
    splits = ", ".join(f"{split} {number:,}" for split, number in counts.studies.items())
    print(f"studies: {splits}; {counts.quarantined:,} rows and files of the tables in quarantine")
    recipe, orientation = config.recipe.name or policy.recipe, config.recipe.orientation
    print(f"volumes: {counts.imaged:,}, recipe {recipe}, orientation {orientation}")
    if config.ingest.encode and policy.encoder is not None and config.trains_encoder:
        print("features: none, for the encoder trains: learners and samplers read the CTs")
    elif config.ingest.encode and policy.encoder is not None:
        needed = feature_bytes(counts.imaged, policy)
        print(f"features: at most {amount(needed)} below {config.cache.root / 'features'}, less what is there already")


def waiting_studies(run: RunFolder) -> list[Study]:
    """The studies with a CT that no earlier attempt has ingested; those set aside are looked at again."""
    done = {one.study_id for one in run.iterate("features", Ingested)}
    return [one for one in run.iterate("studies", Study) if one.volume is not None and one.study_id not in done]


def tell_size(left: int, present: int, policy: PolicySettings, store: Path) -> None:
    """Says how large the features will be before any is made; ConfigurationError where the disk is too small."""
    from rlaif.features import feature_bytes

    needed, free = feature_bytes(left, policy), shutil.disk_usage(store.parent).free
    each = f"{policy.views} views x " if policy.views > 1 else ""
    encoder = policy.encoder
    assert encoder is not None
    print(
        f"features: {left:,} studies x {each}{encoder.tokens:,} tokens x {encoder.hidden:,} values in float16 = "
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
    policy: PolicySettings | str,
    encoder: tuple[Path, Path] | None,
) -> None:
    """Ingests what is left, for a policy or for a recipe alone; without an encoder's folders, reads and keeps nothing.

    Every answer is written to the run as it comes, so that a kill loses seconds of work.
    """
    from actors.ingest import ingest

    recipe = policy if isinstance(policy, str) else str(policy.recipe)
    views = 1 if isinstance(policy, str) else policy.views
    total = sum(1 for one in run.iterate("studies", Study) if one.volume is not None)
    progress = Progress("ingest", total)
    progress.skip(total - len(left))
    run.append("features", Ingested, [one for one in known if isinstance(one, Ingested)])
    bad = [one for one in known if isinstance(one, Quarantined)]
    unread = [one for one in run.read("quarantine", Quarantined) if one.stage != "ingest"]
    run.replace("quarantine", Quarantined, [*unread, *bad])
    with run.writer("features", Ingested) as features, run.writer("quarantine", Quarantined) as quarantine:
        answers = ingest(
            left, keys, recipe, config.recipe.orientation, config.ingest, encoder, views=views, outages=Outages(run)
        )
        for one in answers:
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
    where = "stored" if encoder is not None else "none" if isinstance(policy, str) else "bypassed"
    run.finish(
        "ingest",
        recipe=recipe,
        features=where,
        seconds=progress.seconds,
        read=len(left),
        volumes=total,
        kept=total - len(bad),
        reused=reused,
        quarantined=len(bad),
    )
