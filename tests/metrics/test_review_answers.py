"""Filled sheets that people and spreadsheets have changed: what is read all the same, and what is refused."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif.metrics.review.answers import Answers, read_answers
from rlaif.metrics.review.handout import sheet_text
from rlaif.metrics.review.key import KeyItem, Kind, ReviewError, ReviewKey, ShownItem, read_key, text_checksum

TEXTS = ("Effusion, left.\nNo nodule.", "- Small nodule: ≥ 4 mm, right.", "Clear lungs.")


def item(number: int, rater: str, kind: Kind) -> ShownItem:
    texts = TEXTS[1:] if kind == "choices" else TEXTS[1:2]
    systems = ("base", "round-000")[: len(texts)]
    sums = tuple(text_checksum(text) for text in (TEXTS[0], *texts))
    name = f"item-{rater[-1]}{number}"
    key = KeyItem(
        item_id=name, rater=rater, case_id=f"c{number}", patient_id="p", systems=systems, checksums=sums, repeat_of=None
    )
    return ShownItem(key, TEXTS[0], texts)


def shown(kind: Kind, rater: str, count: int = 3) -> list[ShownItem]:
    return [item(number, rater, kind) for number in range(count)]


def key_of(kind: Kind, count: int = 3) -> ReviewKey:
    items = tuple(one.key for rater in ("rater-1", "rater-2") for one in shown(kind, rater, count))
    return ReviewKey(
        name=kind,
        kind=kind,
        seed=0,
        systems=("base", "round-000"),
        cases=count,
        repeats=0,
        raters=2,
        same_text=0,
        items=items,
    )


def filled(kind: Kind, answers: list[str], rater: str = "rater-1", comment: str = "") -> str:
    rows = list(csv.reader(io.StringIO(sheet_text(kind, shown(kind, rater)), newline="")))
    for row, answer in zip(rows[1:], answers, strict=True):
        row[-2:] = [answer, comment]
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    return file.getvalue()


def read(path: Path, text: str | bytes, kind: Kind = "choices", count: int = 3) -> Answers:
    path = path / "answers.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (own,) = read_answers([path], key_of(kind, count))
    return own


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text,
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\r\n", "\n"),
        lambda text: text.replace("\n", "\r\n").replace("\r\r", "\r"),
        lambda text: text + ",,,,,\r\n\r\n",
        # Some spreadsheets drop the apostrophe, and white space at the ends of a cell.
        lambda text: text.replace("'- Small", "- Small").replace("Clear lungs.", "Clear lungs. "),
        lambda text: text.replace(",tie,", ", TIE ,"),
    ],
)
def test_what_spreadsheets_do_to_a_sheet_is_no_fault(damage: Callable[[str], str], tmp_path: Path) -> None:
    own = read(tmp_path, damage(filled("choices", ["a", "tie", ""])))
    assert own.rater == "rater-1"
    assert own.choices == {"item-10": "a", "item-11": "tie"}
    assert own.missing == ["item-12"]
    assert len(own.sha256) == 64


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_separators_are_read(mark: str, tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO(filled("scores", ["5", "4,0", "1.0"], comment="fine; so"), newline="")))
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=mark).writerows(rows)
    own = read(tmp_path, file.getvalue(), "scores")
    assert own.scores == {"item-10": 5, "item-11": 4, "item-12": 1}
    assert own.comments["item-10"] == "fine; so"


def saved_by_excel(rows: list[list[str]], delimiter: str, line_end: str) -> str:
    """Rows as Excel saves them: in blocks of 16, each only as wide as its widest row with text."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    for start in range(0, len(rows), 16):
        block = rows[start : start + 16]
        width = max(place for row in block for place, cell in enumerate(row, 1) if cell)
        writer.writerows(row[:width] for row in block)
    return "\ufeff" + file.getvalue().replace("\r\n", line_end)


@pytest.mark.parametrize("stray", [0, 1, 2])
@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_sheet_that_excel_saved_is_read(delimiter: str, line_end: str, stray: int, tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO(sheet_text("choices", shown("choices", "rater-1", 40)), newline="")))
    # Two comments in the first block and none below; no answers in the last block.
    for number, row in enumerate(rows[1:]):
        row[-2:] = ["tie" if number < 31 else "", "unclear; blurred, too" if number in (2, 9) else ""]
    # A stray blank in a cell widens its block by columns without a name.
    for place, row in enumerate(rows):
        row += [" " if place in (5, 20) else ""] * stray
    text = saved_by_excel(rows, delimiter, line_end)
    widths = [len(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)]
    assert widths == [6 + stray] * 16 + [6 + stray if stray else 5] * 16 + [4] * 9
    own = read(tmp_path, text, "choices", 40)
    assert own.choices == {f"item-1{number}": "tie" for number in range(31)}
    assert own.comments == {f"item-1{number}": "unclear; blurred, too" for number in (2, 9)}
    assert own.missing == [f"item-1{number}" for number in range(31, 40)]


