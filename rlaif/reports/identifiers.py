"""What in a report may point to a patient: a check before text leaves the site, not a de-identification.

The kinds are those of the HIPAA "safe harbor" list (45 CFR 164.514(b)(2)) that report text holds; a year alone is none.
The time is linear in the length of the text.
"""

import re
from collections import Counter
from dataclasses import dataclass

from rlaif.reports.identifier_names import names_of_people
from rlaif.reports.identifier_patterns import NUMBER_PATTERNS, WORD_PATTERNS, Kind, numeric_dates

_ONE_AND_SEVERAL: dict[Kind, tuple[str, str]] = {
    "date": ("date", "dates"),
    "name": ("name", "names"),
    "record_number": ("record number", "record numbers"),
    "phone": ("phone number", "phone numbers"),
    "email": ("e-mail address", "e-mail addresses"),
    "address": ("postal address", "postal addresses"),
    "age": ("age over 89", "ages over 89"),
    "url": ("web address", "web addresses"),
}
# One character for one, so that places in the text stay: dashes, apostrophes, spaces and the full-width signs.
_PLAIN = str.maketrans(
    "\u2010\u2011\u2012\u2013\u2014\u2212\u2018\u2019\u00a0\u202f\u00d7\uff0f\uff0d\uff0e\uff1a\uff20\uff0c",
    "------''  x/-.:@,",
)
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class Identifier:
    """A part of a text, `text[start:end]`, that may point to a patient; it does not hold the text itself."""

    kind: Kind
    start: int
    end: int


def find_identifiers(text: str) -> tuple[Identifier, ...]:
    """What may point to a patient in a report, in the order of the text, none within another.

    Of two that overlap, the one that begins first stays, then the longer one.
    """
    text = text.translate(_PLAIN)
    found = [Identifier("name", start, end) for start, end in names_of_people(text)]
    for kind, pattern in WORD_PATTERNS:
        found += [Identifier(kind, *match.span("value")) for match in pattern.finditer(text)]
    if _DIGIT.search(text):
        for kind, pattern in NUMBER_PATTERNS:
            found += [Identifier(kind, *match.span("value")) for match in pattern.finditer(text)]
        found += [Identifier("date", start, end) for start, end in numeric_dates(text)]
    found.sort(key=lambda one: (one.start, -one.end))
    kept: list[Identifier] = []
    for one in found:
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    return tuple(kept)


def describe(identifiers: tuple[Identifier, ...]) -> str:
    """The kinds and counts for a message, "2 dates, 1 name", never the text; "no identifiers" where there are none."""
    counts = Counter(one.kind for one in identifiers)
    parts = [f"{counts[kind]} {words[counts[kind] > 1]}" for kind, words in _ONE_AND_SEVERAL.items() if counts[kind]]
    return ", ".join(parts) or "no identifiers"
