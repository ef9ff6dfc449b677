"""Drawing solids into a voxel grid in millimetres: poses, signed distances and partial volume.

Every function works in the patient's frame: x towards the patient's right, y anterior, z superior
(the RAS directions of NIfTI), in mm from the middle of the chest. Arrays are float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Point = tuple[float, float, float]
Axis = npt.NDArray[np.float64]
Distance = Callable[[Array, Array, Array], Array]

SUBSAMPLE_MM = 3.5
"""Small solids are sampled at least this finely and averaged, so that their volume is right in coarse voxels."""


def rotation_matrix(yaw: float, pitch: float, roll: float) -> npt.NDArray[np.float64]:
    """The rotation about z, then x, then y, by angles in radians, as a [3, 3] matrix."""
    cz, sz, cx, sx, cy, sy = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.asarray(about_y @ about_x @ about_z)


@dataclass(frozen=True)
class Grid:
    """Voxels [depth, height, width] over a posed patient; index order is superior, posterior, left.

    `spacing` is (z, y, x) in mm, `rotation` [3, 3] and `shift` (mm, RAS) take the patient's frame to the
    world: world = rotation @ patient + shift. The middle of the field is the world's origin.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    rotation: npt.NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    shift: Point = (0.0, 0.0, 0.0)

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """The NIfTI affine [4, 4] of the volume stored as (width, height, depth)."""
        dz, dy, dx = self.spacing
        depth, height, width = self.shape
        affine = np.diag([-dx, -dy, dz, 1.0])
        affine[:3, 3] = [(width - 1) / 2 * dx, (height - 1) / 2 * dy, -(depth - 1) / 2 * dz]
        return affine

    def to_world(self, point: Point) -> Point:
        """A point of the patient's frame in RAS world coordinates, in mm."""
        x, y, z = self.rotation @ np.asarray(point) + np.asarray(self.shift)
        return float(x), float(y), float(z)

    def _patient(
        self, z: npt.NDArray[np.float64], y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
    ) -> list[Array]:
        """Patient coordinates (x, y, z) at the world coordinates of three axes, each [len(z), len(y), len(x)]."""
        inverse = self.rotation.T
        origin = inverse @ np.asarray(self.shift)
        coordinates = []
        for row, offset in zip(inverse, origin, strict=True):
            part_z = (row[2] * z - offset).astype(np.float32)[:, None, None]
            part_y = (row[1] * y).astype(np.float32)[None, :, None]
            part_x = (row[0] * x).astype(np.float32)[None, None, :]
            coordinates.append((part_z + part_y) + part_x)
        return coordinates

    def _axis(self, axis: int, start: int, stop: int, factor: int) -> Axis:
        """World coordinates along an array axis from voxel `start` to `stop`, `factor` to a voxel."""
        size, spacing = self.shape[axis], self.spacing[axis]
        steps = (np.arange((stop - start) * factor) + 0.5) / factor - 0.5 + start
        return (steps - (size - 1) / 2) * spacing * (1.0 if axis == 0 else -1.0)

    def coordinates(self) -> list[Array]:
        """Patient coordinates (x, y, z) in mm of all voxel centres, each [depth, height, width]."""
        return self._patient(*(self._axis(axis, 0, self.shape[axis], 1) for axis in range(3)))

    def window(self, low: Point, high: Point) -> tuple[slice, slice, slice] | None:
        """The voxels that hold a box of the patient's frame; None where the box lies outside the field."""
        corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        world = corners @ self.rotation.T + np.asarray(self.shift)
        slices = []
        for axis, column, sign in ((0, 2, 1.0), (1, 1, -1.0), (2, 0, -1.0)):
            indices = sign * world[:, column] / self.spacing[axis] + (self.shape[axis] - 1) / 2
            start, stop = max(int(np.floor(indices.min())), 0), min(int(np.ceil(indices.max())) + 1, self.shape[axis])
            if start >= stop:
                return None
            slices.append(slice(start, stop))
        return slices[0], slices[1], slices[2]

    def coverage(self, window: tuple[slice, slice, slice], distance: Distance) -> Array:
        """The fraction of each voxel of the window that lies where `distance` (mm) is negative."""
        factors = [max(1, int(np.ceil(spacing / SUBSAMPLE_MM))) for spacing in self.spacing]
        axes = [self._axis(axis, window[axis].start, window[axis].stop, factors[axis]) for axis in range(3)]
        width = float(np.mean([spacing / factor for spacing, factor in zip(self.spacing, factors, strict=True)]))
        fine = soft(distance(*self._patient(*axes)), width)
        if factors == [1, 1, 1]:
            return fine
        counts = [part.stop - part.start for part in window]
        fine = fine.reshape(counts[0], factors[0], counts[1], factors[1], counts[2], factors[2])
        return np.asarray(fine.mean(axis=(1, 3, 5)), dtype=np.float32)


