"""Where actors read what a policy sees of a study: encoder features from the store, or voxels from the CTs themselves.

Only feature keys cross Ray. Where the encoder trains there are no features to keep: the store is bypassed, every
actor reads the CTs, and carries the encoder as a part of the policy.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from rlaif.features import FeatureMissing, FeatureStore
from rlaif.models.visual_input import RegionInput, VisualInput
from rlaif.records import Ingested, Study
from rlaif.tables import Table
from rlaif.volumes.encoder_input import encoder_input
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import Orientation

# Studies whose voxels are kept for the next to ask: with regions, one may take 200 MB.
KEPT_STUDIES = 2


@dataclass(frozen=True)
class StoredFeatures:
    """Encoder features in a feature store's folder."""

    folder: Path
    with_encoder = False

    def open(self) -> FeatureStore:
        """The store."""
        return FeatureStore(self.folder)


@dataclass(frozen=True)
class StudyVoxels:
    """Voxels of a run's studies, put through a recipe when they are asked for; `regions` reads region masks too."""

    run: Path
    recipe: str
    orientation: Orientation
    regions: bool
    with_encoder = True

    def open(self) -> "VoxelReader":
        """The reader."""
        return VoxelReader(self)


Vision = StoredFeatures | StudyVoxels


class VoxelReader:
    """Reads studies by feature key, as `FeatureStore` does, but gives their voxels."""

    def __init__(self, vision: StudyVoxels) -> None:
        self.vision = vision
        studies = {one.study_id: one for one in Table(vision.run / "studies", Study).read()}
        rows = Table(vision.run / "features", Ingested).read()
        self._study_of = {one.feature_key: studies[one.study_id] for one in rows if one.feature_key}
        self.get = lru_cache(maxsize=KEPT_STUDIES)(self._read)

    def _read(self, key: str) -> VisualInput:
        """The voxels of a key; raises FeatureMissing, and VolumeError where the CT has become unreadable."""
        if key not in self._study_of:
            raise FeatureMissing(f"no study of {self.vision.run} has the key {key}: run the ingest again")
        study, vision = self._study_of[key], self.vision
        regions = (study.regions or {}) if vision.regions else None
        found = encoder_input(RECIPES[vision.recipe], VolumeSource.of(study), vision.orientation, regions)
        inputs = {
            name: RegionInput(torch.from_numpy(image), torch.from_numpy(as_bytes(found.regions.geometry[name])))
            for name, image in found.regions.images.items()
        }
        return VisualInput(torch.from_numpy(found.image), inputs)


def as_bytes(mask: np.ndarray) -> np.ndarray:
    """A soft mask `[1, depth, height, width]` from 0 to 1 as uint8 `[depth, height, width]` from 0 to 255."""
    return np.rint(mask[0] * 255).astype(np.uint8)
