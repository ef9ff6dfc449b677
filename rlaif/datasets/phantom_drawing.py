"""Drawing each of the 18 findings into a phantom chest, bold enough to be seen in 7 mm pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rlaif.datasets.phantom_anatomy import (
    AIR_HU,
    BLOOD_HU,
    FAT_HU,
    MUSCLE_HU,
    Anatomy,
    PatientSide,
    Structures,
    aorta_distance,
    draw_anatomy,
    heart_distance,
    lung_distance,
    sign_of,
)
from rlaif.datasets.phantom_findings import FINDING_NAMES, HEART_SCALES, PlacedFinding
from rlaif.datasets.phantom_shapes import Array, Canvas, Grid, Point, ellipsoid, soft, waves

CALCIUM_HU, METAL_HU, FLUID_HU, CONSOLIDATION_HU, GROUND_GLASS_HU = 1300.0, 3000.0, 8.0, 35.0, -520.0
EMPHYSEMA_HU, TRAPPED_AIR_HU, PERFUSED_HU, SEPTUM_HU = -985.0, -940.0, -690.0, -150.0
NODULE_HU, NODE_HU = 50.0, 90.0
EFFUSION_MM = (32.0, 54.0, 78.0)
PERICARDIAL_MM = (9.0, 16.0, 25.0)


@dataclass(frozen=True)
class Scene:
    """A chest being drawn, with all that a finding needs to draw itself."""

    canvas: Canvas
    anatomy: Anatomy
    structures: Structures
    coordinates: list[Array]
    edge: float
    rng: np.random.Generator

    def filled(self, side: PatientSide) -> Array:
        """The coverage of a lung for what replaces it up to its wall, without a rim of air in half-filled voxels."""
        return np.minimum(self.structures.lungs[side] * 4, np.float32(1))

    def both_lungs(self, sides: Sequence[PatientSide] = ("right", "left")) -> Array:
        """The coverage [depth, height, width] of the lungs of some sides."""
        lungs = [self.structures.lungs[side] for side in sides]
        return lungs[0] if len(lungs) == 1 else lungs[0] + lungs[1]


def draw_chest(
    grid: Grid, anatomy: Anatomy, findings: Sequence[PlacedFinding], seed: tuple[int, ...]
) -> tuple[Array, Structures]:
    """Draw a patient without noise: HU [depth, height, width] float32, and the structures.

    `seed` fixes the details of each finding by itself, so that leaving one out changes nothing else.
    """
    for finding in findings:
        if finding.name == "cardiomegaly":
            anatomy = anatomy.with_heart(HEART_SCALES[finding.grade])
    canvas, structures, coordinates = draw_anatomy(grid, anatomy, np.random.default_rng((*seed, 100)))
    edge = float(np.cbrt(np.prod(grid.spacing)))
    for finding in sorted(findings, key=lambda one: tuple(DRAWINGS).index(one.name)):
        rng = np.random.default_rng((*seed, FINDING_NAMES.index(finding.name)))
        DRAWINGS[finding.name](Scene(canvas, anatomy, structures, coordinates, edge, rng), finding)
    return canvas.volume, structures


def _emphysema(scene: Scene, finding: PlacedFinding) -> None:
    x, y, z = scene.coordinates
    pattern = waves(x, y, z, 52.0, scene.rng)
    threshold = np.float32((0.18, 0.0, -0.22)[finding.grade]) + np.clip((30 - z) * np.float32(0.008), 0, 1)
    holes = np.clip((pattern - threshold) * 5, 0, 1) * scene.both_lungs()
    scene.canvas.blend(holes, EMPHYSEMA_HU)


def _mosaic(scene: Scene, finding: PlacedFinding) -> None:
    x, y, z = scene.coordinates
    share: Array = np.clip(waves(x, y, z, 76.0, scene.rng) * 6 + np.float32(0.5), 0, 1)
    scene.canvas.blend(scene.both_lungs() * np.float32(0.9), TRAPPED_AIR_HU + share * (PERFUSED_HU - TRAPPED_AIR_HU))


def _septal(scene: Scene, finding: PlacedFinding) -> None:
    x, y, z = scene.coordinates
    depth = np.float32((22.0, 30.0, 40.0)[finding.grade])
    strength = np.float32((0.55, 0.75, 0.95)[finding.grade])
    inner = np.minimum(*(lung_distance(scene.anatomy, side, x, y, z) for side in ("right", "left")))
    rind = soft(-depth - inner, scene.edge) * scene.both_lungs()
    angle = np.arctan2(y, x)
    lines = np.maximum(np.cos(angle * 12), np.cos(z * np.float32(2 * np.pi / 40)) - np.float32(0.05))
    scene.canvas.blend(rind * np.clip(lines * 3 - 2, 0, 1) * strength, SEPTUM_HU)


def _pleural_effusion(scene: Scene, finding: PlacedFinding) -> None:
    _, y, z = scene.coordinates
    back = np.float32(EFFUSION_MM[finding.grade] - scene.anatomy.cage_depth)
    level = back - np.clip(z + 70, 0, 300) * np.float32(0.42)
    fluid = soft(y - level, scene.edge)
    for side in finding.sides:
        scene.canvas.blend(fluid * scene.filled(side), FLUID_HU)


def _consolidation(scene: Scene, finding: PlacedFinding) -> None:
    _blob(scene, finding, CONSOLIDATION_HU, 1.0)


def _opacity(scene: Scene, finding: PlacedFinding) -> None:
    _blob(scene, finding, GROUND_GLASS_HU, 0.95)


def _blob(scene: Scene, finding: PlacedFinding, hu: float, strength: float) -> None:
    """An irregular region of one lung."""
    centre, radius = finding.centre, finding.radius
    low, high = _box(centre, radius * 1.4)
    phases = scene.rng.integers(2**32)

    def distance(x: Array, y: Array, z: Array) -> Array:
        rough = waves(x, y, z, 34.0, np.random.default_rng(phases)) * np.float32(radius * 0.35)
        return ellipsoid(x, y, z, centre, (radius, radius, radius * 0.9)) + rough

    side = finding.sides[0]
    scene.canvas.solid(low, high, distance, hu, within=scene.filled(side), strength=strength)


def _atelectasis(scene: Scene, finding: PlacedFinding) -> None:
    """Two thick plates that run outwards and down."""
    centre, side = np.asarray(finding.centre), finding.sides[0]
    outwards = np.array([sign_of(side) * 0.85, 0.1, -0.5])
    normal = np.array([sign_of(side) * 0.5, 0.0, 0.85])
    normal /= np.linalg.norm(normal)
    for offset, length in ((0.0, 40.0), (22.0, 28.0)):
        middle = (centre + normal * offset).astype(np.float32)

        def distance(x: Array, y: Array, z: Array, middle: Array = middle, length: float = length) -> Array:
            dx, dy, dz = x - middle[0], y - middle[1], z - middle[2]
            along = dx * np.float32(outwards[0]) + dy * np.float32(outwards[1]) + dz * np.float32(outwards[2])
            across = dx * np.float32(normal[0]) + dy * np.float32(normal[1]) + dz * np.float32(normal[2])
            plate = np.maximum(np.abs(across) - np.float32(5.0), np.abs(along) - np.float32(length))
            return np.asarray(np.maximum(plate, np.abs(dy) - np.float32(24.0)))

        low, high = _box((float(middle[0]), float(middle[1]), float(middle[2])), length + 8)
        scene.canvas.solid(low, high, distance, MUSCLE_HU, within=scene.structures.lungs[side])


def _bronchiectasis(scene: Scene, finding: PlacedFinding) -> None:
    """A cluster of wide, thick-walled airways."""
    x, y, z = finding.centre
    tubes = []
    for turn in range(5):
        angle = 2 * np.pi * turn / 5 + scene.rng.uniform(0, 0.5)
        sx, sy = x + 19 * float(np.cos(angle)), y + 19 * float(np.sin(angle))
        tubes.append(((sx, sy, z - 24.0), (sx * 0.96, sy, z + 24.0)))
    lungs = scene.structures.lungs[finding.sides[0]]
    for start, stop in tubes:
        scene.canvas.tube(start, stop, 11.0, MUSCLE_HU, within=lungs)
    for start, stop in tubes:
        scene.canvas.tube(start, stop, 6.5, AIR_HU, within=lungs)


def _peribronchial(scene: Scene, finding: PlacedFinding) -> None:
    """Thick walls about open central airways."""
    for side in finding.sides:
        hilum, lungs = scene.anatomy.hilum(side), scene.structures.cavity[side]
        branches = []
        for dx, dy, dz in ((30.0, 18.0, 40.0), (36.0, 26.0, -14.0), (26.0, -24.0, -38.0)):
            branches.append((hilum, (hilum[0] + sign_of(side) * dx, hilum[1] + dy, hilum[2] + dz)))
        for start, stop in branches:
            scene.canvas.tube(start, stop, 10.0, BLOOD_HU, within=lungs)
        for start, stop in branches:
            scene.canvas.tube(start, stop, 4.5, AIR_HU)


def _fibrosis(scene: Scene, finding: PlacedFinding) -> None:
    """Streaks that run down from a thick pleural cap."""
    for side in finding.sides:
        lungs = scene.filled(side)
        top = (sign_of(side) * 50.0, -8.0, scene.anatomy.apex - 12)
        scene.canvas.ellipsoid((top[0], top[1], top[2] + 2), (38.0, 36.0, 17.0), MUSCLE_HU, within=lungs)
        for spread, depth in ((-18, 24), (-6, -22), (6, 12), (18, -16), (26, 22)):
            length = scene.rng.uniform(36, 52)
            start = (top[0] + spread * 0.5, top[1] + depth * 0.5, top[2])
            stop = (top[0] + spread * 1.2, top[1] + depth * 1.4, top[2] - length)
            scene.canvas.tube(start, stop, 4.5, MUSCLE_HU, within=lungs)


def _nodule(scene: Scene, finding: PlacedFinding) -> None:
    scene.canvas.ellipsoid(finding.centre, (finding.radius,) * 3, NODULE_HU)


def _nodes(scene: Scene, finding: PlacedFinding) -> None:
    x, y, z = centre = finding.centre
    radius, small = finding.radius, finding.radius * 0.85
    scene.canvas.ellipsoid(centre, (radius, radius, radius), NODE_HU)
    if finding.side is None:
        # Prevascular, paratracheal and subcarinal neighbours, which bulge from the mediastinum into the lungs.
        for dx, dy, dz in ((-42, 44, -6), (-4, 44, -2), (-2, 12, -24), (-20, -12, -40)):
            scene.canvas.ellipsoid((x + dx, y + dy, z + dz), (small, small, small), NODE_HU)


def _pericardial_effusion(scene: Scene, finding: PlacedFinding) -> None:
    """Fluid about the heart, parted from it by a thin line of fat."""
    x, y, z = scene.coordinates
    anatomy, thickness = scene.anatomy, PERICARDIAL_MM[finding.grade]
    outer = heart_distance(anatomy, x, y, z)
    chest = np.maximum.reduce([*scene.structures.cavity.values(), scene.structures.mediastinum])
    ring = np.clip(chest + scene.structures.heart, 0, 1)
    heart = soft(outer, scene.edge)
    scene.canvas.blend(soft(outer - np.float32(thickness + 5), scene.edge) * (1 - heart) * ring, FLUID_HU)
    scene.canvas.blend(soft(np.abs(outer - 2) - np.float32(3.0), scene.edge) * ring, FAT_HU)


def _cardiomegaly(scene: Scene, finding: PlacedFinding) -> None:
    """The heart is drawn larger with the anatomy."""


def _arterial_calcification(scene: Scene, finding: PlacedFinding) -> None:
    """Bright plaques in the wall of the arch and the descending aorta."""
    anatomy, radius = scene.anatomy, scene.anatomy.aorta_radius
    wall, phases = (3.5, 4.5, 5.5)[finding.grade], scene.rng.integers(2**32)
    threshold = np.float32((0.12, -0.05, -0.3)[finding.grade])

    def distance(x: Array, y: Array, z: Array) -> Array:
        rim = np.abs(aorta_distance(anatomy, x, y, z) + 1) - np.float32(wall / 2)
        gaps = (threshold - waves(x, y, z, 38.0, np.random.default_rng(phases))) * 20
        return np.asarray(np.maximum(rim, gaps))

    low = (-25 - radius - 4, -46 - radius - 4, -60.0)
    scene.canvas.solid(low, (26.0, 44.0, anatomy.carina + 45), distance, CALCIUM_HU)


def _coronary_calcification(scene: Scene, finding: PlacedFinding) -> None:
    """Bright spots along the front left of the heart."""
    anatomy = scene.anatomy
    cx, cy, cz = anatomy.heart_centre
    rx, ry, rz = anatomy.heart_radii
    for turn in np.linspace(1.15, -0.35, (3, 5, 8)[finding.grade]):
        cosine, sine = float(np.cos(turn)), float(np.sin(turn))
        x, y = cx - 0.35 * rx * cosine - 4, cy + ry * cosine * 0.98
        scene.canvas.ellipsoid((x, y, cz + rz * sine * 0.9), (6.5, 6.5, 7.0), CALCIUM_HU)


def _hiatal_hernia(scene: Scene, finding: PlacedFinding) -> None:
    x, y, z = centre = finding.centre
    radius = finding.radius
    scene.canvas.ellipsoid(centre, (radius, radius * 0.85, radius), MUSCLE_HU)
    pocket = radius * 0.62
    scene.canvas.ellipsoid((x, y + radius * 0.12, z + radius * 0.1), (pocket, pocket * 0.8, pocket), AIR_HU)


def _medical_material(scene: Scene, finding: PlacedFinding) -> None:
    """A pacemaker under the skin, with a lead through the superior vena cava to the heart."""
    centre = finding.centre
    scene.canvas.ellipsoid(centre, (finding.radius, 8.0, finding.radius), METAL_HU)
    subclavian, cava = (sign_of(finding.sides[0]) * 45.0, 30.0, 112.0), (21.0, 13.0, 98.0)
    path: tuple[Point, ...] = (centre, subclavian, cava, (20.0, 14.0, 0.0), (-24.0, 26.0, -50.0))
    for start, stop in pairwise(path):
        scene.canvas.tube(start, stop, 2.2, METAL_HU)


def _box(centre: Point, reach: float) -> tuple[Point, Point]:
    x, y, z = centre
    return (x - reach, y - reach, z - reach), (x + reach, y + reach, z + reach)


# In the order of drawing: diffuse changes of the lung, then what replaces lung, then what stands on its own.
DRAWINGS: dict[str, Callable[[Scene, PlacedFinding], None]] = {
    "cardiomegaly": _cardiomegaly,
    "emphysema": _emphysema,
    "mosaic attenuation pattern": _mosaic,
    "interlobular septal thickening": _septal,
    "pericardial effusion": _pericardial_effusion,
    "pulmonary fibrotic sequela": _fibrosis,
    "lung opacity": _opacity,
    "consolidation": _consolidation,
    "atelectasis": _atelectasis,
    "peribronchial thickening": _peribronchial,
    "bronchiectasis": _bronchiectasis,
    "pleural effusion": _pleural_effusion,
    "lung nodule": _nodule,
    "hiatal hernia": _hiatal_hernia,
    "lymphadenopathy": _nodes,
    "arterial wall calcification": _arterial_calcification,
    "coronary artery wall calcification": _coronary_calcification,
    "medical material": _medical_material,
}
