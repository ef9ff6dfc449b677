"""Recipes against each system's published steps, on a synthetic volume and on every real CT."""

import numpy as np
import pytest
from parity import SHARED, TOLERANCE, difference, read, real_cts

from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.volume import Volume, read_volume

FOLDER = SHARED / "ct"
SCANS = real_cts(FOLDER) if FOLDER.is_dir() else []
needs_shared = pytest.mark.skipif(not SCANS, reason=f"no real CTs at {FOLDER}")


def synthetic(shape: tuple[int, int, int]) -> np.ndarray:
    """Noise about a body on air, so that there is something to crop away."""
    random = np.random.default_rng(3)
    voxels = np.full(shape, -1024, np.int16)
    voxels[2:-1, 4:-3, 1:-2] = random.integers(-1500, 1500, (shape[0] - 3, shape[1] - 7, shape[2] - 3))
    return voxels


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_equals_its_published_steps_on_noise(name: str) -> None:
    # Noise shows the smallest shift of a grid; MONAI takes its places in single precision for mu2.
    limit = 1e-4 if name == "mu2" else 1e-5
    # Shorter than the field along z, longer along y.
    assert difference(name, Volume(synthetic((20, 60, 40)), (9.0, 7.5, 3.0))) < limit
    # More slices than any recipe has, and slices larger than most.
    assert difference(name, Volume(synthetic((300, 333, 70)), (1.0, 0.7, 2.0))) < limit


@pytest.fixture(scope="module", params=SCANS, ids=lambda path: path.name)
def real_ct(request: pytest.FixtureRequest) -> Volume:
    return read(request.param)


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_equals_its_published_steps_on_a_real_ct(real_ct: Volume, name: str) -> None:
    assert difference(name, real_ct) <= TOLERANCE


@needs_shared
def test_a_region_equals_its_published_steps() -> None:
    # Reg2RG's crop of a region: HU inside its mask and -1024 outside, then the steps of the whole scan.
    name = "lidc_idri_0314_ct_1p5mm"
    scan = read_volume(FOLDER / f"{name}.nii.gz")
    right_lung = read_volume(SHARED / "masks" / f"{name}_lungmask_LR.nii.gz").voxels == 1
    region = np.where(right_lung, scan.voxels, np.int16(-1024))
    assert difference("reg2rg", Volume(region, scan.spacing_mm)) <= TOLERANCE
