"""Pictures of a CT beside its report, so that a person can see what the report names."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rlaif.volumes.volume import Volume

WINDOWS_HU = {"lung": (-1000.0, 200.0), "soft tissue": (-160.0, 240.0)}
MOST_ROWS = 12
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Mark:
    """What to show: a caption, and the point in mm to the right, to the front and upwards of the volume's middle.

    A mark without a point is shown at the volume's middle, without a cross.
    """

    caption: str
    point_mm: tuple[float, float, float] | None = None


def voxel_at(volume: Volume, point_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """The voxel (z, y, x) nearest to a point in mm right, anterior and superior of the volume's middle."""
    right, anterior, superior = point_mm
    offsets = (superior, -anterior, -right)
    voxel = []
    for offset, size, spacing in zip(offsets, volume.voxels.shape, volume.spacing_mm, strict=True):
        voxel.append(int(np.clip(round(offset / spacing + (size - 1) / 2), 0, size - 1)))
    return voxel[0], voxel[1], voxel[2]


def slices_at(volume: Volume, voxel: tuple[int, int, int]) -> dict[str, tuple[npt.NDArray[np.generic], float]]:
    """The three planes through a voxel as (pixels [rows, columns] in HU, height of a pixel over its width).

    Shown as radiologists view them: the patient's right on the left of the axial and coronal picture, head up,
    and the sagittal picture with the front on the left.
    """
    depth, height, width = volume.spacing_mm
    z, y, x = voxel
    return {
        "axial": (volume.voxels[z], height / width),
        "coronal": (volume.voxels[::-1, y, :], depth / width),
        "sagittal": (volume.voxels[::-1, :, x], depth / height),
    }


def render_study(volume: Volume, marks: Sequence[Mark], text: str, path: Path, title: str = "") -> None:
    """Write a PNG: for each mark (at most 12) a row of three planes in two windows, and the text beside them."""
    shown = list(marks[:MOST_ROWS]) or [Mark("middle of the volume")]
    columns = len(WINDOWS_HU) * len(PLANES)
    figure = Figure(figsize=(2.4 * columns + 4.2, 2.6 * max(len(shown), 2)), layout="constrained")
    FigureCanvasAgg(figure)
    parts = np.atleast_1d(np.asarray(figure.subfigures(1, 2, width_ratios=[2.4 * columns, 4.2]), dtype=object))
    pictures, report = parts
    axes = pictures.subplots(len(shown), columns, squeeze=False)
    for row, mark in zip(axes, shown, strict=True):
        _render_mark(list(row), volume, mark)
    wrapped = "\n".join(textwrap.fill(line, 46) for line in text.splitlines())
    # Report text is shown as it is: a dollar sign must not begin a formula.
    report.text(0.02, 0.98, wrapped, va="top", fontsize=9, parse_math=False)
    figure.suptitle(title, parse_math=False)
    figure.savefig(path, dpi=80, format="png")


def _render_mark(row: list[Axes], volume: Volume, mark: Mark) -> None:
    voxel = voxel_at(volume, mark.point_mm or (0.0, 0.0, 0.0))
    planes = slices_at(volume, voxel)
    z, y, x = voxel
    depth = volume.voxels.shape[0]
    crosses = {"axial": (x, y), "coronal": (x, depth - 1 - z), "sagittal": (y, depth - 1 - z)}
    for index, axes in enumerate(row):
        window, plane = list(WINDOWS_HU)[index // len(PLANES)], PLANES[index % len(PLANES)]
        pixels, aspect = planes[plane]
        low, high = WINDOWS_HU[window]
        axes.imshow(pixels, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
        axes.set_axis_off()
        if mark.point_mm is not None:
            _draw_cross(axes, *crosses[plane], pixels.shape)
        title = textwrap.fill(mark.caption, 32) if index == 0 else f"{plane}, {window}"
        axes.set_title(title, fontsize=8, loc="left", parse_math=False)


def _draw_cross(axes: Axes, column: int, row: int, shape: tuple[int, ...]) -> None:
    """Four short strokes that point at a pixel and leave it free."""
    gap, length = shape[1] * 0.09, shape[1] * 0.06
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        ends = ([column + dx * gap, column + dx * (gap + length)], [row + dy * gap, row + dy * (gap + length)])
        axes.plot(*ends, color="tab:orange", linewidth=1.2, scalex=False, scaley=False)
