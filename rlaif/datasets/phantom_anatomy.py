"""The normal chest of the phantom: body, lungs, heart, great vessels, airways, bones and upper abdomen."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np

from rlaif.datasets.phantom_shapes import Array, Canvas, Grid, Point, around, capsule, ellipsoid, soft

PatientSide = Literal["left", "right"]
SIDES: tuple[PatientSide, PatientSide] = ("right", "left")

AIR_HU, FAT_HU, MUSCLE_HU, BLOOD_HU, LIVER_HU, SPLEEN_HU = -1000.0, -100.0, 50.0, 45.0, 60.0, 50.0
RIB_HU, VERTEBRA_HU, MEDIASTINUM_HU = 550.0, 300.0, -80.0
MUSCLE_MM, PLEURA_MM = 12.0, 5.0


@dataclass(frozen=True)
class Anatomy:
    """The measures of one patient's chest, in mm of the patient's frame (HU for `lung_hu`)."""

    cage_width: float
    cage_depth: float
    apex: float
    dome_right: float
    dome_left: float
    fat: float
    heart_centre: Point
    heart_scale: float
    aorta_radius: float
    carina: float
    lung_hu: float
    rib_phase: float

    def with_heart(self, scale: float) -> "Anatomy":
        """The same patient with a heart larger by a factor."""
        return replace(self, heart_scale=self.heart_scale * scale)

    @property
    def heart_radii(self) -> Point:
        """The heart's half axes in mm, before its turn towards the left."""
        return 52.0 * self.heart_scale, 39.0 * self.heart_scale, 43.0 * self.heart_scale

    def hilum(self, side: PatientSide) -> Point:
        """The middle of a hilum."""
        return sign_of(side) * 36.0, -8.0, self.carina - 22.0

    @property
    def aorta_path(self) -> tuple[Point, ...]:
        """The middle line of the aorta from its root over the arch to the diaphragm."""
        arch = self.carina + 27.0
        return (
            (6.0, 20.0, self.carina - 35),
            (8.0, 24.0, arch - 14),
            (-6.0, 4.0, arch),
            (-20.0, -28.0, arch - 6),
            (-23.0, -42.0, arch - 26),
            (-18.0, -44.0, -170.0),
        )

    @property
    def spine_y(self) -> float:
        """Where the middle of the vertebral bodies lies from front to back."""
        return -(self.cage_depth - 24.0)


@dataclass(frozen=True)
class Structures:
    """The drawn structures as coverage from 0 to 1, each [depth, height, width], for findings and region masks."""

    lungs: dict[PatientSide, Array]
    heart: Array
    mediastinum: Array
    abdomen: Array
    bone: Array
    cavity: dict[PatientSide, Array]


def sign_of(side: PatientSide) -> float:
    """The sign of x on a side: the patient's right is positive."""
    return 1.0 if side == "right" else -1.0


def sample_anatomy(rng: np.random.Generator) -> Anatomy:
    """A random patient: size, habitus, diaphragm height, heart size and lung density within the normal range."""
    dome = rng.uniform(-76, -60)
    return Anatomy(
        cage_width=rng.uniform(112, 125),
        cage_depth=rng.uniform(82, 92),
        apex=rng.uniform(124, 138),
        dome_right=dome,
        dome_left=dome - rng.uniform(8, 16),
        fat=rng.uniform(8, 24),
        heart_centre=(-17.0 + rng.uniform(-4, 4), 20.0 + rng.uniform(-3, 3), -36.0 + rng.uniform(-4, 4)),
        heart_scale=rng.uniform(0.92, 1.04),
        aorta_radius=rng.uniform(11.5, 14.0),
        carina=rng.uniform(32, 42),
        lung_hu=rng.uniform(-870, -830),
        rib_phase=rng.uniform(0, 2 * np.pi),
    )


def heart_distance(anatomy: Anatomy, x: Array, y: Array, z: Array) -> Array:
    """Approximate signed distance (mm) to the heart, its long axis turned to the left and forward."""
    cx, cy, cz = anatomy.heart_centre
    cosine, sine = np.float32(np.cos(0.5)), np.float32(np.sin(0.5))
    dx, dy = x - np.float32(cx), y - np.float32(cy)
    turned_x, turned_y = cosine * dx - sine * dy, sine * dx + cosine * dy
    return ellipsoid(turned_x, turned_y, z - np.float32(cz), (0, 0, 0), anatomy.heart_radii)


def aorta_distance(anatomy: Anatomy, x: Array, y: Array, z: Array) -> Array:
    """Signed distance (mm) to the aorta's outer wall."""
    path = anatomy.aorta_path
    pieces = [capsule(x, y, z, a, b, anatomy.aorta_radius) for a, b in pairwise(path)]
    return np.asarray(np.minimum.reduce(pieces))


