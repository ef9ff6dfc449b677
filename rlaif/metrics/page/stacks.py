"""Stacks of axial CT slices for the case browser: one small JPEG a study that any window can be taken from.

A grey value stands for a CT number by a scale that is fine where soft tissue lies and coarse in bone, so that 8 bits
serve every usual window; the page takes the window.
"""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Grey values (0 to 255) and the HU that they stand for, straight lines between: 9 HU a step in lung, 4 in soft tissue,
# 31 in bone.
GREYS = (0, 96, 196, 255)
HOUNSFIELD = (-1024, -160, 240, 2040)
MOST_SLICES = 48
LONG_SIDE = 192
_QUALITY = 90
_BODY_ABOVE = -300.0


@dataclass(frozen=True)
class Stack:
    """Slices below each other in one JPEG data URI, from head to feet, each `width` by `height` pixels.

    `places` are the slices of the CT that each is the mean of, as (first, last), counted from 1 from the feet.
    """

    source: str
    width: int
    height: int
    places: tuple[tuple[int, int], ...]


def stack_of(voxels: NDArray[Any], spacing_mm: tuple[float, float, float]) -> Stack:
    """The stack of `[depth, height, width]` HU in canonical orientation, `spacing_mm` in the order of the axes.

    More than 48 slices are averaged into 48 slabs, so that nothing between two shown slices is left out; each is at
    most 192 pixels long, with square pixels, and never enlarged beyond what square pixels need.
    """
    depth, rows, columns = voxels.shape
    scale = min(LONG_SIDE / max(rows * spacing_mm[1], columns * spacing_mm[2]), 1 / min(spacing_mm[1:]))
    width, height = (max(1, round(n * mm * scale)) for n, mm in ((columns, spacing_mm[2]), (rows, spacing_mm[1])))
    top, bottom, left, right = _body(voxels)
    box = (left * width // columns, top * height // rows, -(-right * width // columns), -(-bottom * height // rows))
    edges = np.linspace(0, depth, min(depth, MOST_SLICES) + 1).round().astype(int)
    slabs = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))[::-1]
    tiles = [_grey(voxels[first:end].mean(axis=0, dtype=np.float32), (width, height), box) for first, end in slabs]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(tiles)).save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Stack(source, box[2] - box[0], box[3] - box[1], tuple((first + 1, end) for first, end in slabs))


def _grey(plane: NDArray[np.float32], size: tuple[int, int], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """A slice `[rows, columns]` of HU as grey values, at `size` (width, height) and cut to `box`."""
    image = Image.fromarray(plane).resize(size, Image.Resampling.BOX).crop(box)
    grey: NDArray[np.uint8] = np.interp(np.asarray(image), HOUNSFIELD, GREYS).round().astype(np.uint8)
    return grey


def _body(voxels: NDArray[Any]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the patient with a margin, of all slices; the whole plane where none is seen."""
    rows, columns = voxels.shape[1:]
    dense = (voxels[:: max(1, len(voxels) // 24)] > _BODY_ABOVE).mean(axis=0)
    # A table and noise are dense in thin lines only: a twentieth of a line must be tissue.
    down = np.flatnonzero((dense > 0.1).mean(axis=1) > 0.05)
    across = np.flatnonzero((dense > 0.1).mean(axis=0) > 0.05)
    if not down.size or not across.size:
        return 0, rows, 0, columns
    margins = (max(1, rows // 50), max(1, columns // 50))
    return (
        max(0, int(down[0]) - margins[0]),
        min(rows, int(down[-1]) + 1 + margins[0]),
        max(0, int(across[0]) - margins[1]),
        min(columns, int(across[-1]) + 1 + margins[1]),
    )
