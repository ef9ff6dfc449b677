"""What a team's own radiologists said of reports: scores, or choices of the better of two, from a CSV file."""

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlaif.metrics.csv_rows import csv_rows

Choice = Literal["a", "b", "tie"]
Kind = Literal["scores", "choices", "none"]
Pair = tuple[str, str]
MAX_ROWS = 100_000
MAX_NAME_CHARACTERS = 200
MAX_TEXT_CHARACTERS = 100_000
REPORT_COLUMNS = ("case_id", "reference", "candidate")
SCORE_COLUMNS = (*REPORT_COLUMNS, "score")
CHOICE_COLUMNS = ("case_id", "reference", "candidate_a", "candidate_b", "choice")
# Who rated where the file does not say.
_ONLY_RATER = "rater"
CHOICES: dict[str, Choice] = {"a": "a", "b": "b", "tie": "tie"}
"""By the word that a file has, in lower case."""
FLIPPED: dict[Choice, Choice] = {"a": "b", "b": "a", "tie": "tie"}
"""A choice of the same two reports in the other order."""
_NUMBER = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


class RatingsError(ValueError):
    """A file of ratings that cannot be used: the message says the file, line and column, and what to do."""


@dataclass(frozen=True)
class RatedReport:
    """A report that judges are asked about, with its reference: the same that radiologists saw, where they rated it."""

    item_id: str
    case_id: str
    reference: str
    candidate: str


@dataclass
class Ratings:
    """What each rater said: a score by item id, a choice by the item ids of its reports a and b, or nothing.

    Every pair has items of its own, also where one report stands in several: a judge is asked about just these two.
    """

    kind: Kind
    items: dict[str, RatedReport] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    choices: dict[str, dict[Pair, Choice]] = field(default_factory=dict)


def read_ratings(path: Path) -> Ratings:
    """Reads a CSV file in UTF-8 with a header: reports with scores, with choices or alone, told apart by the columns.

    Scores have the columns SCORE_COLUMNS, choices CHOICE_COLUMNS with a, b or tie as the choice; `rater` may stand
    beside either. Reports alone have REPORT_COLUMNS, and equal ones of a case are one. Raises
    RatingsError, with file, line and column, for other columns or values, empty cells, a case with two references, and
    a rater who rates the same twice.
    """
    header, rows = csv_rows(path, "ratings", RatingsError, most=MAX_ROWS)
    reading = _Reading(_kind_of(path, header))
    for place, row in rows:
        reading.add(place, row)
    if not reading.ratings.items:
        raise RatingsError(f"ratings {path}: there are no rows below the header")
    return reading.ratings


def _kind_of(path: Path, present: Sequence[str]) -> Kind:
    """What the file holds, by the columns of its header."""
    if len(present) == 1 and (mark := next((one for one in (";", "\t") if one in present[0]), None)):
        name = {";": "semicolons", "\t": "tabs"}[mark]
        raise RatingsError(f"ratings {path}, line 1: the columns are parted by {name}; save it with commas")
    repeated = next((name for name, times in Counter(present).items() if times > 1), None)
    if repeated is not None:
        raise RatingsError(f"ratings {path}, line 1: the column {repeated[:40]!r} stands there twice; take one out")
    if {*present} == {*REPORT_COLUMNS}:
        return "none"
    kind: Kind = "choices" if {"choice", "candidate_a", "candidate_b"} & {*present} else "scores"
    wanted = SCORE_COLUMNS if kind == "scores" else CHOICE_COLUMNS
    missing = [name for name in wanted if name not in present]
    unknown = [name for name in present if name not in (*wanted, "rater")]
    if missing or unknown:
        near = {name: difflib.get_close_matches(name.strip().lower(), [*wanted, "rater"], n=1) for name in unknown}
        words = [f"lacks {name!r}" for name in missing]
        words += [
            f"has {name[:40]!r}" + (f" (meant: {near[name][0]!r}?)" if near[name] else "") for name in unknown[:5]
        ]
        raise RatingsError(
            f"ratings {path}, line 1: the header {', '.join(words)}; it must have {', '.join(SCORE_COLUMNS)} or "
            f"{', '.join(CHOICE_COLUMNS)}, may have rater, and nothing else; a file without ratings has "
            f"{', '.join(REPORT_COLUMNS)}"
        )
    return kind


