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
import torch
from numpy.typing import NDArray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from rlaif.config import IngestSettings
from rlaif.features import FeatureStore
from rlaif.models.policy import load_encoder
from rlaif.records import Ingested, Quarantined, Study
from rlaif.storage import is_remote
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.regions import mask_files, mask_remarks
from rlaif.volumes.resampling import apply
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import Orientation, VolumeError

Batch = dict[str, NDArray[Any]]
Row = dict[str, Any]

STAGE = "ingest"
# Bytes of preprocessed voxels that one process hands on at once.
BLOCK_BYTES = 128 * 2**20
# Studies that one task reads, one after the other: what a dying process leaves to be read again.
TASK_STUDIES = 16
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


class ReadVolumes:
    """Reads volumes and applies the recipe: voxels `[studies, 1, depth, height, width]` float16, or a reason.

    With `keep_voxels=False` the voxels are made and let go.
    """

    def __init__(self, recipe: str, orientation: Orientation, *, keep_voxels: bool) -> None:
        self.recipe = RECIPES[recipe]
        self.orientation = orientation
        self.keep_voxels = keep_voxels

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        torch.set_num_threads(1)
        at_once = batch_of(self.recipe.size, TASK_STUDIES)
        for start in range(0, len(batch["study_id"]), at_once):
            rows = {name: column[start : start + at_once] for name, column in batch.items()}
            yield rows | self._read([str(one) for one in rows["source"]], [json.loads(one) for one in rows["masks"]])

    def _read(self, sources: list[str], masks: list[list[str]]) -> Batch:
        voxels = np.zeros((len(sources) if self.keep_voxels else 0, 1, *self.recipe.size), np.float16)
        reasons, remarks, seconds = [], [], []
        for place, (text, files) in enumerate(zip(sources, masks, strict=True)):
            started = read = time.monotonic()
            reason, said = "", ""
            try:
                source = VolumeSource.from_json(text)
                volume = source.read(self.orientation)
                found = mask_remarks(Path(source.location), source.series, files) if files else ()
                read, said = time.monotonic(), "\n".join([*volume.remarks, *found])
                values = apply(self.recipe, volume)
                if self.keep_voxels:
                    voxels[place] = values
            except (VolumeError, OSError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
            reasons.append(reason)
            remarks.append(said)
            seconds.append((read - started, time.monotonic() - read))
        answers: Batch = {
            "reason": np.array(reasons, dtype=object),
            "remarks": np.array(remarks, dtype=object),
            "seconds": np.array(seconds),
        }
        return answers | ({"voxels": voxels} if self.keep_voxels else {})


class Encode:
    """Encodes volumes and writes their features as shards of the store; passes on everything but the voxels."""

    def __init__(self, policy_folder: str, store: str, shard_bytes: int) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.encoder = load_encoder(Path(policy_folder)).to(self.device)
        self.store = FeatureStore(Path(store))
        self.shard_bytes = shard_bytes

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Batch:
        started = time.monotonic()
        good = [row for row, reason in enumerate(batch["reason"]) if not reason]
        if good:
            features = self.encoder(torch.from_numpy(batch["voxels"][good]).to(self.device).float()).cpu()
            keys = [str(batch["feature_key"][row]) for row in good]
            self.store.write(dict(zip(keys, features, strict=True)), compact_at=self.shard_bytes)
        count = len(batch["reason"])
        encoding = np.full((count, 1), (time.monotonic() - started) / max(1, count))
        seconds = np.concatenate([batch["seconds"], encoding], axis=1)
        return {name: column for name, column in batch.items() if name != "voxels"} | {"seconds": seconds}


def batch_of(size: tuple[int, int, int], most: int) -> int:
    """Studies that are handed on at once: as many volumes of that size as a block holds, at least one."""
    return max(1, min(most, BLOCK_BYTES // (2 * int(np.prod(size)))))


def rows_of(studies: Iterable[Study], keys: dict[str, str]) -> list[Row]:
    """What the readers are told of each study; `keys` holds feature keys by study."""
    return [
        {
            "study_id": one.study_id,
            "source": VolumeSource.of(one).to_json(),
            "masks": json.dumps(_checked_masks(one)),
            "feature_key": keys.get(one.study_id, ""),
        }
        for one in studies
    ]


def _checked_masks(study: Study) -> list[str]:
    """The masks whose headers are looked at; remote ones would have to be fetched whole for it."""
    files = mask_files(study)
    return [] if any(is_remote(one) for one in [str(study.volume), *files]) else files


def read_studies(
    rows: list[Row], recipe: str, orientation: Orientation, settings: IngestSettings, *, keep_voxels: bool = True
) -> ray.data.Dataset:
    """A data set of preprocessed volumes with what is said of each, in the order of the rows."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    readers = max(1, int(ray.cluster_resources().get("CPU", 1)))
    # A few blocks for each reader where there are few studies, so that none waits for another's last ones.
    a_task = max(1, min(TASK_STUDIES, -(-len(rows) // (4 * readers))))
    return ray.data.from_items(rows, override_num_blocks=-(-len(rows) // a_task)).map_batches(
        ReadVolumes(recipe, orientation, keep_voxels=keep_voxels).__call__,
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
) -> Iterator[Ingested | Quarantined]:
    """Yields, for every study in any order, that its features are in the store, or the reason why they are not.

    `keys` holds the feature key of each study, `encoder` the policy's folder and the feature store's; without them
    the volumes are read and put through the recipe, and no more. Raises StorageUnavailable and IngestStalled.
    """
    rows = rows_of(studies, keys)
    left = {str(row["study_id"]): (row, study) for row, study in zip(rows, studies, strict=True)}
    if not rows:
        return
    pipeline = read_studies(rows, recipe, orientation, settings, keep_voxels=encoder is not None)
    # Only here, where what is missing at the end is read again.
    pipeline.context.max_errored_blocks = LOST_BLOCKS
    if encoder is not None:
        pipeline = pipeline.map_batches(
            Encode,
            fn_constructor_args=_encoder_arguments(encoder, settings),
            batch_size=batch_of(RECIPES[recipe].size, settings.batch),
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
        yield _alone(row, study, recipe, orientation, settings, encoder)
    if encoder is not None:
        # A shard of features passes through memory: not the controller's.
        ray.get(_compact.remote(str(encoder[1]), settings.shard_mib * 2**20), timeout=settings.timeout_s)


def _encoder_arguments(encoder: tuple[Path, Path], settings: IngestSettings) -> tuple[str, str, int]:
    return str(encoder[0]), str(encoder[1]), settings.shard_mib * 2**20


@ray.remote(num_cpus=0)
def _compact(store: str, shard_bytes: int) -> None:
    FeatureStore(Path(store)).compact(shard_bytes)


def _answer(row: Row, study: Study) -> Ingested | Quarantined:
    if row["reason"]:
        return Quarantined(study.study_id, str(study.volume), STAGE, row["reason"])
    read_s, recipe_s, *encode_s = (float(part) for part in row["seconds"])
    remarks = tuple(row["remarks"].split("\n")) if row["remarks"] else ()
    return Ingested(study.study_id, row["feature_key"] or None, remarks, read_s, recipe_s, sum(encode_s))


@ray.remote(max_retries=0)
def _ingest_one(row: Row, recipe: str, orientation: Orientation, encoder: tuple[str, str, int] | None) -> Row:
    columns = {name: np.array([value], dtype=object) for name, value in row.items()}
    (batch,) = ReadVolumes(recipe, orientation, keep_voxels=encoder is not None)(columns)
    if encoder is not None:
        batch = Encode(*encoder)(batch)
    return {name: column[0] for name, column in batch.items() if name != "voxels"}


def _alone(
    row: Row,
    study: Study,
    recipe: str,
    orientation: Orientation,
    settings: IngestSettings,
    encoder: tuple[Path, Path] | None,
) -> Ingested | Quarantined:
    """The answer for one study, read by a process of its own."""
    arguments = None if encoder is None else _encoder_arguments(encoder, settings)
    reading = _ingest_one.options(num_cpus=settings.cpus, num_gpus=settings.gpus or None)
    try:
        answer = ray.get(reading.remote(row, recipe, orientation, arguments), timeout=settings.timeout_s)
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
    return _answer(answer, study)


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
