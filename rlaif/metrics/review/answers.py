"""What raters answered: filled sheets, read strictly, since spreadsheets and people change files."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlaif.files import checksum_of
from rlaif.metrics.csv_rows import csv_rows
from rlaif.metrics.ratings import CHOICES, Choice
from rlaif.metrics.review.cells import unguarded
from rlaif.metrics.review.key import (
    ANSWER_COLUMN,
    MAX_COMMENT_CHARACTERS,
    TEXT_COLUMNS,
    KeyItem,
    ReviewError,
    ReviewKey,
    columns_of,
    text_checksum,
)

MAX_ROWS = 10_000
LOWEST, HIGHEST = 1, 5
# Spreadsheets write whole numbers with decimals at times.
_SCORE = re.compile(rf"([{LOWEST}-{HIGHEST}])([.,]0+)?", re.ASCII)


@dataclass
class Answers:
    """What one rater answered, by item id; `missing` are the items of the rater's sheet without an answer."""

    rater: str
    file: str
    sha256: str
    choices: dict[str, Choice] = field(default_factory=dict)
    scores: dict[str, int] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def read_answers(paths: Sequence[Path], key: ReviewKey) -> list[Answers]:
    """The answers of several raters, each from one filled sheet, ordered by rater.

    Missing answers are allowed. Raises ReviewError, with file, line and column, for a file that is not a sheet of this
    review, texts that were changed, an id twice, values that are none, and two files of one rater.
    """
    items = {item.item_id: item for item in key.items}
    found: dict[str, Answers] = {}
    for path in paths:
        own = _read(path, key, items)
        if own.rater in found:
            raise ReviewError(f"answers {path}: {own.rater} answered in {found[own.rater].file} too; give one of them")
        found[own.rater] = own
    return sorted(found.values(), key=lambda own: int(own.rater.removeprefix("rater-")))


def _read(path: Path, key: ReviewKey, items: Mapping[str, KeyItem]) -> Answers:
    header, rows = csv_rows(path, "answers", ReviewError, most=MAX_ROWS, delimiters=",;\t", spreadsheet=True)
    _check_header(path, header, key)
    reading = _Reading(path, key, items)
    for place, row in rows:
        reading.add(place, row)
    return reading.whole()


def _check_header(path: Path, header: Sequence[str], key: ReviewKey) -> None:
    wanted = columns_of(key.kind)
    place = f"answers {path}, line 1"
    repeated = next((name for name, times in Counter(header).items() if times > 1), None)
    if repeated is not None:
        raise ReviewError(f"{place}: the column {repeated[:40]!r} stands there twice; take one out")
    missing = [name for name in wanted if name not in header]
    unknown = [name[:40] for name in header if name not in wanted][:5]
    if missing or unknown:
        words = [f"lacks {name!r}" for name in missing] + [f"has {name!r}" for name in unknown]
        raise ReviewError(
            f"{place}: the header {', '.join(words)}; a sheet of {key.kind} has {', '.join(wanted)} and nothing else"
        )


class _Reading:
    """Adds the rows of one file, each checked against the key and the rows before it."""

    def __init__(self, path: Path, key: ReviewKey, items: Mapping[str, KeyItem]) -> None:
        self._path, self._key, self._items = path, key, items
        self._seen: set[str] = set()
        self._answers: Answers | None = None

    def add(self, place: str, row: Mapping[str, str]) -> None:
        item_id = row["item_id"].strip()
        item = self._items.get(item_id)
        if item is None:
            raise ReviewError(
                f"{place}, column item_id: the review {self._key.name} has no {item_id[:40]!r}; is the file of another "
                "review (review.name, review.kind), or was the id changed?"
            )
        if self._answers is None:
            self._answers = Answers(item.rater, str(self._path), checksum_of(self._path))
        if item.rater != self._answers.rater:
            raise ReviewError(
                f"{place}, column item_id: {item_id} is of {item.rater}'s sheet, and the rows above are of "
                f"{self._answers.rater}'s; give a file for each rater"
            )
        if item_id in self._seen:
            raise ReviewError(f"{place}, column item_id: {item_id} stands in a row above too; take one of them out")
        self._seen.add(item_id)
        for column, checksum in zip(TEXT_COLUMNS[self._key.kind], item.checksums, strict=True):
            if text_checksum(row[column]) != checksum:
                raise ReviewError(
                    f"{place}, column {column}: the text is not the one that was handed out; copy the answers into a "
                    "fresh sheet, or answer on the page"
                )
        self._answer(place, item_id, row)
        self._comment(place, item_id, row["comment"])

    def whole(self) -> Answers:
        """The answers of the file, with what is missing."""
        if self._answers is None:
            raise ReviewError(f"answers {self._path}: there are no rows below the header")
        own = self._answers
        given = own.choices.keys() | own.scores.keys()
        if not given:
            raise ReviewError(f"answers {self._path}: nothing in it is answered; is it the empty sheet?")
        own.missing = [one.item_id for one in self._key.items if one.rater == own.rater and one.item_id not in given]
        return own

    def _answer(self, place: str, item_id: str, row: Mapping[str, str]) -> None:
        column = ANSWER_COLUMN[self._key.kind]
        written = row[column].strip()
        assert self._answers is not None
        if not written:
            return
        if self._key.kind == "choices":
            choice = CHOICES.get(written.lower())
            if choice is None:
                raise ReviewError(f"{place}, column {column}: {written[:40]!r} is none of a, b and tie")
            self._answers.choices[item_id] = choice
            return
        match = _SCORE.fullmatch(written)
        if match is None:
            raise ReviewError(
                f"{place}, column {column}: {written[:40]!r} is no whole number from {LOWEST} to {HIGHEST}"
            )
        self._answers.scores[item_id] = int(match[1])

    def _comment(self, place: str, item_id: str, written: str) -> None:
        text = unguarded(written.strip())
        if len(text) > MAX_COMMENT_CHARACTERS:
            raise ReviewError(
                f"{place}, column comment: {len(text)} characters, and at most {MAX_COMMENT_CHARACTERS} can be"
            )
        if "\0" in text:
            raise ReviewError(f"{place}, column comment: it holds a NUL character; take it out")
        if text:
            assert self._answers is not None
            self._answers.comments[item_id] = text
