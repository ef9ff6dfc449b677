"""How far each recipe is from its system's published steps on every real CT: prints a table, then one line of JSON.

python benchmarks/parity.py [folder of CTs]
"""

import json
import os
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from published_steps import STEPS

from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.resampling import apply
from rlaif.volumes.volume import Volume, read_volume

SHARED = Path(os.environ.get("RLAIF_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
# What a recipe may differ from the published steps, as a share of its value range.
TOLERANCE = 1e-3
_SCANS = (".nii.gz", ".nrrd", ".tar", ".tar.xz")


def difference(name: str, volume: Volume) -> float:
    """The largest difference of a recipe from its published steps, as a share of the value range."""
    recipe = RECIPES[name]
    low, high = recipe.value_range
    expected = STEPS[name](volume.voxels.transpose(2, 1, 0).astype(np.float64), volume.spacing_mm[::-1])
    result = recipe.published(apply(recipe, volume))
    if result.shape != expected.shape:
        raise ValueError(f"{name} gives shape {result.shape}, the published steps give {expected.shape}")
    return float(np.abs(result - expected).max()) / (high - low)


def real_cts(folder: Path) -> list[Path]:
    """The scans of a folder: NIfTI and NRRD files, and archives of one DICOM series each."""
    return sorted(path for path in folder.iterdir() if path.name.endswith(_SCANS))


def read(path: Path) -> Volume:
    """A scan of `real_cts`; an archive is unpacked first."""
    if ".tar" not in path.name:
        return read_volume(path)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
        # The series lies in the archive itself or in its one folder.
        inner = [child for child in Path(folder).iterdir() if child.is_dir()]
        return read_volume(inner[0] if inner else Path(folder))


def rows(folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Each scan of the folder with every recipe's difference."""
    for path in real_cts(folder):
        volume = read(path)
        yield path.name, {name: difference(name, volume) for name in RECIPES}


def main() -> int:
    warnings.filterwarnings("ignore", category=UserWarning)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED / "ct"
    print(f"| scan | {' | '.join(RECIPES)} |")
    print(f"| --- |{' ---: |' * len(RECIPES)}")
    largest = dict.fromkeys(RECIPES, 0.0)
    for scan, differences in rows(folder):
        print(f"| {scan} | {' | '.join(f'{value:.1e}' for value in differences.values())} |", flush=True)
        largest = {name: max(largest[name], value) for name, value in differences.items()}
    print(json.dumps(largest))
    return 0 if max(largest.values()) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
