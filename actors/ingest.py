"""Ingest: studies are read, put through the recipe and encoded once, on Ray Data with its back-pressure."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from rlaif.config import IngestSettings
from rlaif.features import FeatureStore, feature_key
from rlaif.models.policy import load_encoder
from rlaif.records import Ingested, Quarantined, Study
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.resampling import apply
from rlaif.volumes.volume import VolumeError, check_hounsfield, read_volume

Batch = dict[str, NDArray[Any]]


class ReadVolumes:
    """Reads volumes and applies the recipe: voxels `[studies, 1, depth, height, width]` float16, or a reason."""

    def __init__(self, recipe: str) -> None:
        self.recipe = RECIPES[recipe]

    def __call__(self, batch: Batch) -> Batch:
        torch.set_num_threads(1)
        voxels, reasons = [], []
        for path in batch["volume"]:
            try:
                volume = read_volume(Path(path))
                check_hounsfield(volume)
                voxels.append(apply(self.recipe, volume).astype(np.float16))
                reasons.append("")
            except (VolumeError, OSError) as error:
                voxels.append(np.zeros((1, *self.recipe.size), np.float16))
                reasons.append(" ".join(str(error).split()) or type(error).__name__)
        return {**batch, "voxels": np.stack(voxels), "reason": np.array(reasons, dtype=object)}


class Encode:
    """Encodes volumes and writes their features as one shard of the store; passes on keys and reasons alone."""

    def __init__(self, policy_folder: str, store: str) -> None:
        self.encoder = load_encoder(Path(policy_folder))
        self.store = FeatureStore(Path(store))

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Batch:
        good = [row for row, reason in enumerate(batch["reason"]) if not reason]
        if good:
            features = self.encoder(torch.from_numpy(batch["voxels"][good]).float())
            keys = [str(batch["feature_key"][row]) for row in good]
            self.store.write(dict(zip(keys, features, strict=True)))
        return {name: batch[name] for name in ("study_id", "volume", "feature_key", "reason")}


def read_studies(rows: list[dict[str, str]], recipe: str, settings: IngestSettings) -> ray.data.Dataset:
    """A data set of preprocessed volumes; `rows` have study_id, volume and feature_key."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    blocks = max(1, -(-len(rows) // settings.batch))
    return ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        ReadVolumes(recipe).__call__, batch_size=settings.batch, num_cpus=settings.cpus
    )


def ingest(
    studies: list[Study], policy_folder: Path, store: Path, recipe: str, encoder_checksum: str, settings: IngestSettings
) -> Iterator[Ingested | Quarantined]:
    """Yields every study's feature key or the reason why it has none; what the store holds is not done again."""
    present = FeatureStore(store).keys()
    rows: list[dict[str, str]] = []
    for study in studies:
        try:
            key = feature_key(study, RECIPES[recipe].checksum, encoder_checksum)
        except OSError as error:
            yield Quarantined(study.study_id, str(study.volume), "ingest", f"cannot be read: {error}")
            continue
        if key in present:
            yield Ingested(study.study_id, key)
        else:
            rows.append({"study_id": study.study_id, "volume": str(study.volume), "feature_key": key})
    if not rows:
        return
    encoded = read_studies(rows, recipe, settings).map_batches(
        Encode,
        fn_constructor_args=(str(policy_folder), str(store)),
        batch_size=settings.batch,
        num_cpus=settings.cpus,
        compute=ray.data.ActorPoolStrategy(size=settings.encoders),
    )
    for row in encoded.iter_rows():
        if row["reason"]:
            yield Quarantined(row["study_id"], row["volume"], "ingest", row["reason"])
        else:
            yield Ingested(row["study_id"], row["feature_key"])
    FeatureStore(store).compact(settings.shard_mib * 2**20)
