"""Recipes: known numbers, left and right, and volumes that are small, empty or wrong."""

import os
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from rlaif.volumes.recipes import RECIPES, Percentiles, Recipe, Window
from rlaif.volumes.resampling import apply
from rlaif.volumes.volume import Volume, VolumeError, read_volume

SHARED = Path(os.environ.get("RLAIF_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))

PUBLISHED_SHAPES = {
    "phantom": (1, 32, 48, 48),
    "ctclip_v1": (1, 240, 480, 480),
    "ctclip_v2": (1, 240, 480, 480),
    "argus": (1, 256, 256, 64),
    "argus_high": (1, 512, 512, 256),
    "m3d": (1, 32, 256, 256),
    "mu2": (8, 32, 256, 256),
    "reg2rg": (3, 256, 256, 64),
}


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(3).integers(-1500, 1500, shape, dtype=np.int16)


def volume(voxels: object, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    return Volume(np.array(voxels, np.int16), spacing_mm)


def line(size: int, intensity: Window | Percentiles, **settings: object) -> Recipe:
    """A recipe for volumes of one row, with values between 0 and 1."""
    return Recipe(name="line", size=(1, 1, size), intensity=intensity, value_range=(0.0, 1.0), **settings)


def test_published_recipes_have_the_papers_numbers() -> None:
    assert set(RECIPES) == set(PUBLISHED_SHAPES)
    v1, v2 = RECIPES["ctclip_v1"], RECIPES["ctclip_v2"]
    assert v1.size == v2.size == (240, 480, 480)
    assert v1.spacing_mm == v2.spacing_mm == (1.5, 0.75, 0.75)
    assert (v1.intensity, v2.intensity) == (Window(-1000, 200), Window(-1000, 1000))
    for name in ("argus", "argus_high"):
        assert (RECIPES[name].spacing_mm, RECIPES[name].intensity) == ((4, 1, 1), Window(-1000, 1000))
    ranges = {name: recipe.value_range for name, recipe in RECIPES.items()}
    assert ranges == {name: (0, 1) if name in {"argus", "argus_high", "m3d", "mu2"} else (-1, 1) for name in RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_a_mark_stays_on_the_patients_left_back_and_head_side(name: str) -> None:
    recipe = RECIPES[name]
    voxels = np.full((60, 50, 40), -900, np.int16)
    voxels[25:35, 20:30, 15:25] = -1000  # inside, so that everything around it is foreground
    voxels[36:48, 35:45, 30:36] = 1000  # z to the head, y to the back, x to the left
    shape, spacing_mm, centre = (60, 50, 40), (6.0, 7.0, 8.0), np.array([42 / 60, 40 / 50, 33 / 40])
    published = recipe.published(apply(recipe, Volume(voxels, spacing_mm)))
    assert published.shape == PUBLISHED_SHAPES[name]
    image = published.reshape(256, 256, 256) if name == "mu2" else published[0]
    # The published array's axes as z, y, x of the patient.
    axes = {"ctclip_v1": "zxy", "ctclip_v2": "zxy", "argus": "xyz", "argus_high": "xyz", "mu2": "zxy", "reg2rg": "xyz"}
    image = image.transpose([axes.get(name, "zyx").index(axis) for axis in "zyx"])
    low, high = recipe.value_range
    found = (np.argwhere(image > low + 0.75 * (high - low)).mean(axis=0) + 0.5) / image.shape
    if recipe.fit == "crop_or_pad":
        wanted_mm = recipe.spacing_mm
        lengths = [int(n * (mm / to)) for n, mm, to in zip(shape, spacing_mm, wanted_mm, strict=True)]
        np.testing.assert_allclose(found, 0.5 + (centre - 0.5) * lengths / image.shape, atol=0.02)
    elif recipe.fit == "stretch":
        np.testing.assert_allclose(found, centre, atol=0.02)
    else:
        np.testing.assert_allclose(found, centre * (60 / 256, 1.0, 40 / 50), atol=0.02)


def test_the_published_layout_is_a_view_of_the_same_voxels() -> None:
    for name, recipe in RECIPES.items():
        values = np.zeros((1, *recipe.size), np.float32)
        assert recipe.published(values).shape == PUBLISHED_SHAPES[name]
        assert np.shares_memory(recipe.published(values), values)
    values = np.arange(256 * 256 * 256, dtype=np.float32).reshape(1, 256, 256, 256)
    np.testing.assert_array_equal(RECIPES["mu2"].published(values)[3, 5, 7], values[0, 3 * 32 + 5, 7])
    values = values.reshape(-1)[: 64 * 256 * 256].reshape(1, 64, 256, 256)
    reg2rg, argus = RECIPES["reg2rg"].published(values), RECIPES["argus"].published(values)
    assert reg2rg[0, 9, 11, 5] == reg2rg[2, 9, 11, 5] == values[0, 5, 9, 11]
    assert argus[0, 9, 11, 5] == values[0, 5, 11, 9]
    with pytest.raises(ValueError, match=r"are not the contiguous \(1, 64, 256, 256\) of argus"):
        RECIPES["argus"].published(values[:, :32])
    with pytest.raises(ValueError, match="are not the contiguous"):
        RECIPES["argus"].published(values.transpose(0, 1, 3, 2))


def test_resampling_takes_voxel_centres_and_clips_before_it() -> None:
    # Two voxels of 2 mm become four of 1 mm; clipped first, 3000 counts as 400.
    recipe = line(6, Window(-1000.0, 400.0), spacing_mm=(1.0, 1.0, 1.0), fit="crop_or_pad")
    scan = volume([[[-1000, 3000]]], (1.0, 1.0, 2.0))
    np.testing.assert_allclose(apply(recipe, scan)[0, 0, 0], [0, 0, 0.25, 0.75, 1, 0], atol=1e-6)
    # Clipped afterwards, the second of the four is 3/4 of -1000 and 1/4 of 3000.
    later = apply(replace(recipe, clip="after"), scan)[0, 0, 0]
    np.testing.assert_allclose(later, [0, 0, 1000 / 1400, 1, 1, 0], atol=1e-6)


def test_a_longer_axis_is_cropped_about_its_centre() -> None:
    recipe = line(2, Window(0.0, 10.0), fit="crop_or_pad")
    np.testing.assert_allclose(apply(recipe, volume([[[1, 2, 3, 4, 5]]]))[0, 0, 0], [0.2, 0.3], atol=1e-6)


def test_a_stretched_volume_fills_the_size_whatever_its_spacing() -> None:
    voxels = noise((7, 9, 11))
    recipe = Recipe(name="stretched", size=(5, 6, 8), intensity=Window(-1000.0, 1000.0), fit="stretch")
    grid = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip((5, 6, 8), (7, 9, 11), strict=True)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"))
    expected = map_coordinates(voxels.clip(-1000, 1000).astype(float), points, order=1, mode="nearest") / 1000
    for spacing in ((1.0, 1.0, 1.0), (5.0, 0.5, 3.0)):
        np.testing.assert_allclose(apply(recipe, Volume(voxels, spacing))[0], expected, atol=1e-6)


def test_both_published_resamplings_are_made() -> None:
    # Eight voxels of 1 mm become two of 4 mm, between voxels 1 and 2 and between 5 and 6, and these become three.
    recipe = line(3, Window(0.0, 10.0), spacing_mm=(1.0, 1.0, 4.0), fit="stretch")
    scan = volume([[[9, 1, 3, 9, 9, 5, 7, 9]]])
    np.testing.assert_allclose(apply(recipe, scan)[0, 0, 0], [0.2, 0.4, 0.6], atol=1e-6)


def test_area_takes_the_mean_of_all_voxels_that_it_touches() -> None:
    recipe = line(2, Window(0.0, 10.0), fit="stretch", interpolation="area")
    np.testing.assert_allclose(apply(recipe, volume([[[1, 2, 6, 8, 9]]]))[0, 0, 0], [0.3, 23 / 30], atol=1e-6)


def test_keeping_the_aspect_pads_the_far_ends_and_only_reduces_the_depth() -> None:
    recipe = Recipe(
        name="aspect",
        size=(3, 4, 4),
        intensity=Window(0.0, 10.0),
        value_range=(0.0, 1.0),
        fit="keep_aspect",
        interpolation="linear_align_corners",
    )
    result = apply(recipe, volume([[[1, 3], [5, 7], [1, 3], [5, 7]], [[8] * 2] * 4]))[0]
    np.testing.assert_allclose(result[0], [[0.1, 0.3, 0, 0], [0.5, 0.7, 0, 0]] * 2, atol=1e-6)
    np.testing.assert_allclose(result[1], [[0.8, 0.8, 0, 0]] * 4, atol=1e-6)
    assert (result[2] == 0).all()
    # Five slices become three, the outermost in place; the lone column is enlarged with the rows.
    deep = apply(recipe, volume([[[slices]] * 2 for slices in (0, 2, 4, 8, 10)]))[0]
    np.testing.assert_allclose(deep[:, :, :2], np.broadcast_to([[[0.0]], [[0.4]], [[1.0]]], (3, 4, 2)), atol=1e-6)
    assert (deep[:, :, 2:] == 0).all()


def test_the_foreground_is_the_box_of_what_lies_above_the_low_end() -> None:
    recipe = line(2, Window(0.0, 10.0), crop_foreground=True, fit="stretch")
    voxels = np.full((4, 5, 6), -3, np.int16)
    voxels[2, 3, 1], voxels[2, 3, 4] = 2, 8
    result = apply(replace(recipe, interpolation="linear_align_corners"), Volume(voxels, (1.0, 1.0, 1.0)))
    np.testing.assert_allclose(result, [[[[0.2, 0.8]]]], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_percentiles_are_those_of_the_whole_volume(dtype: type) -> None:
    voxels = np.random.default_rng(5).normal(-300, 700, (9, 8, 7)).astype(np.int16).astype(dtype)
    recipe = Recipe(
        name="whole", size=(9, 8, 7), intensity=Percentiles(0.5, 99.5), value_range=(0.0, 1.0), fit="stretch"
    )
    low, high = np.percentile(voxels.astype(np.float64), (0.5, 99.5))
    expected = ((voxels - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(apply(recipe, Volume(voxels, (1.0, 1.0, 1.0)))[0], expected, atol=1e-6)
    extremes = apply(replace(recipe, intensity=Percentiles(0, 100)), Volume(voxels, (1.0, 1.0, 1.0)))[0]
    expected = (voxels - voxels.min()) / np.ptp(voxels.astype(np.float64))
    np.testing.assert_allclose(extremes, expected, atol=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_a_scan_of_a_few_voxels_still_fills_the_input(name: str) -> None:
    recipe = RECIPES[name]
    low, high = recipe.value_range
    for shape in ((1, 1, 2), (2, 1, 1), (1, 3, 1)):
        voxels = np.linspace(-900, 900, 6).astype(np.int16)[: np.prod(shape)].reshape(shape)
        result = apply(recipe, Volume(voxels, (3.0, 0.8, 0.8)))
        assert result.shape == (1, *recipe.size)
        assert low <= result.min() <= result.max() <= high


@pytest.mark.parametrize("name", RECIPES)
def test_a_constant_volume_is_one_value_or_an_error_where_contrast_makes_the_range(name: str) -> None:
    constant = volume(np.full((20, 20, 20), -400), (10.0, 10.0, 10.0))
    if isinstance(RECIPES[name].intensity, Percentiles):
        with pytest.raises(VolumeError, match="all have the value -400; it is an empty image"):
            apply(RECIPES[name], constant)
        return
    result = apply(RECIPES[name], constant)
    middle = result[0][tuple(slice(length // 2 - 2, length // 2 + 2) for length in result.shape[1:])]
    expected = {"phantom": -100 / 700, "ctclip_v1": 0.0, "ctclip_v2": -0.4, "reg2rg": 0.0}
    np.testing.assert_allclose(middle, expected.get(name, 0.3), atol=1e-6)


def test_a_region_without_a_voxel_is_an_error() -> None:
    with pytest.raises(VolumeError, match="no voxel is above -1000 HU"):
        apply(RECIPES["reg2rg"], volume(np.full((4, 5, 6), -1024)))


@pytest.mark.parametrize("name", RECIPES)
def test_float_and_int_volumes_give_the_same_input_and_stay_as_they_are(name: str) -> None:
    voxels = noise((10, 20, 20))
    before = voxels.copy()
    voxels.flags.writeable = False
    ints, floats = Volume(voxels, (5.0, 9.0, 9.0)), Volume(voxels.astype(np.float32), (5.0, 9.0, 9.0))
    np.testing.assert_allclose(apply(RECIPES[name], ints), apply(RECIPES[name], floats), atol=1e-6)
    np.testing.assert_array_equal(ints.voxels, before)
    np.testing.assert_array_equal(floats.voxels, before)


def test_the_checksum_changes_with_every_setting() -> None:
    recipe = RECIPES["ctclip_v1"]
    others = [
        replace(recipe, size=(240, 480, 479)),
        replace(recipe, intensity=Window(-1000.0, 201.0)),
        replace(recipe, intensity=Percentiles(0.0, 99.0)),
        replace(recipe, value_range=(0.0, 1.0)),
        replace(recipe, crop_foreground=True),
        replace(recipe, clip="after"),
        replace(recipe, spacing_mm=None),
        replace(recipe, fit="stretch"),
        replace(recipe, interpolation="area"),
        replace(recipe, anti_aliasing=True),
        replace(recipe, in_plane="yx"),
        replace(recipe, layout="height_width_depth"),
        replace(recipe, frames=8),
        replace(recipe, channels=3),
        *(other for other in RECIPES.values() if other is not recipe),
    ]
    assert len({recipe.checksum, *(other.checksum for other in others)}) == 1 + len(others)


def test_impossible_recipes_and_spacings_are_refused() -> None:
    good = RECIPES["ctclip_v1"]
    with pytest.raises(ValueError, match="rise from low to high"):
        replace(good, intensity=Window(200.0, -1000.0))
    with pytest.raises(ValueError, match="percentiles -1 and 50 must lie between 0 and 100"):
        replace(good, intensity=Percentiles(-1.0, 50.0))
    with pytest.raises(ValueError, match="must be positive"):
        replace(good, size=(0, 1, 1))
    with pytest.raises(ValueError, match="7 frames must divide the depth 240"):
        replace(good, frames=7)
    with pytest.raises(ValueError, match="3 channels need one frame"):
        replace(good, frames=8, channels=3)
    with pytest.raises(VolumeError, match="spacing in the header is wrong"):
        apply(good, Volume(np.zeros((2, 400, 400), np.int16), (1.0, 40.0, 40.0)))


@pytest.mark.skipif(not (SHARED / "ct").is_dir(), reason=f"no real CTs at {SHARED}")
def test_a_real_ct_keeps_its_lungs_where_the_mask_has_them() -> None:
    name = "lidc_idri_0314_ct_1p5mm"
    ct = read_volume(SHARED / "ct" / f"{name}.nii.gz")
    lung = read_volume(SHARED / "masks" / f"{name}_lungmask_LR.nii.gz")
    image = apply(RECIPES["phantom"], ct)[0]
    binary = replace(RECIPES["phantom"], intensity=Window(0.0, 1.0), value_range=(0.0, 1.0))
    assert (image[apply(binary, lung)[0] > 0.99] * 700 - 300).mean() < -700
    assert nibabel.load(SHARED / "ct" / f"{name}.nii.gz").shape == ct.voxels.shape[::-1]
