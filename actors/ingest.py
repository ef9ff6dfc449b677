"""Ingest: studies are read, put through the recipe and encoded once, on Ray Data with its back-pressure.

A study that cannot be used is answered with its reason. Storage that stays away ends the ingest; a process that dies
is started again, and a study that kills every process that reads it is answered so.
"""

import json
import logging
import queue
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from actors.ingest_steps import TASK_STUDIES, Encode, ReadVolumes, batch_of, without_voxels
from actors.outages import Outages
from actors.remote import answer
from rlaif.config import IngestSettings
from rlaif.features import FeatureStore
from rlaif.records import Ingested, Quarantined, Study
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import Orientation

Row = dict[str, Any]

STAGE = "ingest"
# How often a block is read again after its process died, and how many blocks may be given up for reading one by one.
DEATHS, LOST_BLOCKS = 2, 8
# How long a pipeline that is given up may take to hand over its last row.
FOLLOWER_S = 10.0

# Ray Data has no other way yet to bound how often a task whose process dies is started again.
warnings.filterwarnings("ignore", message="`ray_remote_args_fn` is deprecated")


class IngestStalled(RuntimeError):
    """No study was finished for longer than the settings allow."""


class ReadersDied(RuntimeError):
    """More reading processes died than single studies explain."""


def rows_of(studies: Iterable[Study], keys: dict[str, str]) -> list[Row]:
    """What the readers are told of each study; `keys` holds feature keys by study."""
    return [
        {
            "study_id": one.study_id,
            "source": VolumeSource.of(one).to_json(),
            "masks": json.dumps(one.regions or {}),
            "feature_key": keys.get(one.study_id, ""),
        }
        for one in studies
    ]


