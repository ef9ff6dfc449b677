"""The feature keys of many studies: the storage is asked for their files by several at once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rlaif.records import Quarantined, Study
from rlaif.volumes.recipes import Recipe
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import Orientation

KEY_THREADS = 16


def feature_keys(
    studies: Sequence[Study], recipe: Recipe, orientation: Orientation, encoder: str, *, regions: bool
) -> tuple[dict[str, str], list[Quarantined]]:
    """The feature key of each study, and those whose CT or masks are not there; raises StorageUnavailable.

    `encoder` tells one encoder from another, `regions` says whether masks are read too.
    """

    def key(study: Study) -> str | Quarantined:
        masks = study.regions or {} if regions else None
        try:
            return VolumeSource.of(study).feature_key(recipe, orientation, encoder, masks)
        except OSError as error:
            return Quarantined(study.study_id, str(study.volume), "ingest", f"cannot be read: {error}")

    with ThreadPoolExecutor(KEY_THREADS) as threads:
        found = list(zip(studies, threads.map(key, studies), strict=True))
    keys = {study.study_id: one for study, one in found if isinstance(one, str)}
    return keys, [one for _, one in found if isinstance(one, Quarantined)]
