"""The key of a review: who wrote what a rater is shown. It stays with the run and is never handed out."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from rlaif.section import Section

KEY_FILE = "key.json"
KEY_BYTES = 2**28
MAX_COMMENT_CHARACTERS = 4000
Kind = Literal["choices", "scores"]
TEXT_COLUMNS: dict[Kind, tuple[str, ...]] = {
    "choices": ("reference", "candidate_a", "candidate_b"),
    "scores": ("reference", "candidate"),
}
ANSWER_COLUMN: dict[Kind, str] = {"choices": "choice", "scores": "score"}


class ReviewError(ValueError):
    """A review that cannot be made, or answers that cannot be used: the message says where, and what to do."""


class KeyItem(Section):
    """One showing of a report, or of two, to one rater. `systems` and `checksums` are in the order shown."""

    item_id: str
    rater: str
    case_id: str
    patient_id: str
    systems: tuple[str, ...] = Field(min_length=1, max_length=2)
    checksums: tuple[str, ...]
    """Of the texts in TEXT_COLUMNS."""
    repeat_of: str | None = None
    """The item that this one shows again, in the other order."""


class ReviewKey(Section):
    """All that was handed out in a review, and how it was drawn."""

    name: str
    kind: Kind
    seed: int
    systems: tuple[str, ...]
    cases: int
    """Cases asked for."""
    repeats: int
    raters: int
    same_text: int
    """Pairs of the drawn cases that are not shown, as both systems wrote the same."""
    items: tuple[KeyItem, ...]


@dataclass(frozen=True)
class ShownItem:
    """A showing with its texts as the rater sees them."""

    key: KeyItem
    reference: str
    texts: tuple[str, ...]


def columns_of(kind: Kind) -> tuple[str, ...]:
    """The columns of a sheet, empty and filled."""
    return ("item_id", *TEXT_COLUMNS[kind], ANSWER_COLUMN[kind], "comment")


def text_checksum(text: str) -> str:
    """The checksum of a shown text that survives a spreadsheet: white space and leading apostrophes do not count."""
    plain = " ".join(text.split()).lstrip("'")
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def read_key(folder: Path) -> ReviewKey:
    """The key of a review's folder; raises ReviewError where it is missing or damaged."""
    path = folder / KEY_FILE
    if not path.is_file():
        reviews = sorted(one.parent.name for one in folder.parent.glob(f"*/{KEY_FILE}"))
        there = f"there are {', '.join(reviews)}" if reviews else "hand one out first: leave review.answers out"
        raise ReviewError(f"{folder.name} is no review of this run, {path} does not exist: set review.name; {there}")
    if path.stat().st_size > KEY_BYTES:
        raise ReviewError(f"{path} is larger than {KEY_BYTES} bytes, which no key is; restore it")
    try:
        return ReviewKey.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise ReviewError(f"{path} is damaged ({place}: {fault['msg']}); restore it from a copy of the run") from error
