"""Bringing voxels of any axis order into the canonical one, by permutation and flips only."""

from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import io_orientation

from rlaif.volumes.volume import VolumeError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def canonical(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> tuple[npt.NDArray[Any], tuple[float, ...]]:
    """The voxels as a `[z, y, x]` view with x to the left, y to the posterior, z to the superior side.

    `voxels` is `[i, j, k]` of any dtype; `affine` is 4x4 and maps `(i, j, k, 1)` to millimetres in
    RAS directions, as NIfTI has it. Each axis goes to the anatomical axis nearest to it. Returns the
    view and its spacing in mm, `(z, y, x)`. Raises VolumeError for an affine that is not finite or
    gives no orientation.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise VolumeError("the affine holds values that are not finite; repair the header")
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise VolumeError("the affine has no volume, so it gives no orientation; repair the header")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # Row n: which of the anatomical axes (right, anterior, superior) array axis n runs along, and its sign.
    anatomical = io_orientation(affine)
    source = [int(np.flatnonzero(anatomical[:, 0] == axis)[0]) for axis in (2, 1, 0)]
    wanted_signs = (1, -1, -1)
    flips = tuple(
        slice(None, None, 1 if anatomical[axis, 1] == wanted else -1)
        for axis, wanted in zip(source, wanted_signs, strict=True)
    )
    return voxels.transpose(source)[flips], tuple(float(lengths[axis]) for axis in source)
