"""CT slices for the report page: three planes through the lungs, as small PNG images."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

# The usual lung window: centre -600 HU, width 1500 HU.
LUNG_WINDOW = (-1350.0, 150.0)
_AERATED_LUNG = (-950.0, -500.0)
_BODY_ABOVE = -300.0
_COARSE = 96
_PLANES = ("axial", "coronal", "sagittal")
_LONG_SIDE = 208


@dataclass(frozen=True)
class Slice:
    """One slice as a data URI, with its plane, place in the volume and size in pixels."""

    plane: str
    caption: str
    source: str
    width: int
    height: int


@dataclass(frozen=True)
class SliceRow:
    """The three slices of a study, or a note that says why there are none."""

    slices: tuple[Slice, ...] = ()
    note: str = ""


def _enclosed_lung(voxels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where `[depth, height, width]` HU look like aerated lung with the body on all four sides in the axial plane.

    The body is the largest connected part denser than fat, so that the air and the foam of the table do not count.
    """
    parts, count = ndimage.label(voxels > _BODY_ABOVE)
    if not count:
        return np.zeros(voxels.shape, dtype=np.bool_)
    body = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    enclosed: NDArray[np.bool_] = (voxels > _AERATED_LUNG[0]) & (voxels < _AERATED_LUNG[1])
    for axis in (1, 2):
        enclosed &= np.logical_or.accumulate(body, axis=axis)
        enclosed &= np.flip(np.logical_or.accumulate(np.flip(body, axis), axis=axis), axis)
    return enclosed


def informative_indices(voxels: NDArray[Any]) -> tuple[int, int, int]:
    """The index along each axis of `[depth, height, width]` HU where most aerated lung is cut.

    The middle of each axis where under 0.5 % of the volume looks like lung.
    """
    steps = [max(1, length // _COARSE) for length in voxels.shape]
    lung = _enclosed_lung(voxels[:: steps[0], :: steps[1], :: steps[2]])
    if lung.mean() < 0.005:
        depth, height, width = voxels.shape
        return depth // 2, height // 2, width // 2
    areas = (lung.sum(axis=(1, 2)), lung.sum(axis=(0, 2)), lung.sum(axis=(0, 1)))
    places = [int(area.argmax()) * step for area, step in zip(areas, steps, strict=True)]
    return places[0], places[1], places[2]


def _grey(plane: NDArray[Any], spacing: tuple[float, float], scale: float, window: tuple[float, float]) -> Image.Image:
    """A slice `[rows, columns]` of that `spacing` (mm) in a window of its values, at `scale` pixels a millimetre."""
    low, high = window
    grey = (np.clip((plane.astype(np.float32) - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
    size = (max(1, round(plane.shape[1] * spacing[1] * scale)), max(1, round(plane.shape[0] * spacing[0] * scale)))
    return Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def slices_of(voxels: NDArray[Any], spacing_mm: tuple[float, float, float]) -> SliceRow:
    """The axial, coronal and sagittal slices of `[depth, height, width]` HU with the most lung, in the lung window."""
    return SliceRow(slices=slices_at(voxels, spacing_mm, informative_indices(voxels), LUNG_WINDOW))


def slices_at(
    voxels: NDArray[Any],
    spacing_mm: tuple[float, float, float],
    place: tuple[int, int, int],
    window: tuple[float, float],
) -> tuple[Slice, ...]:
    """The axial, coronal and sagittal slices of `[depth, height, width]` values through a voxel, in a window of values.

    `spacing_mm` is in the order of the axes. Coronal and sagittal slices show the head end at the top.
    """
    planes = (voxels[place[0]], voxels[::-1, place[1]], voxels[::-1, :, place[2]])
    spacings = (spacing_mm[1:], (spacing_mm[0], spacing_mm[2]), spacing_mm[:2])
    # One scale for all three, so that an organ has the same size in each plane.
    scale = _LONG_SIDE / max(length * distance for length, distance in zip(voxels.shape, spacing_mm, strict=True))
    slices = []
    for axis, (name, plane, spacing) in enumerate(zip(_PLANES, planes, spacings, strict=True)):
        image = _grey(plane, (spacing[0], spacing[1]), scale, window)
        caption = f"{name}, {place[axis] + 1} of {voxels.shape[axis]}"
        slices.append(Slice(name, caption, _png(image), image.width, image.height))
    return tuple(slices)
