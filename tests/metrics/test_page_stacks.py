"""Axial stacks of the report page: their size, order and values, and what happens where a CT cannot be read."""

import base64
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlaif.metrics.page.stacks import GREYS, HOUNSFIELD, LONG_SIDE, MOST_SLICES, stack_of
from rlaif.metrics.page.studies import StudyIndex
from rlaif.records import Study


def decoded(source: str) -> np.ndarray:
    """The grey values of a stack's picture, as HU."""
    assert source.startswith("data:image/jpeg;base64,")
    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))
    assert grey.ndim == 2
    return np.interp(grey, GREYS, HOUNSFIELD)


def test_a_stack_is_bounded_from_head_to_feet_and_keeps_hounsfield_units() -> None:
    voxels = np.full((120, 300, 400), -1000, dtype=np.int16)
    voxels[:60, 50:250, 60:340] = 40
    voxels[60:, 50:250, 60:340] = -700
    voxels[:, 100:150, 100:200] = 1000
    stack = stack_of(voxels, (2.0, 0.8, 0.8))
    assert len(stack.places) == MOST_SLICES and stack.places[0][1] == 120 and stack.places[-1][0] == 1
    assert max(stack.width, stack.height) <= LONG_SIDE
    hounsfield = decoded(stack.source).reshape(MOST_SLICES, stack.height, stack.width)
    # The patient is 280 by 200 voxels, with a margin; the head's slices come first.
    assert stack.width / stack.height == pytest.approx(1.4, abs=0.05)
    place = (round(stack.height * 0.85), round(stack.width * 0.5))
    assert hounsfield[0][place] == pytest.approx(-700, abs=25) and hounsfield[-1][place] == pytest.approx(40, abs=12)
    bone = (round(stack.height * 0.38), round(stack.width * 0.33))
    assert hounsfield[10][bone] == pytest.approx(1000, abs=70)


def test_a_small_ct_is_not_enlarged_and_pixels_become_square() -> None:
    stack = stack_of(np.full((5, 40, 40), 40, dtype=np.float32), (10.0, 7.0, 14.0))
    assert len(stack.places) == 5 and stack.places == ((5, 5), (4, 4), (3, 3), (2, 2), (1, 1))
    assert (stack.width, stack.height) == (80, 40)
    assert stack_of(np.full((3, 8, 8), -1000, np.int16), (1.0, 1.0, 1.0)).width == 8


def test_reading_ends_in_time_and_says_so(tmp_path: Path, row_writer: Callable[..., None]) -> None:
    studies = [Study(f"s{k}", "p", "phantom", "align", volume=str(tmp_path / f"{k}.nii.gz")) for k in range(2)]
    row_writer(tmp_path / "studies", Study, [*studies, Study("none", "p", "phantom", "align")])
    index = StudyIndex(tmp_path, seconds=0.05)
    assert "cannot be read any more" in str(index.stack("s0"))
    time.sleep(0.1)
    assert "0.05 s that the page reads CTs for were over" in str(index.stack("s1"))
    assert "text alone" in str(index.stack("none")) and "not in the run's studies" in str(index.stack("gone"))
