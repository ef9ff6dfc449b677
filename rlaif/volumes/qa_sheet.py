"""The QA sheet: a few studies as they were read and as the encoder gets them, so that a person sees what went wrong.

A patient who lies the wrong way round, a window that hides the lungs and a wrong spacing are seen at a glance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import numpy.typing as npt

from rlaif.metrics.page.images import LUNG_WINDOW, Slice, informative_indices, slices_at
from rlaif.volumes.recipes import Recipe
from rlaif.volumes.resampling import apply
from rlaif.volumes.volume import Orientation, Volume

# What stands at the left, right, top and bottom edge of a plane in canonical orientation, seen as radiologists do.
_EDGES = {"axial": "RLAP", "coronal": "RLHF", "sagittal": "APHF"}


@dataclass(frozen=True)
class QaRow:
    """One study on the sheet: facts of its volume, its slices as read and as the encoder gets them, and remarks."""

    study_id: str
    facts: str
    read: tuple[Slice, ...]
    encoder: tuple[Slice, ...]
    remarks: tuple[str, ...] = ()


def qa_row(study_id: str, volume: Volume, recipe: Recipe) -> QaRow:
    """The row of a study whose volume was read; raises VolumeError where the recipe cannot be applied."""
    low, median, high = (float(value) for value in np.percentile(volume.voxels[::2, ::4, ::4], (1, 50, 99)))
    size = " x ".join(str(length) for length in volume.voxels.shape)
    spacing = " x ".join(f"{distance:.3g}" for distance in volume.spacing_mm)
    values = apply(recipe, volume)[0]
    # The picture is drawn as a person looks at it, whichever way the encoder takes the plane.
    seen = values if recipe.in_plane == "yx" else values.transpose(0, 2, 1)
    middle = _middle(seen, recipe.value_range[0])
    return QaRow(
        study_id=study_id,
        facts=f"{size} voxels (z, y, x) of {spacing} mm; HU {low:.0f} (1 %), {median:.0f} (median), {high:.0f} (99 %)",
        read=slices_at(volume.voxels, volume.spacing_mm, informative_indices(volume.voxels), LUNG_WINDOW),
        encoder=slices_at(seen, _grid(recipe, volume, seen.shape), middle, recipe.value_range),
        remarks=volume.remarks,
    )


def _middle(values: npt.NDArray[np.float32], low: float) -> tuple[int, int, int]:
    """The middle of what is not padding, along each axis."""
    filled = values > low
    middles = []
    for axis, length in enumerate(values.shape):
        places = np.flatnonzero(filled.any(axis=tuple(other for other in range(3) if other != axis)))
        middles.append(int(places[0] + places[-1] + 1) // 2 if places.size else length // 2)
    return middles[0], middles[1], middles[2]


def _grid(recipe: Recipe, volume: Volume, shape: tuple[int, ...]) -> tuple[float, float, float]:
    """How far apart, about, the values that the encoder gets are in the patient: for the picture's proportions."""
    if recipe.fit == "crop_or_pad" and recipe.spacing_mm is not None:
        return recipe.spacing_mm
    if recipe.fit == "keep_aspect":
        return (1.0, 1.0, 1.0)
    z, y, x = (
        length * distance / size
        for length, distance, size in zip(volume.voxels.shape, volume.spacing_mm, shape, strict=True)
    )
    return z, y, x


def qa_sheet(
    title: str, recipe: Recipe, orientation: Orientation, rows: Sequence[QaRow], quarantined: Sequence[tuple[str, int]]
) -> str:
    """The sheet as one HTML page without scripts, with the reasons of the quarantine and how many studies each has."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("qa_sheet.html.jinja").render(
        title=title,
        recipe=recipe,
        orientation=orientation,
        rows=rows,
        quarantined=quarantined,
        edges=_EDGES if orientation == "canonical" else dict.fromkeys(_EDGES, ""),
    )
