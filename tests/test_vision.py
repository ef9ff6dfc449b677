"""Voxels for policies whose encoder trains: those that the ingest would encode, by the same keys."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rlaif.datasets import phantom
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.datasets.registry import load_phantom
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.features import FeatureMissing, FeatureStore
from rlaif.ledger import RunFolder
from rlaif.models.visual_input import VisualInput
from rlaif.records import Ingested, Study
from rlaif.vision import KEPT_STUDIES, StoredFeatures, StudyVoxels, as_bytes
from rlaif.volumes.encoder_input import encoder_input
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import VolumeError


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    """Three studies of the phantom with their regions."""
    settings = PhantomDataSettings(sft=2, align=1, heldout=0, seed=6, regions=True)
    phantom.generate(tmp_path / "data", PhantomSettings(sft=2, align=1, heldout=0, seed=6, regions=True), workers=1)
    return load_phantom(settings, tmp_path / "data").studies


@pytest.fixture
def run(tmp_path: Path, studies: list[Study]) -> Path:
    """A run that has ingested all but the last study, which is set aside."""
    with RunFolder.open(tmp_path / "runs", "r", {"run": {"name": "r"}}) as folder:
        folder.replace("studies", Study, studies)
        rows = [Ingested(one.study_id, f"key-{one.study_id}") for one in studies[:-1]]
        folder.replace("features", Ingested, rows)
    return folder.path


@pytest.mark.parametrize("regions", [True, False])
def test_voxels_are_those_that_the_ingest_encodes(run: Path, studies: list[Study], regions: bool) -> None:
    reader = StudyVoxels(run, "phantom", "canonical", regions).open()
    for study in studies[:-1]:
        found = reader.get(f"key-{study.study_id}")
        source = VolumeSource.of(study)
        expected = encoder_input(RECIPES["phantom"], source, "canonical", study.regions if regions else None)
        assert found.image.dtype == torch.float32 and found.image.shape == (1, 32, 48, 48)
        np.testing.assert_array_equal(found.image.numpy(), expected.image)
        assert found.regions.keys() == expected.regions.images.keys() and len(found.regions) == (8 if regions else 0)
        for name, region in found.regions.items():
            np.testing.assert_array_equal(region.image.numpy(), expected.regions.images[name])
            assert region.mask.dtype == torch.uint8 and region.mask.shape == (32, 48, 48)
            soft = expected.regions.geometry[name][0]
            assert np.abs(region.mask.numpy() / 255 - soft).max() <= 0.5 / 255 + 1e-6 and region.mask.max() > 200


def test_a_study_that_was_set_aside_and_an_unknown_key_are_missing(run: Path, studies: list[Study]) -> None:
    reader = StudyVoxels(run, "phantom", "canonical", True).open()
    for key in (f"key-{studies[-1].study_id}", "key"):
        with pytest.raises(FeatureMissing) as caught:
            reader.get(key)
        assert str(caught.value) == f"no study of {run} has the key {key}: run the ingest again"


def test_the_two_sides_of_a_pair_read_a_study_once(run: Path, studies: list[Study]) -> None:
    reader = StudyVoxels(run, "phantom", "canonical", True).open()
    first, second = (reader.get(f"key-{one.study_id}") for one in studies[:2])
    Path(str(studies[0].volume)).unlink()
    assert reader.get(f"key-{studies[0].study_id}") is first and reader.get(f"key-{studies[1].study_id}") is second
    assert reader.get.cache_info().misses == 2 and reader.get.cache_info().maxsize == KEPT_STUDIES
    # Another reader has to read it, and says what has become of the CT.
    with pytest.raises(VolumeError, match=r"\.nii\.gz: does not exist"):
        StudyVoxels(run, "phantom", "canonical", True).open().get(f"key-{studies[0].study_id}")


def test_stored_features_open_their_store(tmp_path: Path) -> None:
    FeatureStore(tmp_path).write({"a": VisualInput(torch.ones(2, 3))})
    vision = StoredFeatures(tmp_path)
    assert not vision.with_encoder and StudyVoxels(tmp_path, "phantom", "canonical", False).with_encoder
    assert torch.equal(vision.open().get("a").image, torch.ones(2, 3).half())


def test_soft_masks_as_bytes_are_rounded() -> None:
    mask = np.array([0.0, 0.001, 0.5, 0.999, 1.0], np.float32).reshape(1, 1, 1, 5)
    assert as_bytes(mask).reshape(-1).tolist() == [0, 0, 128, 255, 255] and as_bytes(mask).shape == (1, 1, 5)
    assert math.isclose(as_bytes(np.full((1, 2, 2, 2), 0.25, np.float32)).mean() / 255, 0.25, abs_tol=1 / 510)
