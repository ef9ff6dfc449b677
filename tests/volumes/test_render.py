"""Pictures of CTs: the right voxels, the radiologist's orientation, any text."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlaif.volumes.render import Mark, render_study, slices_at, voxel_at
from rlaif.volumes.volume import Volume


@pytest.fixture
def volume() -> Volume:
    voxels = np.full((20, 30, 40), -850, dtype=np.int16)
    voxels[15, 5, 10] = 400
    return Volume(voxels, (5.0, 2.0, 2.0))


def test_a_point_in_millimetres_is_found_in_the_volume(volume: Volume) -> None:
    # Right, anterior and superior of the middle: a low x, a low y and a high z index.
    assert voxel_at(volume, (19.0, 19.0, 27.5)) == (15, 5, 10)
    assert voxel_at(volume, (1e6, -1e6, -1e6)) == (0, 29, 0)


def test_planes_show_the_patient_upright_with_the_right_side_on_the_left(volume: Volume) -> None:
    planes = slices_at(volume, (15, 5, 10))
    axial, coronal, sagittal = (planes[name][0] for name in ("axial", "coronal", "sagittal"))
    assert axial[5, 10] == coronal[4, 10] == sagittal[4, 5] == 400
    assert [planes[name][1] for name in ("axial", "coronal", "sagittal")] == [1.0, 2.5, 2.5]


def test_a_picture_is_written_for_any_text(volume: Volume, tmp_path: Path) -> None:
    marks = [Mark("right $upper lobe nodule", (19.0, 19.0, 27.5)), Mark("diffuse")]
    render_study(volume, marks, "FINDINGS\nA nodule of $5 \\frac{ <b>\n" * 5, tmp_path / "a.png", title="study_$1")
    render_study(volume, [], "", tmp_path / "b.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    orange = (abs(picture - [255, 127, 14]).sum(-1) < 30).sum()
    plain = np.asarray(Image.open(tmp_path / "b.png").convert("RGB")).astype(int)
    assert orange > 100
    assert (abs(plain - [255, 127, 14]).sum(-1) < 30).sum() == 0
