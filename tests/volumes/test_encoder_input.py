"""What an encoder is given of a study: known voxels of scan and regions, and the reasons where there are none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from rlaif import storage
from rlaif.volumes.encoder_input import encoder_input
from rlaif.volumes.recipes import RECIPES, Window
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import Orientation, VolumeError

# Arrays as files have them, [i, j, k]; these axes run to the patient's left, posterior and superior.
LPS = np.diag([-2.0, -2.0, 3.0, 1.0])
SHAPE = (8, 6, 4)
# Nothing is resampled: each voxel of the scan is one of the input, from -1 at -1000 HU to 1 at 400 HU.
RECIPE = replace(RECIPES["phantom"], size=(4, 6, 8), spacing_mm=None, fit="stretch", intensity=Window(-1000.0, 400.0))


def body() -> np.ndarray:
    """A block of soft tissue with a brighter right half, in air."""
    voxels = np.full(SHAPE, -1000, np.int16)
    voxels[1:7, 1:5, 1:3] = 50
    voxels[1:4, 1:5, 1:3] = 400
    return voxels


def save(path: Path, values: np.ndarray, affine: np.ndarray = LPS) -> str:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return str(path)


@pytest.fixture
def ct(tmp_path: Path) -> VolumeSource:
    return VolumeSource(save(tmp_path / "ct.nii.gz", body()))


@pytest.fixture
def masks(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """The heart is the brighter half, the lung the other one; the pleura is nowhere."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 1:5, 1:3], labels[4:7, 1:5, 1:3] = 1, 2
    path = save(tmp_path / "labels.nii.gz", labels)
    return {"heart": (f"{path}#1",), "lung": (f"{path}#2",), "pleura": (f"{path}#3",)}


def test_a_scan_alone_is_the_recipes_and_reads_no_mask(ct: VolumeSource) -> None:
    found = encoder_input(RECIPE, ct, "canonical")
    expected = (body().transpose(2, 1, 0).astype(np.float32) + 1000) / 700 - 1
    assert found.image.shape == (1, 4, 6, 8) and found.image.dtype == np.float32
    np.testing.assert_allclose(found.image[0], expected, atol=1e-6)
    assert found.regions.images == found.regions.geometry == found.regions.absent == {} and found.remarks == ()
    assert found.read_s > 0 and found.recipe_s > 0


@pytest.mark.parametrize("orientation", ["canonical", "stored"])
def test_a_region_shows_itself_alone_and_one_without_voxels_is_a_remark(
    ct: VolumeSource, masks: dict[str, tuple[str, ...]], orientation: Orientation
) -> None:
    found = encoder_input(RECIPE, ct, orientation, masks)
    np.testing.assert_array_equal(found.image, encoder_input(RECIPE, ct, orientation).image)
    assert list(found.regions.images) == list(found.regions.geometry) == ["heart", "lung"]
    for name, hounsfield, right in (("heart", 400, slice(1, 4)), ("lung", 50, slice(4, 7))):
        inside = np.zeros(SHAPE[::-1], np.float32)
        inside[1:3, 1:5, right] = 1
        np.testing.assert_allclose(found.regions.geometry[name][0], inside, atol=1e-6)
        alone = np.where(inside, (hounsfield + 1000) / 700 - 1, -1)
        np.testing.assert_allclose(found.regions.images[name][0], alone, atol=1e-6)
    assert found.remarks == ("region pleura is left out: its mask is empty",)


def test_masks_are_turned_with_their_ct(tmp_path: Path, ct: VolumeSource, masks: dict[str, tuple[str, ...]]) -> None:
    # The same patient, stored from left to right and from top to bottom.
    affine = LPS @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1]])
    turned = VolumeSource(save(tmp_path / "turned.nii.gz", body()[::-1, :, ::-1], affine))
    expected, found = (encoder_input(RECIPE, one, "canonical", masks) for one in (ct, turned))
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.regions.images["heart"], expected.regions.images["heart"])


def test_regions_that_are_asked_for_and_not_there_are_the_reason(
    ct: VolumeSource, masks: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    with pytest.raises(VolumeError, match=r"ct\.nii\.gz: no region masks, which a region-guided policy reads: segment"):
        encoder_input(RECIPE, ct, "canonical", {})
    with pytest.raises(
        VolumeError, match=r"ct\.nii\.gz: none of its regions can be used \(pleura: its mask is empty\)"
    ):
        encoder_input(RECIPE, ct, "canonical", {"pleura": masks["pleura"]})
    with pytest.raises(VolumeError, match=r"gone\.nii\.gz: does not exist"):
        encoder_input(RECIPE, ct, "canonical", masks | {"bone": (str(tmp_path / "gone.nii.gz"),)})
    moved = LPS.copy()
    moved[0, 3] = 40.0
    elsewhere = save(tmp_path / "moved.nii.gz", np.ones(SHAPE, np.uint8), moved)
    with pytest.raises(VolumeError, match=r"moved\.nii\.gz: lies up to 40 mm off the voxels of the CT"):
        encoder_input(RECIPE, ct, "canonical", {"lung": (elsewhere,)})


def test_regions_of_a_ct_without_a_place_cannot_be_read(tmp_path: Path, masks: dict[str, tuple[str, ...]]) -> None:
    image = nibabel.Nifti1Image(body(), None)
    image.header["sform_code"], image.header["qform_code"] = 0, 0
    nibabel.save(image, tmp_path / "placeless.nii")
    source = VolumeSource(str(tmp_path / "placeless.nii"))
    assert encoder_input(RECIPE, source, "stored").image.shape == (1, 4, 6, 8)
    with pytest.raises(VolumeError, match=r"placeless\.nii: .*gives no orientation"):
        encoder_input(RECIPE, source, "stored", masks)


def test_a_study_in_a_bucket_is_fetched_once_and_named_by_its_address(
    ct: VolumeSource, masks: dict[str, tuple[str, ...]], bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torn.nii.gz").write_bytes((tmp_path / "labels.nii.gz").read_bytes()[:-30])
    bucket.upload(tmp_path, "study")
    there = VolumeSource(bucket.location("study/ct.nii.gz"))
    remote = {name: (f"{bucket.location('study/labels.nii.gz')}#{label}",) for label, name in enumerate(masks, 1)}
    fetched: list[str] = []
    download = storage._download
    monkeypatch.setattr(storage, "_download", lambda *call: (fetched.append(call[1]), download(*call)))
    found, expected = (encoder_input(RECIPE, one, "canonical", of) for one, of in ((there, remote), (ct, masks)))
    assert sorted(fetched) == ["cts/study/ct.nii.gz", "cts/study/labels.nii.gz"]
    assert found.regions.images.keys() == expected.regions.images.keys() and found.remarks == expected.remarks
    np.testing.assert_array_equal(found.regions.images["lung"], expected.regions.images["lung"])
    with pytest.raises(VolumeError) as caught:
        encoder_input(RECIPE, there, "canonical", {"lung": (bucket.location("study/torn.nii.gz"),)})
    assert str(caught.value).startswith(bucket.location("study/torn.nii.gz")) and "/tmp" not in str(caught.value)
