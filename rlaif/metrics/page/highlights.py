"""Where two reports name findings, and how each stands to the other report: for the marks in the case browser."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rlaif.judges.rules import describe, match_findings
from rlaif.reports.extraction import extract, named_in
from rlaif.reports.findings import Finding
from rlaif.reports.phrases import sentences_of

Kind = Literal["matched", "differs", "missing", "hallucinated"]


@dataclass(frozen=True)
class Highlight:
    """Characters [start, end) of a report that name a finding, how it stands to the other report, and why."""

    start: int
    end: int
    kind: Kind
    note: str


@dataclass(frozen=True)
class Compared:
    """The marks of a reference and of a candidate, and the findings' names with how each stands, without repeats."""

    reference: tuple[Highlight, ...] = ()
    candidate: tuple[Highlight, ...] = ()
    found: tuple[tuple[str, Kind], ...] = ()


@dataclass(frozen=True)
class _Told:
    """A finding as the rules matched it."""

    finding: Finding
    kind: Kind
    note: str


def compared_findings(reference: str, candidate: str) -> Compared:
    """Compare the findings of two reports as the rules judge does, and say where each is named.

    `differs` is a finding in another place, of another size or severity, or changed otherwise. What the reference
    only thinks possible is not marked where the candidate leaves it out. A text in another language has no marks.
    """
    if not reference.strip() or not candidate.strip():
        return Compared()
    matches = match_findings(_extracted(reference), _extracted(candidate))
    ours: list[_Told] = []
    theirs: list[_Told] = []
    for own, other, error in matches.pairs:
        kind: Kind = "differs" if error else "matched"
        words = f", {error.replace('_', ' ')}" if error else ""
        ours.append(_Told(own, kind, f"{describe(other)}{words}"))
        theirs.append(_Told(other, kind, f"reference: {describe(own)}{words}"))
    omitted = [finding for finding in matches.missing if finding.certainty == "definite"]
    ours += [_Told(finding, "missing", f"{describe(finding)}: not in this report") for finding in omitted]
    theirs += [
        _Told(finding, "hallucinated", f"{describe(finding)}: not in the reference") for finding in matches.false
    ]
    denied: dict[str, _Told] = {
        finding.name: _Told(finding, "missing", f"denied here; reference: {describe(finding)}") for finding in omitted
    }
    found = dict.fromkeys((one.finding.name, one.kind) for one in (*ours, *theirs))
    return Compared(_marks(reference, ours, {}), _marks(candidate, theirs, denied), tuple(found))


@lru_cache(maxsize=32)
def _extracted(text: str) -> tuple[Finding, ...]:
    return extract(text)


@lru_cache(maxsize=32)
def _named(text: str) -> tuple[tuple[Finding, int, int], ...]:
    """The findings that each sentence of a text names, with their characters in the text."""
    named = []
    for sentence, places in zip(sentences := sentences_of(text), _places(text, sentences), strict=True):
        for finding, start, end in named_in(sentence):
            if start < end <= len(places):
                named.append((finding, places[start], places[end - 1] + 1))
    return tuple(named)


def _places(text: str, sentences: Sequence[str]) -> list[Sequence[int]]:
    """Where each character of each sentence stands in the text, which may have spaces and full stops beside them."""
    cursor = 0
    all_places: list[Sequence[int]] = []
    for sentence in sentences:
        start = text.find(sentence, cursor)
        if start >= 0 and not text[cursor:start].strip():
            cursor = start + len(sentence)
            all_places.append(range(start, cursor))
            continue
        places = []
        for sign in sentence:
            # A space of the sentence may be any white space in the text.
            while cursor < len(text) and text[cursor] != sign and (sign != " " or not text[cursor].isspace()):
                cursor += 1
            places.append(min(cursor, len(text) - 1))
            cursor += 1
        all_places.append(places)
    return all_places


def _marks(text: str, told: Sequence[_Told], denied: dict[str, _Told]) -> tuple[Highlight, ...]:
    """The marks of a text from left to right, none over another."""
    marks: list[Highlight] = []
    for finding, start, end in sorted(_named(text), key=lambda one: one[1:]):
        one = _likest(finding, told) if finding.present else denied.get(finding.name)
        start = max(start, marks[-1].end if marks else 0)
        if one is not None and start < end:
            marks.append(Highlight(start, end, one.kind, one.note))
    return tuple(marks)


def _likest(finding: Finding, told: Sequence[_Told]) -> _Told | None:
    """Which of the matched findings a mention is: that of its name with the most of its attributes."""

    def likeness(one: _Told) -> int:
        other = one.finding
        said = ((finding.side, other.side), (finding.location, other.location), (finding.size_mm, other.size_mm))
        return sum(0 if first is None or second is None else 1 if first == second else -1 for first, second in said)

    return max((one for one in told if one.finding.name == finding.name), key=likeness, default=None)