@dataclass
class Canvas:
    """A volume in HU [depth, height, width] being drawn over a grid."""

    grid: Grid
    volume: Array

    def blend(self, coverage: Array, hu: float | Array) -> None:
        """Mix `hu` into the whole volume by coverage [depth, height, width] from 0 to 1."""
        self.volume += coverage * (hu - self.volume)

    def solid(
        self, low: Point, high: Point, distance: Distance, hu: float, within: Array | None = None, strength: float = 1.0
    ) -> None:
        """Draw the solid where `distance` is negative, bounded by a box of the patient's frame.

        `within` [depth, height, width] limits it to another structure; `strength` below 1 lets what is under
        it shine through.
        """
        window = self.grid.window(low, high)
        if window is None:
            return
        coverage = self.grid.coverage(window, distance) * np.float32(strength)
        if within is not None:
            coverage *= within[window]
        part = self.volume[window]
        part += coverage * (np.float32(hu) - part)

    def ellipsoid(
        self, centre: Point, radii: Point, hu: float, within: Array | None = None, strength: float = 1.0
    ) -> None:
        """Draw an ellipsoid along the patient's axes."""
        low, high = around([centre], max(radii))
        self.solid(low, high, lambda x, y, z: ellipsoid(x, y, z, centre, radii), hu, within, strength)

    def tube(self, start: Point, stop: Point, radius: float, hu: float, within: Array | None = None) -> None:
        """Draw a straight tube with round ends."""
        low, high = around([start, stop], radius)
        self.solid(low, high, lambda x, y, z: capsule(x, y, z, start, stop, radius), hu, within)


def around(points: Sequence[Point], margin: float) -> tuple[Point, Point]:
    """The box around points with a margin in mm."""
    low, high = np.min(points, axis=0) - margin, np.max(points, axis=0) + margin
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))


def soft(distance: Array, width: float) -> Array:
    """Coverage from 1 inside to 0 outside, with an edge of `width` mm about distance 0."""
    return np.asarray(np.clip(0.5 - distance * np.float32(1 / width), 0.0, 1.0, dtype=np.float32))


def ellipsoid(x: Array, y: Array, z: Array, centre: Point, radii: Point) -> Array:
    """Approximate signed distance (mm, exact for spheres) to an axis-aligned ellipsoid."""
    dx, dy, dz = x - np.float32(centre[0]), y - np.float32(centre[1]), z - np.float32(centre[2])
    if radii[0] == radii[1] == radii[2]:
        return np.asarray(np.sqrt(dx * dx + dy * dy + dz * dz) - np.float32(radii[0]))
    rx, ry, rz = (np.float32(1 / radius) for radius in radii)
    ux, uy, uz = dx * rx, dy * ry, dz * rz
    level = np.sqrt(ux * ux + uy * uy + uz * uz)
    gx, gy, gz = ux * rx, uy * ry, uz * rz
    slope = np.sqrt(gx * gx + gy * gy + gz * gz)
    return np.asarray(level * (level - 1) / np.maximum(slope, np.float32(1e-6)))


def capsule(x: Array, y: Array, z: Array, start: Point, stop: Point, radius: float) -> Array:
    """Signed distance (mm) to a straight tube with round ends."""
    axis = np.asarray(stop, dtype=np.float32) - np.asarray(start, dtype=np.float32)
    dx, dy, dz = x - np.float32(start[0]), y - np.float32(start[1]), z - np.float32(start[2])
    along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / np.float32(max(float(axis @ axis), 1e-6)), 0, 1)
    dx, dy, dz = dx - along * axis[0], dy - along * axis[1], dz - along * axis[2]
    return np.asarray(np.sqrt(dx * dx + dy * dy + dz * dz) - np.float32(radius))


def waves(x: Array, y: Array, z: Array, period: float, rng: np.random.Generator) -> Array:
    """A smooth random pattern from -1 to 1 with patches of about half a `period` (mm)."""
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), dtype=np.float32)
    for _ in range(4):
        direction = rng.standard_normal(3)
        kx, ky, kz = (2 * np.pi / period * direction / np.linalg.norm(direction)).astype(np.float32)
        total += np.sin(kx * x + ky * y + kz * z + np.float32(rng.uniform(0, 2 * np.pi)))
    return total * np.float32(0.25)
