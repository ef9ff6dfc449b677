"""A study's CT and what the tables say of it: read, brought to HU once, and known by its content."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from rlaif.records import Study
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import VolumeError

AFFINE = np.diag([-0.7, -0.8, 5.0, 1.0])
RECIPE = RECIPES["ctclip_v1"]


def body() -> np.ndarray:
    """HU of a block of soft tissue in air, [x, y, z]."""
    voxels = np.full((20, 24, 8), -1000, np.int16)
    voxels[4:16, 4:20] = 40
    voxels[8:12, 8:12, 2:6] = -850
    return voxels


def save(path: Path, voxels: np.ndarray) -> VolumeSource:
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path)
    return VolumeSource(str(path))


def test_a_series_is_named_behind_the_folder() -> None:
    study = Study("s", "p", "folder", "align", volume="/data/a#1.2.840.113")
    assert VolumeSource.of(study) == VolumeSource("/data/a", series="1.2.840.113")
    assert VolumeSource.at("/data/a#b.nii") == VolumeSource("/data/a#b.nii")
    assert VolumeSource.at("/data/a#") == VolumeSource("/data/a#")
    with pytest.raises(ValueError, match="study s has no volume"):
        VolumeSource.of(replace(study, volume=None))


def test_a_source_travels_as_text() -> None:
    for source in (VolumeSource("/a#b"), VolumeSource("/a", "1.2", (1.0, -1024.0), (1.5, 0.75, 0.75))):
        assert VolumeSource.from_json(source.to_json()) == source


def test_stored_values_become_hu_by_the_slope_and_intercept_of_the_table(tmp_path: Path) -> None:
    hounsfield = save(tmp_path / "hu.nii.gz", body()).read()
    stored = replace(save(tmp_path / "stored.nii.gz", body() + 1024), rescale=(1.0, -1024.0))
    volume = stored.read()
    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels, hounsfield.voxels)
    half = replace(save(tmp_path / "half.nii.gz", 2 * body()), rescale=(0.5, 0.0)).read()
    assert half.voxels.dtype == np.float32
    np.testing.assert_array_equal(half.voxels, hounsfield.voxels)


def test_a_rescale_too_many_or_too_few_is_seen_by_its_air(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="applied twice"):
        replace(save(tmp_path / "hu.nii.gz", body()), rescale=(1.0, -1024.0)).read()
    with pytest.raises(VolumeError, match="not HU"):
        save(tmp_path / "stored.nii.gz", body() + 1024).read()
    with pytest.raises(VolumeError, match="the row is wrong"):
        replace(save(tmp_path / "wild.nii.gz", body()), rescale=(1e30, 0.0)).read()
    with pytest.raises(VolumeError, match="the row is wrong"):
        replace(save(tmp_path / "wild.nii.gz", body()), rescale=(float("inf"), 0.0)).read()


def test_the_spacing_of_the_table_takes_the_place_of_the_header(tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii.gz", body())
    assert source.read().spacing_mm == pytest.approx((5.0, 0.8, 0.7))
    stated = replace(source, spacing_mm=(5.0, 0.8, 0.7001))
    assert stated.read().spacing_mm == (5.0, 0.8, 0.7001)
    with pytest.raises(VolumeError, match="spacing"):
        replace(source, spacing_mm=(0.0, 0.75, 0.75)).read("stored")


def test_a_header_that_contradicts_the_table_is_not_asked_for_left_and_right(tmp_path: Path) -> None:
    # As the original release may have it: the right spacing in the table, and an affine that says nothing.
    nibabel.save(nibabel.Nifti1Image(body(), np.eye(4)), tmp_path / "a.nii.gz")
    source = VolumeSource(str(tmp_path / "a.nii.gz"), spacing_mm=(5.0, 0.8, 0.7))
    with pytest.raises(VolumeError, match=r"spacing of 1 x 1 x 1 mm where the table has 5 x 0\.8 x 0\.7 mm"):
        source.read()
    stored = source.read("stored")
    assert stored.spacing_mm == (5.0, 0.8, 0.7)
    np.testing.assert_array_equal(stored.voxels, body().transpose(2, 1, 0))


def test_a_volume_in_a_bucket_is_read_as_from_disk(bucket: Any, tmp_path: Path) -> None:
    local = save(tmp_path / "a.nii.gz", body())
    bucket.upload(tmp_path, "volumes")
    remote = VolumeSource(bucket.location("volumes/a.nii.gz"))
    np.testing.assert_array_equal(remote.read().voxels, local.read().voxels)
    with pytest.raises(FileNotFoundError):
        VolumeSource(bucket.location("volumes/b.nii.gz")).read()
    (tmp_path / "torn.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:-40])
    bucket.upload(tmp_path, "volumes")
    with pytest.raises(VolumeError, match=r"torn\.nii\.gz"):
        VolumeSource(bucket.location("volumes/torn.nii.gz")).read()


def test_the_key_follows_all_that_changes_features(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(b"one")
    os.utime(path, ns=(10**18, 10**18))
    source = VolumeSource(str(path))
    key = source.feature_key(RECIPE, "canonical", "encoder")
    assert key == source.feature_key(RECIPE, "canonical", "encoder") and len(key) == 32
    keys = [
        key,
        source.feature_key(RECIPES["ctclip_v2"], "canonical", "encoder"),
        source.feature_key(RECIPE, "stored", "encoder"),
        source.feature_key(RECIPE, "canonical", "encoder-2"),
        replace(source, rescale=(1.0, -1024.0)).feature_key(RECIPE, "canonical", "encoder"),
        replace(source, spacing_mm=(1.0, 1.0, 1.0)).feature_key(RECIPE, "canonical", "encoder"),
    ]
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    keys.append(source.feature_key(RECIPE, "canonical", "encoder"))
    path.write_bytes(b"other")
    os.utime(path, ns=(10**18, 10**18))
    keys.append(source.feature_key(RECIPE, "canonical", "encoder"))
    assert len(set(keys)) == len(keys)
    with pytest.raises(FileNotFoundError):
        VolumeSource(str(tmp_path / "gone.nii")).feature_key(RECIPE, "canonical", "encoder")


def test_the_key_of_a_series_follows_its_slices(tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"one")
    source = VolumeSource(str(series))
    key = source.feature_key(RECIPE, "canonical", "encoder")
    status = series.stat()
    # The same folder time with other content: what a copy that keeps times gives.
    (series / "1.dcm").write_bytes(b"three")
    os.utime(series, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert source.feature_key(RECIPE, "canonical", "encoder") != key
    assert replace(source, series="1.2").feature_key(RECIPE, "canonical", "encoder") != key


def test_the_key_follows_the_masks_that_are_read(tmp_path: Path) -> None:
    source = save(tmp_path / "ct.nii.gz", body())
    lung, heart = (tmp_path / f"{name}.nii.gz" for name in ("lung", "heart"))
    for path in (lung, heart):
        path.write_bytes(b"mask")
        os.utime(path, ns=(10**18, 10**18))

    def key(regions: dict[str, tuple[str, ...]] | None) -> str:
        return source.feature_key(RECIPE, "canonical", "encoder", regions)

    both = {"lung": (str(lung),), "heart": (str(heart),)}
    known = key(both)
    assert key(dict(reversed(both.items()))) == known == key({name: tuple(one) for name, one in both.items()})
    keys = [
        known,
        key(None),
        key({}),
        key({"lung": (str(lung),)}),
        key(both | {"bone": (str(heart),)}),
        key({"lung": (str(heart),), "heart": (str(lung),)}),
        key(both | {"heart": (f"{heart}#1",)}),
        key(both | {"heart": (f"{heart}#1,2",)}),
    ]
    os.utime(lung, ns=(10**18 + 1, 10**18 + 1))
    keys.append(key(both))
    lung.write_bytes(b"another")
    os.utime(lung, ns=(10**18, 10**18))
    keys.append(key(both))
    assert len(set(keys)) == len(keys)
    # A mask that nobody reads changes nothing, and one that is not there has no key.
    assert key(None) == source.feature_key(RECIPE, "canonical", "encoder")
    heart.unlink()
    with pytest.raises(FileNotFoundError):
        key(both)


def test_a_volume_comes_with_the_grid_of_its_file(tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii.gz", body())
    volume, grid = source.read_with_grid()
    np.testing.assert_array_equal(volume.voxels, source.read().voxels)
    assert grid.shape == (20, 24, 8) and np.allclose(grid.affine, AFFINE)
    with pytest.raises(VolumeError, match="spacing"):
        replace(source, spacing_mm=(0.0, 0.75, 0.75)).read_with_grid("stored")