def read_studies(
    rows: list[Row],
    recipe: str,
    orientation: Orientation,
    settings: IngestSettings,
    *,
    views: int = 1,
    keep_voxels: bool = True,
) -> ray.data.Dataset:
    """A data set of preprocessed volumes with what is said of each, in the order of the rows; `views` as for ingest."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    readers = max(1, int(ray.cluster_resources().get("CPU", 1)))
    # A few blocks for each reader where there are few studies, so that none waits for another's last ones.
    a_task = max(1, min(TASK_STUDIES, -(-len(rows) // (4 * readers))))
    return ray.data.from_items(rows, override_num_blocks=-(-len(rows) // a_task)).map_batches(
        ReadVolumes(recipe, orientation, views=views, keep_voxels=keep_voxels).__call__,
        batch_size=a_task,
        num_cpus=settings.cpus,
        ray_remote_args_fn=lambda: {"max_retries": DEATHS},
    )


def ingest(
    studies: list[Study],
    keys: dict[str, str],
    recipe: str,
    orientation: Orientation,
    settings: IngestSettings,
    encoder: tuple[Path, Path] | None,
    *,
    views: int = 1,
    outages: Outages | None = None,
) -> Iterator[Ingested | Quarantined]:
    """Yields, for every study in any order, that its features are in the store, or the reason why they are not.

    `keys` holds the feature key of each study, `encoder` the policy's folder and the feature store's; without an
    encoder the volumes are read and put through the recipe, and no more. `views` are the volumes that a study hands to
    the encoder at most (`PolicySettings.views`): beyond the first, its regions, by their masks. Raises
    StorageUnavailable and IngestStalled.
    """
    rows = rows_of(studies, keys)
    left = {str(row["study_id"]): (row, study) for row, study in zip(rows, studies, strict=True)}
    if not rows:
        return
    begun = time.time()
    pipeline = read_studies(rows, recipe, orientation, settings, views=views, keep_voxels=encoder is not None)
    # Only here, where what is missing at the end is read again.
    pipeline.context.max_errored_blocks = LOST_BLOCKS
    if encoder is not None:
        pipeline = pipeline.map_batches(
            Encode,
            fn_constructor_args=_encoder_arguments(encoder, settings),
            batch_size=batch_of(RECIPES[recipe].size, views, settings.batch),
            num_cpus=settings.cpus,
            num_gpus=settings.gpus or None,
            compute=ray.data.ActorPoolStrategy(size=settings.encoders),
            ray_remote_args_fn=lambda: {"max_restarts": DEATHS, "max_task_retries": DEATHS},
        )
    try:
        for row in in_time(iter(pipeline.iter_rows()), settings.timeout_s):
            _, study = left.pop(row["study_id"])
            yield _answer(row, study)
    except (WorkerCrashedError, OutOfMemoryError) as error:
        raise ReadersDied(
            f"the processes of more than {LOST_BLOCKS} groups of studies died ({type(error).__name__}): the machine "
            "runs out of memory, or many files crash their decoder (the Ray logs name them). Lower ingest.batch, raise "
            "ingest.cpus to have fewer readers, or leave such files out; the same command goes on from what is done"
        ) from error
    # What is missing was in blocks whose processes died again and again: each study on its own now.
    for row, study in left.values():
        yield _alone(row, study, recipe, orientation, settings, encoder, views)
    if encoder is not None:
        # A shard of features passes through memory: not the controller's.
        compacting = _compact.remote(str(encoder[1]), settings.shard_mib * 2**20, begun)
        twice = answer(compacting, settings.timeout_s, "the compaction of the feature store")
        if twice and outages is not None:
            reason = "they stand in the feature store twice: a process or node was lost before it had handed them on"
            outages.note("encoder", "encoders", reason, repeated=twice, unit="studies")


def _encoder_arguments(encoder: tuple[Path, Path], settings: IngestSettings) -> tuple[str, str, int]:
    return str(encoder[0]), str(encoder[1]), settings.shard_mib * 2**20


@ray.remote(num_cpus=0)
def _compact(store: str, shard_bytes: int, since: float) -> int:
    return FeatureStore(Path(store)).compact(shard_bytes, since)


def _answer(row: Row, study: Study) -> Ingested | Quarantined:
    if row["reason"]:
        return Quarantined(study.study_id, str(study.volume), STAGE, row["reason"])
    read_s, recipe_s, *encode_s = (float(part) for part in row["seconds"])
    remarks = tuple(row["remarks"].split("\n")) if row["remarks"] else ()
    regions = tuple(json.loads(row["regions"])) or None
    return Ingested(study.study_id, row["feature_key"] or None, remarks, read_s, recipe_s, sum(encode_s), regions)


@ray.remote(max_retries=0)
def _ingest_one(
    row: Row, recipe: str, orientation: Orientation, encoder: tuple[str, str, int] | None, views: int
) -> Row:
    columns = {name: np.array([value], dtype=object) for name, value in row.items()}
    (batch,) = ReadVolumes(recipe, orientation, views=views, keep_voxels=encoder is not None)(columns)
    if encoder is not None:
        batch = Encode(*encoder)(batch)
    return {name: column[0] for name, column in without_voxels(batch).items()}


def _alone(
    row: Row,
    study: Study,
    recipe: str,
    orientation: Orientation,
    settings: IngestSettings,
    encoder: tuple[Path, Path] | None,
    views: int,
) -> Ingested | Quarantined:
    """The answer for one study, read by a process of its own."""
    arguments = None if encoder is None else _encoder_arguments(encoder, settings)
    reading = _ingest_one.options(num_cpus=settings.cpus, num_gpus=settings.gpus or None)
    try:
        read = ray.get(reading.remote(row, recipe, orientation, arguments, views), timeout=settings.timeout_s)
    except RayTaskError:
        raise
    except GetTimeoutError as error:
        raise IngestStalled(
            f"{study.volume} was not read in {settings.timeout_s:g} s by a process of its own: see the storage, or "
            "raise ingest.timeout_s; the same command goes on from what is done"
        ) from error
    except (WorkerCrashedError, OutOfMemoryError) as error:
        reason = (
            f"every process that read it died, the last one alone with it ({type(error).__name__}): the file crashes "
            "its decoder or takes more memory than the machine has; convert it, or leave it out"
        )
        return Quarantined(study.study_id, str(study.volume), STAGE, reason)
    return _answer(read, study)


def in_time(rows: Iterator[Row], timeout_s: float) -> Iterator[Row]:
    """The rows as they come; raises IngestStalled where the next one takes longer than `timeout_s`."""
    arrived: queue.Queue[Row | BaseException | None] = queue.Queue(maxsize=256)
    stopped = threading.Event()

    def put(item: Row | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return arrived.put(item, timeout=1.0)
            except queue.Full:
                continue

    def follow() -> None:
        try:
            for row in rows:
                put(row)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 (raised again in the thread that waits)
            put(error)

    follower = threading.Thread(target=follow, daemon=True, name="ingest-rows")
    follower.start()
    try:
        while True:
            try:
                item = arrived.get(timeout=timeout_s)
            except queue.Empty:
                raise IngestStalled(
                    f"no study was finished in {timeout_s:g} s: see the storage and the cluster's load, or raise "
                    "ingest.timeout_s; the same command goes on from what is done"
                ) from None
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        # It holds the pipeline, which must end before the cluster is left.
        follower.join(timeout=FOLLOWER_S)