def cage_distance(anatomy: Anatomy, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Distance (mm) along the radius to the rib cage's inner wall, with the radius and its ratio to the wall."""
    radius = np.sqrt(x * x + y * y)
    ratio = np.sqrt((x / np.float32(anatomy.cage_width)) ** 2 + (y / np.float32(anatomy.cage_depth)) ** 2)
    ratio = np.maximum(ratio, np.float32(1e-4))
    return np.asarray(radius - radius / ratio), radius, ratio


def dome_height(anatomy: Anatomy, x: Array, y: Array) -> Array:
    """The height (mm) of the diaphragm, lower towards the costophrenic recesses."""
    depth = (y - np.float32(8.0)) ** 2
    right = np.float32(anatomy.dome_right) - ((x - np.float32(55)) ** 2 + depth) * np.float32(1 / 115)
    left = np.float32(anatomy.dome_left) - ((x + np.float32(55)) ** 2 + depth) * np.float32(1 / 115)
    return np.asarray(np.maximum(right, left))


def chest_distance(anatomy: Anatomy, x: Array, y: Array, z: Array) -> Array:
    """Approximate signed distance (mm) to the inside of the chest, above the diaphragm and below the apices."""
    _, radius, ratio = cage_distance(anatomy, x, y)
    height = np.clip(z * np.float32(1 / anatomy.apex), 0, 1)
    taper = np.sqrt(1 - height * height * height)
    wall = radius * (1 - taper / ratio) + np.float32(PLEURA_MM)
    ends = np.maximum(dome_height(anatomy, x, y) - z, z - np.float32(anatomy.apex))
    return np.asarray(np.maximum(wall, ends))


def _medial_distance(side: PatientSide, x: Array, y: Array) -> Array:
    """Signed distance (mm) to a side's part of the chest, the mediastinum's surface being the limit."""
    return np.asarray(np.float32(23) - 9 * np.clip(y * np.float32(1 / 50), 0, 1) - np.float32(sign_of(side)) * x)


def lung_distance(anatomy: Anatomy, side: PatientSide, x: Array, y: Array, z: Array) -> Array:
    """Approximate signed distance (mm) to a pleural cavity, the heart and aorta not yet taken out."""
    return np.asarray(np.maximum(chest_distance(anatomy, x, y, z), _medial_distance(side, x, y)))


def air_space_distance(anatomy: Anatomy, side: PatientSide, x: Array, y: Array, z: Array) -> Array:
    """Approximate signed distance (mm) to a lung with the heart and aorta taken out."""
    cavity = lung_distance(anatomy, side, x, y, z)
    return np.asarray(
        np.maximum(cavity, np.maximum(-heart_distance(anatomy, x, y, z), -aorta_distance(anatomy, x, y, z)))
    )


def draw_anatomy(grid: Grid, anatomy: Anatomy, rng: np.random.Generator) -> tuple[Canvas, Structures, list[Array]]:
    """Draw a normal chest: the canvas in HU, its structures, and the patient coordinates (x, y, z) of the voxels."""
    x, y, z = coordinates = grid.coordinates()
    edge = float(np.cbrt(np.prod(grid.spacing)))
    canvas = Canvas(grid, np.full(grid.shape, AIR_HU, dtype=np.float32))
    cage, _, _ = cage_distance(anatomy, x, y)
    canvas.blend(soft(cage - np.float32(MUSCLE_MM + anatomy.fat), edge), FAT_HU)
    canvas.blend(soft(cage - np.float32(MUSCLE_MM), edge), MUSCLE_HU)
    above = soft(dome_height(anatomy, x, y) - z, edge)
    inside = soft(cage + np.float32(4), edge)
    mediastinum = inside * above * soft(z - np.float32(anatomy.apex - 10), edge)
    canvas.blend(mediastinum, MEDIASTINUM_HU)
    abdomen = inside * (1 - above)
    right_part = soft(np.float32(-20) - x, 20.0)
    canvas.blend(abdomen, SPLEEN_HU + right_part * np.float32(LIVER_HU - SPLEEN_HU))
    cavity: dict[PatientSide, Array] = {}
    chest = chest_distance(anatomy, x, y, z)
    for side in SIDES:
        cavity[side] = soft(np.maximum(chest, _medial_distance(side, x, y)), edge)
        canvas.blend(cavity[side], np.float32(anatomy.lung_hu) - y * np.float32(0.35))
    heart = soft(heart_distance(anatomy, x, y, z), edge) * above
    _draw_vessels(canvas, anatomy, rng, cavity)
    bone = _draw_bones(canvas, anatomy, cage, coordinates, edge)
    canvas.blend(heart, BLOOD_HU)
    aorta = _draw_aorta(canvas, anatomy)
    _draw_airways(canvas, anatomy)
    _draw_stomach(canvas, anatomy)
    lungs = {side: cavity[side] * (1 - heart) * (1 - aorta) for side in SIDES}
    rest = mediastinum * (1 - cavity["left"]) * (1 - cavity["right"]) * (1 - heart)
    return canvas, Structures(lungs, heart, rest, abdomen, bone, cavity), coordinates


def _draw_vessels(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator, cavity: dict[PatientSide, Array]) -> None:
    """Pulmonary vessels that run from each hilum towards the periphery."""
    for side in SIDES:
        hilum = anatomy.hilum(side)
        canvas.ellipsoid(hilum, (8.0, 10.0, 13.0), BLOOD_HU)
        for height, depth in ((55, 15), (40, -35), (-20, 35), (-35, -40), (-50, -20)):
            reach = sign_of(side) * rng.uniform(30, 55)
            stop = (hilum[0] + reach, hilum[1] + depth + rng.uniform(-12, 12), hilum[2] + height + rng.uniform(-12, 12))
            canvas.tube(hilum, stop, rng.uniform(1.6, 2.6), BLOOD_HU, within=cavity[side])


def _draw_bones(canvas: Canvas, anatomy: Anatomy, cage: Array, coordinates: list[Array], edge: float) -> Array:
    """Ribs that fall towards the front, the spine and the sternum; returns the bones' coverage."""
    _, y, z = coordinates
    ring = soft(np.abs(cage - np.float32(3.5)) - np.float32(3.5), edge)
    phase = (z + y * np.float32(0.35)) * np.float32(2 * np.pi / 26) + np.float32(anatomy.rib_phase)
    ribs = ring * np.clip(np.cos(phase) * np.float32(1.5) + np.float32(0.2), 0, 1)
    ribs *= soft(z - np.float32(anatomy.apex), edge) * soft(np.float32(-140) - z, edge)
    canvas.blend(ribs, RIB_HU)
    before = canvas.volume.copy()
    spine = anatomy.spine_y
    canvas.solid(
        (-22, spine - 20, -200),
        (22, spine + 20, 200),
        lambda x, y, z: ellipsoid(x, y, z * 0, (0, spine, 0), (19, 17, 1e3)),
        VERTEBRA_HU,
    )
    canvas.tube((0.0, spine - 32, -200.0), (0.0, spine - 32, 200.0), 5.0, RIB_HU)
    front = anatomy.cage_depth + 4
    canvas.solid(
        (-18, front - 8, -50),
        (18, front + 8, 75),
        lambda x, y, z: np.maximum(ellipsoid(x, y, z * 0, (0, front, 0), (16, 6, 1e3)), np.abs(z - 12) - 60),
        RIB_HU,
    )
    return np.asarray(np.maximum(ribs, np.clip((canvas.volume - before) * np.float32(1 / 100), 0, 1)))


def _draw_aorta(canvas: Canvas, anatomy: Anatomy) -> Array:
    """The aorta and the superior vena cava; returns the aorta's coverage."""
    coverage = np.zeros(canvas.grid.shape, dtype=np.float32)
    radius = anatomy.aorta_radius
    for start, stop in pairwise(anatomy.aorta_path):
        window = canvas.grid.window(*around((start, stop), radius))
        if window is not None:
            piece = canvas.grid.coverage(window, partial(capsule, start=start, stop=stop, radius=radius))
            np.maximum(coverage[window], piece, out=coverage[window])
    canvas.blend(coverage, BLOOD_HU)
    canvas.tube((22.0, 16.0, anatomy.carina - 40), (20.0, 12.0, 150.0), 8.0, BLOOD_HU)
    return coverage


def airways(anatomy: Anatomy) -> tuple[tuple[Point, Point, float], ...]:
    """The trachea and the main bronchi as tubes: start, stop and the lumen's radius in mm."""
    carina = (0.0, -10.0, anatomy.carina)
    trachea = ((0.0, -2.0, 200.0), carina, 8.5)
    return (trachea, *((carina, anatomy.hilum(side), 6.0) for side in SIDES))


def _draw_airways(canvas: Canvas, anatomy: Anatomy) -> None:
    for start, stop, radius in airways(anatomy):
        canvas.tube(start, stop, radius + 2.0, MUSCLE_HU)
    for start, stop, radius in airways(anatomy):
        canvas.tube(start, stop, radius, AIR_HU)


def _draw_stomach(canvas: Canvas, anatomy: Anatomy) -> None:
    canvas.ellipsoid((-52.0, 12.0, anatomy.dome_left - 32), (22.0, 20.0, 16.0), -950.0)
