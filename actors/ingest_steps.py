"""The two steps of an ingest, on batches of studies: read and put through the recipe, then encode and keep."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlaif.features import FeatureStore
from rlaif.models.policy import load_encoder
from rlaif.models.visual_input import RegionInput, VisualInput
from rlaif.reports.regions import REGIONS
from rlaif.storage import is_remote
from rlaif.vision import as_bytes
from rlaif.volumes.encoder_input import encoder_input
from rlaif.volumes.mask_files import mask_files
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.regions import mask_remarks
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import Orientation, VolumeError

Batch = dict[str, NDArray[Any]]

# Bytes of preprocessed voxels that one process hands on at once.
BLOCK_BYTES = 128 * 2**20
# Studies that one task reads, one after the other: what a dying process leaves to be read again.
TASK_STUDIES = 16


class ReadVolumes:
    """Reads volumes and applies the recipe: voxels `[studies, views, depth, height, width]` float16, or a reason.

    The first view is the whole scan. With more than one, each of the ten regions has a view after it, and `mask_voxels`
    `[studies, regions, depth, height, width]` uint8 go with them; both are empty where `regions` of the row lacks it.
    With `keep_voxels=False` the voxels are made and let go.
    """

    def __init__(self, recipe: str, orientation: Orientation, *, views: int, keep_voxels: bool) -> None:
        self.recipe = RECIPES[recipe]
        self.orientation = orientation
        self.views = views
        self.keep_voxels = keep_voxels

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        torch.set_num_threads(1)
        at_once = batch_of(self.recipe.size, self.views, TASK_STUDIES)
        for start in range(0, len(batch["study_id"]), at_once):
            rows = {name: column[start : start + at_once] for name, column in batch.items()}
            yield rows | self._read(rows)

    def _read(self, rows: Batch) -> Batch:
        count = len(rows["source"])
        kept = count if self.keep_voxels else 0
        voxels = np.zeros((kept, self.views, *self.recipe.size), np.float16)
        masks = np.zeros((kept, self.views - 1, *self.recipe.size), np.uint8)
        reasons, remarks, present, seconds = [], [], [], []
        for place in range(count):
            reason, said, names, took = "", "", [], (0.0, 0.0)
            try:
                source = VolumeSource.from_json(str(rows["source"][place]))
                regions = json.loads(str(rows["masks"][place]))
                found = encoder_input(self.recipe, source, self.orientation, regions if self.views > 1 else None)
                took = found.read_s, found.recipe_s
                said = "\n".join([*found.remarks, *self._remarks(source, regions)])
                names = list(found.regions.images)
                if self.keep_voxels:
                    voxels[place, 0] = found.image[0]
                    for name in names:
                        number = REGIONS.index(name)
                        voxels[place, 1 + number] = found.regions.images[name][0]
                        masks[place, number] = as_bytes(found.regions.geometry[name])
            except (VolumeError, OSError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
            reasons.append(reason)
            remarks.append(said)
            present.append(json.dumps(names))
            seconds.append(took)
        answers: Batch = {
            "reason": np.array(reasons, dtype=object),
            "remarks": np.array(remarks, dtype=object),
            "regions": np.array(present, dtype=object),
            "seconds": np.array(seconds),
        }
        return answers | ({"voxels": voxels} | ({"mask_voxels": masks} if self.views > 1 else {}) if kept else {})

    def _remarks(self, source: VolumeSource, regions: dict[str, list[str]]) -> Sequence[str]:
        """What is wrong with masks that nobody reads yet; remote ones would have to be fetched whole for it."""
        files = mask_files(regions)
        if self.views > 1 or not files or any(is_remote(one) for one in [source.location, *files]):
            return ()
        return mask_remarks(Path(source.location), source.series, files)


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
            names = {row: list(json.loads(str(batch["regions"][row]))) for row in good}
            wanted = [(row, view) for row in good for view in (0, *(1 + REGIONS.index(name) for name in names[row]))]
            features = iter(self._features(batch["voxels"], wanted))
            studies = {}
            for row in good:
                image = next(features)
                regions = {
                    name: RegionInput(next(features), torch.tensor(batch["mask_voxels"][row, REGIONS.index(name)]))
                    for name in names[row]
                }
                studies[str(batch["feature_key"][row])] = VisualInput(image, regions)
            self.store.write(studies, compact_at=self.shard_bytes)
        count = len(batch["reason"])
        encoding = np.full((count, 1), (time.monotonic() - started) / max(1, count))
        seconds = np.concatenate([batch["seconds"], encoding], axis=1)
        return without_voxels(batch) | {"seconds": seconds}

    def _features(self, voxels: NDArray[Any], wanted: list[tuple[int, int]]) -> Iterator[torch.Tensor]:
        """The features `[tokens, hidden]` of the wanted (row, view)s, in order."""
        at_once = batch_of(voxels.shape[2:], 1, len(wanted))
        for start in range(0, len(wanted), at_once):
            volumes = np.stack([voxels[row, view][None] for row, view in wanted[start : start + at_once]])
            yield from self.encoder(torch.from_numpy(volumes).to(self.device).float()).cpu()


def without_voxels(batch: Batch) -> Batch:
    """A batch without what only the encoder needs."""
    return {name: column for name, column in batch.items() if not name.endswith("voxels")}


def batch_of(size: Sequence[int], views: int, most: int) -> int:
    """Studies of so many views that are handed on at once: as many as a block holds, at least one."""
    return max(1, min(most, BLOCK_BYTES // (2 * views * int(np.prod(size)))))
