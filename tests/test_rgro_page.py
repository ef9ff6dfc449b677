"""The paper's numbers in docs/rgro.md: those that cannot be are marked, and no others."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "rgro.md"


def test_the_numbers_that_cannot_be_are_marked_and_no_others() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## The paper's tables")[2]
    rows = re.findall(r"^\| ((?:SFT|RGRO)-\d\d[^|]*) \|(.*)\|$", text, flags=re.MULTILINE)
    assert len(rows) == 12
    marked = 0
    for name, cells in rows:
        words = [cell.strip() for cell in cells.split("|")]
        for at in (0, 6):
            rouge_1, _, rouge_l, precision, recall, f1 = (float(word.rstrip("*")) for word in words[at : at + 6])
            impossible = {
                at + 2: rouge_l > rouge_1,
                at + 5: f1 > (precision + recall) / 2 or f1 < precision + recall - 100,
            }
            for column in range(at, at + 6):
                assert words[column].endswith("*") == impossible.get(column, False), f"{name}: {words[column]}"
                marked += words[column].endswith("*")
    assert marked == 11
