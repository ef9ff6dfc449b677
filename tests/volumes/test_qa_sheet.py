"""The QA sheet: what a person would see of a flipped patient and of a wrong window, and what a page must not do."""

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image

from rlaif.metrics.page.images import Slice
from rlaif.volumes.qa_sheet import qa_row, qa_sheet
from rlaif.volumes.recipes import RECIPES, Window
from rlaif.volumes.volume import Volume


def patient() -> Volume:
    """A body with lungs, whose left one (high x) is filled with fluid."""
    voxels = np.full((40, 60, 60), -1000, np.int16)
    voxels[:, 10:50, 5:55] = 40
    voxels[5:35, 15:45, 10:28] = -850
    voxels[5:35, 15:45, 32:50] = 10
    return Volume(voxels, (8.0, 6.0, 6.0), ("gantry tilted by 12.3 degrees",))


def pixels(slice_: Slice) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(slice_.source.partition(",")[2]))))


def halves(slice_: Slice) -> tuple[float, float]:
    """The mean grey of a picture's left and right half."""
    picture = pixels(slice_).astype(float)
    middle = picture.shape[1] // 2
    return float(picture[:, :middle].mean()), float(picture[:, middle:].mean())


def test_the_patients_right_is_on_the_left_of_both_pictures_whichever_way_the_encoder_takes_the_plane() -> None:
    for name in RECIPES:
        row = qa_row("a", patient(), RECIPES[name])
        for axial, coronal, _ in (row.read, row.encoder):
            for picture in (axial, coronal):
                aerated, fluid = halves(picture)
                assert aerated < fluid - 5, (name, picture.caption)


def test_a_wrong_window_is_seen_in_the_encoders_picture() -> None:
    right = qa_row("a", patient(), RECIPES["phantom"])
    wrong = qa_row("a", patient(), replace(RECIPES["phantom"], intensity=Window(3000.0, 4000.0)))
    assert pixels(right.encoder[0]).std() > 30
    assert pixels(wrong.encoder[0]).std() < 5
    np.testing.assert_array_equal(pixels(wrong.read[0]), pixels(right.read[0]))


def test_the_page_says_facts_remarks_and_reasons_and_runs_nothing() -> None:
    row = replace(qa_row("<b>a</b>", patient(), RECIPES["phantom"]), remarks=("<script>alert(1)</script>",))
    page = qa_sheet("run & more", RECIPES["phantom"], "canonical", [row], [("holds <NaN>", 3)])
    assert "&lt;b&gt;a&lt;/b&gt;" in page and "&lt;script&gt;alert(1)" in page and "holds &lt;NaN&gt;" in page
    assert "<script" not in page and "default-src 'none'" in page and "http" not in page.replace("http-equiv", "")
    assert "40 x 60 x 60 voxels (z, y, x) of 8 x 6 x 6 mm; HU -1000 (1 %)" in page
    assert page.count('class="plane"') == 6 and page.count(">R</b>") == 4
    stored = qa_sheet("run", RECIPES["phantom"], "stored", [row], [])
    assert ">R</b>" not in stored and "Sides are those of the files" in stored and "In quarantine" not in stored
    assert "No study with a volume was kept" in qa_sheet("run", RECIPES["phantom"], "canonical", [], [])
