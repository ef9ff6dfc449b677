"""The strict reading of a GREEN model's reply: it tells a malformed reply from a report with a score of 0.

The form is the one that GREEN's prompt asks for (Ostmeier et al. 2024); the score is the paper's equation 1. Unlike
the official parser, nothing is guessed: a reply is read as a whole, or it is malformed and has no score.
"""

import re
from dataclasses import dataclass

from rlaif.judges.rules import SIGNIFICANT

SECTIONS = ("[Clinically Significant Errors]:", "[Clinically Insignificant Errors]:", "[Matched Findings]:")
EXPLANATION = "[Explanation]:"
# Far above what a model of 4,096 positions can write.
MOST_CHARACTERS = 100_000
_FENCE = re.compile(r"^```\w*$")
# An item begins with its letter, or, where the model numbers them, with its number.
_ITEM_START = re.compile(r"^\(([^()\s]{1,3})\)")
_ITEM = re.compile(r"^\(([a-f1-6])\) ([^:]*): (\d{1,3})\.(?!\d)(.*)$")
_ITEM_INSIDE = re.compile(r"\([a-f1-6]\) [^:()]{0,200}: \d")
_COUNT = re.compile(r"^(\d{1,3})\.(?!\d)")
_NAMES = ("abcdef", "123456")
# What a sentence may say that stands for a whole section: "No clinically significant errors were found."
_NONE_WORDS = frozenset(
    {"no", "none", "clinically", "significant", "insignificant", "error", "errors", "matched", "matching"}
    | {"finding", "findings", "is", "are", "was", "were", "found", "identified", "noted", "present", "reported"}
)


class MalformedReply(ValueError):
    """A reply that does not have the form that GREEN's prompt asks for; the message says where."""


@dataclass(frozen=True)
class GreenReply:
    """What a reply counts: significant errors of the classes (a) to (f), insignificant ones, matched findings."""

    significant: tuple[int, ...]
    insignificant: int
    matched: int
    explanation: str

    @property
    def score(self) -> float:
        """Matched findings as a share of them and all significant errors; 0 where none is matched."""
        return self.matched / (self.matched + sum(self.significant)) if self.matched else 0.0

    @property
    def counts(self) -> dict[str, int]:
        """The counts by the names that all judges share."""
        named = dict(zip(SIGNIFICANT, self.significant, strict=True))
        return named | {"insignificant": self.insignificant, "matched": self.matched}


def read_reply(text: str) -> GreenReply:
    """Reads a reply; raises MalformedReply where it lacks anything of the form or has anything twice."""
    if len(text) > MOST_CHARACTERS:
        raise MalformedReply(f"it is longer than {MOST_CHARACTERS} characters")
    explanation, significant, insignificant, matched = _parts(text)
    return GreenReply(
        significant=_errors(significant, SECTIONS[0]),
        insignificant=sum(_errors(insignificant, SECTIONS[1])),
        matched=_matched(matched),
        explanation=" ".join(explanation.replace(EXPLANATION, " ", 1).split()),
    )


def _parts(text: str) -> tuple[str, list[str], list[str], list[str]]:
    """The text before the first section, and each section's lines without the empty ones."""
    places = []
    for header in (EXPLANATION, *SECTIONS):
        times = text.count(header)
        if times > 1:
            raise MalformedReply(f"it has {header} {times} times")
        if not times and header != EXPLANATION:
            raise MalformedReply(f"it has no {header}")
        place = text.find(header)
        if times and text[:place].rpartition("\n")[2].strip():
            raise MalformedReply(f"{header} stands in the middle of a line")
        places.append(place)
    # The official road drops the first header; a reply that goes without it is as good.
    if places != sorted(places):
        raise MalformedReply("its sections are not in the order that was asked for")
    ends = [*places[2:], len(text)]
    bodies = [text[place + len(header) : end] for header, place, end in zip(SECTIONS, places[1:], ends, strict=True)]
    significant, insignificant, matched = (_lines(body) for body in bodies)
    return text[: places[1]], significant, insignificant, matched


def _lines(body: str) -> list[str]:
    lines = (line.strip() for line in body.split("\n"))
    return [line for line in lines if line and not _FENCE.match(line)]


def _says_none(line: str) -> bool:
    words = line.lower().removesuffix(".").split(" ")
    return words[0] in ("no", "none") and _NONE_WORDS.issuperset(words)


def _errors(lines: list[str], header: str) -> tuple[int, ...]:
    """The six counts of a section of errors; a class that is not listed has none."""
    if not lines:
        raise MalformedReply(f"{header} is empty")
    if len(lines) == 1 and _says_none(lines[0]):
        return (0,) * 6
    if not _ITEM_START.match(lines[0]):
        raise MalformedReply(f"{header} begins with neither an item nor a word that there is none")
    found: dict[str, int] = {}
    for line in lines:
        start = _ITEM_START.match(line)
        if start is None:
            # The rest of an item's text, which may go over several lines.
            if _ITEM_INSIDE.search(line):
                raise MalformedReply(f"{header} has an item in the middle of a line")
            continue
        name = start.group(1)
        item = _ITEM.match(line)
        if not any(name in set(names) for names in _NAMES):
            raise MalformedReply(f"{header} has an item ({name})")
        if item is None:
            raise MalformedReply(f"{header} has an item ({name}) without a count such as ': 2.'")
        if _ITEM_INSIDE.search(item.group(4)):
            raise MalformedReply(f"{header} has two items in a line")
        if name in found:
            raise MalformedReply(f"{header} has ({name}) twice")
        found[name] = int(item.group(3))
    names = _NAMES[lines[0][1] in _NAMES[1]]
    if not found.keys() <= set(names):
        raise MalformedReply(f"{header} has letters and numbers as names of its items")
    return tuple(found.get(name, 0) for name in names)


def _matched(lines: list[str]) -> int:
    header = SECTIONS[2]
    if not lines:
        raise MalformedReply(f"{header} is empty")
    if len(lines) == 1 and _says_none(lines[0]):
        return 0
    count = _COUNT.match(lines[0])
    if count is None:
        raise MalformedReply(f"{header} does not begin with a count such as '3.'")
    if any(_COUNT.match(line) for line in lines[1:]):
        raise MalformedReply(f"{header} is a numbered list without a count of its own")
    return int(count.group(1))
