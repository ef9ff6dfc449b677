"""Recipes against computations written out by other means."""

import os
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch.nn import functional

from rlaif.volumes.recipes import RECIPES, Recipe
from rlaif.volumes.resampling import apply
from rlaif.volumes.volume import Volume, VolumeError, read_volume

SHARED = Path(os.environ.get("RLAIF_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(3).integers(-1500, 1500, shape, dtype=np.int16)


def test_published_recipes_have_the_papers_numbers() -> None:
    v1, v2 = RECIPES["ctclip_v1"], RECIPES["ctclip_v2"]
    assert v1.size == v2.size == (240, 480, 480)
    assert v1.spacing_mm == v2.spacing_mm == (1.5, 0.75, 0.75)
    assert (v1.window_hu, v2.window_hu) == ((-1000, 200), (-1000, 1000))
    phantom = RECIPES["phantom"]
    assert (phantom.size, phantom.spacing_mm, phantom.window_hu) == ((32, 48, 48), (10, 7, 7), (-1000, 400))


@pytest.mark.parametrize(("name", "formula"), [("ctclip_v1", (400, 600)), ("ctclip_v2", (0, 1000))])
def test_ctclip_equals_its_published_steps_on_a_nifti_array(name: str, formula: tuple[int, int]) -> None:
    # Shorter than the field along z (padded), longer along y (cropped).
    voxels, (dz, dy, dx) = noise((20, 60, 40)), (9.0, 7.5, 3.0)
    low, high = RECIPES[name].window_hu
    array = voxels.transpose(2, 1, 0).clip(low, high).astype(np.float32)  # first index x, second y, third z
    tensor = torch.from_numpy(array.transpose(2, 0, 1).copy())[None, None]
    size = [int(20 * (dz / 1.5)), int(40 * (dx / 0.75)), int(60 * (dy / 0.75))]
    resized = functional.interpolate(tensor, size=size, mode="trilinear", align_corners=False)[0, 0].numpy()
    scaled = (resized + formula[0]) / formula[1]
    expected = np.full((240, 480, 480), -1.0, np.float32)
    expected[60:180, 160:320, :] = scaled[:, :, 60:540]
    result = apply(RECIPES[name], Volume(voxels, (dz, dy, dx)))
    assert result.shape == (1, 240, 480, 480)
    assert result.dtype == np.float32
    result -= expected
    assert max(result.max(), -result.min()) < 2e-4


def test_resampling_takes_voxel_centres_and_clips_before_it() -> None:
    # Two voxels of 2 mm become four of 1 mm; clipped first, 3000 counts as 400.
    volume = Volume(np.array([[[-1000, 3000]]], dtype=np.int16), (1.0, 1.0, 2.0))
    recipe = Recipe("line", (1, 1, 6), (1.0, 1.0, 1.0), (-1000.0, 400.0), (0.0, 1.0))
    np.testing.assert_allclose(apply(recipe, volume)[0, 0, 0], [0, 0, 0.25, 0.75, 1, 0], atol=1e-6)


def test_a_recipe_without_spacing_stretches_the_volume_to_its_size() -> None:
    voxels = noise((7, 9, 11))
    recipe = Recipe("stretched", (5, 6, 8), None, (-1000.0, 1000.0))
    grid = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip((5, 6, 8), (7, 9, 11), strict=True)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"))
    expected = map_coordinates(voxels.clip(-1000, 1000).astype(float), points, order=1, mode="nearest") / 1000
    for spacing in ((1.0, 1.0, 1.0), (5.0, 0.5, 3.0)):
        np.testing.assert_allclose(apply(recipe, Volume(voxels, spacing))[0], expected, atol=1e-5)


def test_float_and_int_volumes_give_the_same_input() -> None:
    voxels = noise((10, 20, 20))
    ints, floats = Volume(voxels, (5.0, 9.0, 9.0)), Volume(voxels.astype(np.float32), (5.0, 9.0, 9.0))
    before = voxels.copy()
    np.testing.assert_array_equal(apply(RECIPES["phantom"], ints), apply(RECIPES["phantom"], floats))
    np.testing.assert_array_equal(ints.voxels, before)
    np.testing.assert_array_equal(floats.voxels, before)


def test_the_checksum_changes_with_every_setting() -> None:
    recipe = RECIPES["ctclip_v1"]
    others = [
        replace(recipe, size=(240, 480, 479)),
        replace(recipe, spacing_mm=None),
        replace(recipe, window_hu=(-1000.0, 201.0)),
        replace(recipe, value_range=(0.0, 1.0)),
        replace(recipe, in_plane="yx"),
        RECIPES["ctclip_v2"],
    ]
    assert len({recipe.checksum, *(other.checksum for other in others)}) == 7


def test_impossible_recipes_and_spacings_are_refused() -> None:
    with pytest.raises(ValueError, match="rise from low to high"):
        Recipe("bad", (1, 1, 1), None, (200.0, -1000.0))
    with pytest.raises(ValueError, match="must be positive"):
        Recipe("bad", (0, 1, 1), None, (0.0, 1.0))
    with pytest.raises(VolumeError, match="spacing in the header is wrong"):
        apply(RECIPES["ctclip_v1"], Volume(np.zeros((2, 400, 400), np.int16), (1.0, 40.0, 40.0)))


@pytest.mark.skipif(not (SHARED / "ct").is_dir(), reason=f"no real CTs at {SHARED}")
def test_a_real_ct_keeps_its_lungs_where_the_mask_has_them() -> None:
    name = "lidc_idri_0314_ct_1p5mm"
    ct = read_volume(SHARED / "ct" / f"{name}.nii.gz")
    lung = read_volume(SHARED / "masks" / f"{name}_lungmask_LR.nii.gz")
    image = apply(RECIPES["phantom"], ct)[0]
    mask = apply(Recipe("mask", (32, 48, 48), (10.0, 7.0, 7.0), (0.0, 1.0), (0.0, 1.0)), lung)[0]
    assert (image[mask > 0.99] * 700 - 300).mean() < -700
    assert nibabel.load(SHARED / "ct" / f"{name}.nii.gz").shape == ct.voxels.shape[::-1]