CHOSEN = filled("choices", ["a", "b", "tie"])
SCORED = filled("scores", ["1", "2", "3"])


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("choices", "", "line 1: the header lacks 'item_id', lacks 'reference'"),
        (
            "choices",
            SCORED,
            "line 1: the header lacks 'candidate_a', lacks 'candidate_b', lacks 'choice', has 'candidate'",
        ),
        ("choices", CHOSEN.replace(",comment", ",choice"), "line 1: the column 'choice' stands there twice"),
        ("choices", CHOSEN.splitlines()[0], "there are no rows below the header"),
        ("choices", filled("choices", ["", "", ""]), "nothing in it is answered"),
        (
            "choices",
            CHOSEN.replace("item-11", "item-77"),
            "line 4, column item_id: the review choices has no 'item-77'",
        ),
        ("choices", CHOSEN.replace("item-11", "item-21"), "line 4, column item_id: item-21 is of rater-2's sheet"),
        ("choices", CHOSEN.replace("item-11", "item-10"), "line 4, column item_id: item-10 stands in a row above too"),
        ("choices", CHOSEN.replace(",tie,", ",even,"), "line 6, column choice: 'even' is none of a, b and tie"),
        (
            "choices",
            CHOSEN.replace("≥", "?"),
            "line 2, column candidate_a: the text is not the one that was handed out",
        ),
        ("choices", CHOSEN.replace("No nodule", "A nodule"), "line 2, column reference: the text is not the one"),
        ("choices", CHOSEN.replace(",tie,", ",tie,,ask me"), "line 6: 7 cells under a header of 6; text with commas"),
        (
            "choices",
            CHOSEN.replace(",comment", ",comment,").replace(",tie,", ",tie,,ask me"),
            "line 6: 7 cells under a header of 6; text with commas needs quotes, and nothing may stand right of the",
        ),
        ("choices", CHOSEN.replace(",comment", ",,comment"), "line 1: the header has ''"),
        ("choices", CHOSEN.replace("Clear lungs.,", ""), "line 2, column candidate_b"),
        ("choices", CHOSEN.replace('right."', "right."), "not valid CSV"),
        ("choices", CHOSEN.encode("utf-16"), "not UTF-8 text"),
        ("choices", CHOSEN.replace("≥", "é").encode("latin-1"), "not UTF-8 text"),
        ("choices", CHOSEN.replace(",tie,", f",tie,{'x' * 5000}"), "line 6, column comment: 5000 characters"),
        ("scores", SCORED.replace(",3,", ",6,"), "line 6, column score: '6' is no whole number from 1 to 5"),
        ("scores", SCORED.replace(",3,", ",0,"), "line 6, column score: '0' is no whole number from 1 to 5"),
        ("scores", SCORED.replace(",3,", ",3.5,"), "line 6, column score: '3.5' is no whole number"),
        ("scores", SCORED.replace(",3,", ",\N{ARABIC-INDIC DIGIT THREE},"), "line 6, column score"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(kind: Kind, text: str | bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match=re.escape(words)):
        read(tmp_path, text, kind)


def test_a_rater_has_one_file(tmp_path: Path) -> None:
    files = []
    for number, rater in enumerate(("rater-2", "rater-1", "rater-1")):
        files.append(tmp_path / f"{number}.csv")
        files[-1].write_text(filled("choices", ["a", "b", "tie"], rater), encoding="utf-8")
    assert [own.rater for own in read_answers(files[:2], key_of("choices"))] == ["rater-1", "rater-2"]
    with pytest.raises(ReviewError, match=r"rater-1 answered in .*1\.csv too"):
        read_answers(files, key_of("choices"))
    with pytest.raises(ReviewError, match="there is no such file"):
        read_answers([tmp_path / "none.csv"], key_of("choices"))


def test_a_key_that_is_not_there_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match="hand one out first"):
        read_key(tmp_path / "review" / "choices")
    for name in ("first", "second"):
        (tmp_path / "review" / name).mkdir(parents=True)
        (tmp_path / "review" / name / "key.json").write_text('{"name": "x"}')
    with pytest.raises(ReviewError, match=r"set review\.name; there are first, second"):
        read_key(tmp_path / "review" / "third")
    with pytest.raises(ReviewError, match=r"key\.json is damaged \(kind: Field required\)"):
        read_key(tmp_path / "review" / "first")
