"""Region masks of the phantom, by the names that RadGenome-ChestCT gives its regions."""

import numpy as np

from rlaif.datasets.phantom_anatomy import SIDES, Anatomy, Structures, airways, lung_distance
from rlaif.datasets.phantom_shapes import Array, Grid, capsule, soft

ESOPHAGUS_MM, PLEURA_RIND_MM = 9.0, 7.0


def region_masks(grid: Grid, anatomy: Anatomy, structures: Structures) -> dict[str, Array]:
    """The coverage from 0 to 1 of each region, [depth, height, width] float32."""
    x, y, z = grid.coordinates()
    edge = float(np.cbrt(np.prod(grid.spacing)))
    tubes = [capsule(x, y, z, start, stop, radius + 2.0) for start, stop, radius in airways(anatomy)]
    esophagus = capsule(x, y, z, (-2.0, -24.0, -80.0), (0.0, -22.0, 200.0), ESOPHAGUS_MM)
    cores = [soft(lung_distance(anatomy, side, x, y, z) + np.float32(PLEURA_RIND_MM), edge) for side in SIDES]
    cavities = structures.cavity["right"] + structures.cavity["left"]
    return {
        "abdomen": structures.abdomen,
        "bone": structures.bone,
        "esophagus": soft(esophagus, edge),
        "heart": structures.heart,
        "lung": structures.lungs["right"] + structures.lungs["left"],
        "mediastinum": structures.mediastinum,
        "pleura": np.clip(cavities - cores[0] - cores[1], 0, 1) * np.float32(2),
        "trachea and bronchie": soft(np.minimum.reduce(tubes), edge),
    }
