"""Report text cut into sentences, and sentences into the mentions of the lexicon.

Matching goes word by word through a tree of phrases, so its cost is linear in the text, whatever
the text is: a sampled report may be garbage of any length.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rlaif.reports.vocabulary import Kind, Value, entries

_SPACES = re.compile(r"[^\S\n]+")
_ABBREVIATION = re.compile(r"\b(approx|dr|vs|cf|ca|e\.g|i\.e|resp)\.", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n(?=\s*(?:[-*•A-Z]|\d+[.)]))|(?<=[a-z]\.)(?=[A-Z])")
_TIMES = "\N{MULTIPLICATION SIGN}"
_WORD = re.compile(rf"[a-z]+|\d+(?:[.,]\d+)?|[,;:/&{_TIMES}]")
_MILLIMETRES = {"mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "cm": 10.0, "centimeter": 10.0, "centimetre": 10.0}
_BETWEEN_NUMBERS = frozenset({"x", _TIMES, "by", "to", "and"})
_NOT_A_SIZE_BEFORE = frozenset(
    {"above", "below", "from", "proximal", "distal", "slice", "section", "inferior", "superior"}
)
_EARLIER = frozenset({"previously", "formerly", "prior"})
_CHANGED_FROM = frozenset(
    {"increased", "decreased", "increase", "decrease", "grown", "enlarged", "reduced", "up", "down", "changed", "size"}
)
# A larger figure is not the size of anything in a chest.
LARGEST_SIZE_MM = 500.0


@dataclass(frozen=True, slots=True)
class Mention:
    """A phrase of the lexicon, or a size (kind "size", value in mm), at words [start, end) of a sentence."""

    kind: Kind | Literal["size"]
    value: Value | float
    start: int
    end: int


class _Node(dict[str, "_Node"]):
    """One word further in the tree of phrases; `found` where a phrase ends here."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        super().__init__()
        self.found: tuple[Kind, Value] | None = None


@lru_cache(maxsize=8192)
def singular(word: str) -> str:
    """The word without its plural ending; the lexicon's phrases go through the same rule."""
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith("sses") else word[:-1]


def words_of(sentence: str) -> list[str]:
    """The words, numbers and separating signs of a sentence, in lower case and singular."""
    return [singular(word) for word in _WORD.findall(sentence.lower())]


def word_spans(sentence: str) -> list[tuple[int, int]]:
    """Where each of `words_of` stands in the sentence, as characters [start, end)."""
    return [match.span() for match in _WORD.finditer(sentence.lower())]


def _build_tree() -> _Node:
    root = _Node()
    for phrase, kind, value in entries():
        node = root
        for word in words_of(phrase):
            node = node.setdefault(word, _Node())
        node.found = (kind, value)
    return root


_TREE = _build_tree()


def sentences_of(text: str) -> list[str]:
    """The sentences of a report, stripped; list items and headed lines count as sentences."""
    flat = _ABBREVIATION.sub(r"\1", _SPACES.sub(" ", text))
    return [sentence for part in _SENTENCE_END.split(flat) if (sentence := part.strip())]


def _number(word: str) -> float:
    return float(word.replace(",", "."))


def _size_at(words: list[str], start: int) -> Mention | None:
    """The size that begins at a number: `12 mm`, `1.2 cm`, `12 x 9 mm`, `12 mm x 9 mm`; the largest diameter."""
    numbers, largest, end, place = [_number(words[start])], 0.0, start, start + 1
    while place < len(words):
        word = words[place]
        if word in _MILLIMETRES:
            largest = max(largest, *(number * _MILLIMETRES[word] for number in numbers))
            numbers, end = [], place + 1
            follows = words[place + 1] if place + 1 < len(words) else ""
            if follows not in {"x", _TIMES, "by"}:
                break
        elif word[0].isdigit():
            numbers.append(_number(word))
            if len(numbers) > 4:
                break
        elif word not in _BETWEEN_NUMBERS:
            break
        place += 1
    if end == start or not 0 < largest <= LARGEST_SIZE_MM:
        return None
    if end < len(words) and words[end] in _NOT_A_SIZE_BEFORE:
        return None
    return Mention("size", largest, start, end)


def _is_earlier(words: list[str], place: int) -> bool:
    """Whether the size at a place is of an earlier examination: "previously 9 mm", "increased from 9 mm"."""
    before = words[max(0, place - 2) : place]
    return not _EARLIER.isdisjoint(before) or (before[-1:] == ["from"] and before[0] in _CHANGED_FROM)


def mentions_of(words: list[str]) -> list[Mention]:
    """All mentions in a sentence's words, from left to right, the longest phrase at each place."""
    mentions: list[Mention] = []
    place = 0
    while place < len(words):
        word = words[place]
        if word[0].isdigit():
            size = _size_at(words, place)
            if size is not None and not _is_earlier(words, place):
                mentions.append(size)
            place = size.end if size is not None else place + 1
            continue
        node, end, longest = _TREE.get(word), place, None
        while node is not None:
            end += 1
            if node.found is not None:
                longest = (node.found, end)
            node = node.get(words[end]) if end < len(words) else None
        if longest is None:
            place += 1
            continue
        (kind, value), end = longest
        mentions.append(Mention(kind, value, place, end))
        place = end
    return mentions