class _Reading:
    """Adds rows to ratings, each checked against those before it."""

    def __init__(self, kind: Kind) -> None:
        self.ratings = Ratings(kind)
        self._references: dict[str, str] = {}
        self._rated: set[tuple[str, frozenset[str]]] = set()
        # Raters may have been shown a pair in either order; the first row's stands for all.
        self._pairs: dict[frozenset[str], Pair] = {}

    def add(self, place: str, row: Mapping[str, str]) -> None:
        case_id, reference = _cell(place, row, "case_id"), _cell(place, row, "reference")
        if self._references.setdefault(case_id, reference) != reference:
            raise RatingsError(
                f"{place}, column reference: case {case_id!r} has another reference above; give each its own case_id"
            )
        rater = _cell(place, row, "rater") if "rater" in row else _ONLY_RATER
        if self.ratings.kind != "choices":
            item = self._item(case_id, _cell(place, row, "candidate"))
            if self.ratings.kind == "scores":
                self._first_time(place, rater, frozenset({item}))
                self.ratings.scores.setdefault(rater, {})[item] = _score(place, row)
            return
        texts = _cell(place, row, "candidate_a"), _cell(place, row, "candidate_b")
        if texts[0] == texts[1]:
            raise RatingsError(f"{place}: candidate_a and candidate_b are the same text; take the row out")
        pair = self._item(case_id, texts[0], texts[1]), self._item(case_id, texts[1], texts[0])
        self._first_time(place, rater, frozenset(pair))
        choice, first = _choice(place, row), self._pairs.setdefault(frozenset(pair), pair)
        self.ratings.choices.setdefault(rater, {})[first] = choice if first == pair else FLIPPED[choice]

    def _item(self, case_id: str, candidate: str, *beside: str) -> str:
        item_id = hashlib.sha256(json.dumps([case_id, candidate, *beside]).encode()).hexdigest()[:24]
        self.ratings.items.setdefault(item_id, RatedReport(item_id, case_id, self._references[case_id], candidate))
        return item_id

    def _first_time(self, place: str, rater: str, rated: frozenset[str]) -> None:
        if (rater, rated) in self._rated:
            raise RatingsError(
                f"{place}: {rater} rated the same above; take one of the rows out, or tell raters apart by a column "
                "named rater"
            )
        self._rated.add((rater, rated))


def _cell(place: str, row: Mapping[str, str], column: str) -> str:
    """The text of a cell, which must hold something, and not too much."""
    text = row[column].strip()
    if not text:
        raise RatingsError(f"{place}, column {column}: the cell is empty; fill it in, or take the row out")
    most = MAX_NAME_CHARACTERS if column in ("case_id", "rater") else MAX_TEXT_CHARACTERS
    if len(text) > most:
        raise RatingsError(f"{place}, column {column}: {len(text)} characters, and at most {most} can be")
    if "\0" in text or (column in ("case_id", "rater") and not text.isprintable()):
        raise RatingsError(f"{place}, column {column}: control characters stand in {text[:40]!r}; take them out")
    return text


def _score(place: str, row: Mapping[str, str]) -> float:
    written = _cell(place, row, "score")
    if not _NUMBER.fullmatch(written):
        raise RatingsError(f"{place}, column score: {written[:40]!r} is no number such as 4 or 3.5")
    return float(written)


def _choice(place: str, row: Mapping[str, str]) -> Choice:
    written = _cell(place, row, "choice")
    if written.lower() not in CHOICES:
        raise RatingsError(f"{place}, column choice: {written[:40]!r} is none of a, b and tie")
    return CHOICES[written.lower()]
