"""Findings from report text by rules: what is named, present or negated, where, how large, how severe.

Offline, deterministic and linear in the length of the text.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from rlaif.reports.attributes import assign_attributes
from rlaif.reports.certainty import set_certainty
from rlaif.reports.findings import Change, Finding
from rlaif.reports.heads import Head, heads_of
from rlaif.reports.hedges import CHANGES
from rlaif.reports.language import is_english
from rlaif.reports.modifiers import RESOLVED_PHRASES
from rlaif.reports.phrases import Mention, mentions_of, sentences_of, word_spans, words_of
from rlaif.reports.reading import findings_of, location_of, side_of

_DEFINITE = frozenset({"the", "this", "that", "these", "those", "its", "described", "mentioned"})
_SUPERLATIVE = frozenset({"largest", "biggest", "larger"})
_PRONOUNS = frozenset({"it", "its", "they", "this", "these", "largest", "measuring", "measure"})
_AFTER_ARTICLE = frozenset(
    {"largest", "biggest", "larger", "lesion", "finding", "size", "dimension", "diameter", "maximum"}
)
# Words that may stand between a finding and its place: "in the", "of the left".
_WORDS_TO_PLACE = 3
# How many findings back "the nodule" may refer to.
_LOOK_BACK = 8
# Sentences that are read once and remembered, and the characters of the longest: reports share most of theirs.
_REMEMBERED = 1 << 14
_LONGEST_REMEMBERED = 300
# A report is asked for several times in a row: by the judge, and by other metrics.
_TEXTS_REMEMBERED = 16

_COMPARISON = re.compile(
    r"\b(compar(?:ed|ison|ing|ative)|prior|previous(?:ly)?|earlier|unchanged|no (?:\w+ )?(?:interval )?change|stable|"
    r"interval|new|newly|increas(?:ed|ing|e)|decreas(?:ed|ing|e)|progress(?:ion|ed|ing|ive)|regress(?:ion|ed|ing)|"
    r"wors(?:e|ened|ening)|improv(?:ed|ement|ing)|resolv(?:ed|ing)|resolution|persist(?:ent|ing|s)|again|remains?|"
    r"last (?:examination|exam|study|scan|ct))\b"
)
# The same words where they compare nothing: quality of tissue, history, the heart's size, no earlier study at hand.
_NO_COMPARISON = re.compile(
    r"\b(?:(?:increas|decreas)(?:ed|e|ing) (?:in )?(?:density|densities|attenuation|opacity|opacities|calib\w+|"
    r"bronch\w+|heart|cardiac|transverse|lucency|ap diameter|kyphosis|thickness)|"
    r"(?:density|opacity|attenuation|thickness|heart|cardiac|silhouette|heart size|cardiac size) (?:\w+ ){0,3}?"
    r"increas(?:ed|es|e)|"
    r"no (?:prior|previous|earlier)[\w ,]{0,40}|comparison:? (?:none|not available|is not available)|"
    r"(?:prior|previous) (?:\w+ )?(?:surgery|sternotomy|operation|fractures?|trauma|tuberculosis|granulomatous|"
    r"infection|cholecystectomy|bypass|resection|lobectomy|mastectomy)|(?:hemodynamically|clinically) stable|"
    r"remain(?:s|der)? (?:of|clear|normal)|resolution ct|high resolution)"
)


@lru_cache(maxsize=_TEXTS_REMEMBERED)
def extract(text: str) -> tuple[Finding, ...]:
    """The findings that a report names, present and negated, in the order of the text.

    Attributes belong to the nearest finding within their clause. A following sentence such as
    "It measures 12 mm" completes the finding before it. A text in another language has no findings: its
    negations would be missed where its nouns are the same.
    """
    findings: list[Finding] = []
    if not is_english(text):
        return ()
    for sentence in sentences_of(text):
        known = len(findings)
        read = _sentence(sentence)
        for head, found in read.named:
            target = _taken_up(read.words, head, findings, known, found)
            if target is None:
                findings.append(found)
            else:
                findings[target] = _completed(findings[target], found)
        if not read.named and findings and _speaks_of_last(read.words):
            _complete_last(findings, read.mentions)
    return tuple(findings)


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence's words and mentions, and the findings that it names; remembered, so nothing of it may change."""

    words: list[str]
    mentions: list[Mention]
    named: tuple[tuple[Head, Finding], ...]


def _read(sentence: str) -> _Sentence:
    """What one sentence says, clause by clause."""
    words = words_of(sentence)
    mentions = mentions_of(words)
    named: list[tuple[Head, Finding]] = []
    clause: list[Mention] = []
    for mention in [*mentions, None]:
        if mention is not None and mention.kind != "clause_end":
            clause.append(mention)
            continue
        heads = heads_of(words, clause)
        if heads:
            set_certainty(words, clause, heads)
            assign_attributes(words, clause, heads)
        named += [(head, found) for head in heads for found in findings_of(head, sentence)]
        clause = []
    return _Sentence(words, mentions, tuple(named))


_remembered = lru_cache(maxsize=_REMEMBERED)(_read)


def _sentence(sentence: str) -> _Sentence:
    return _remembered(sentence) if len(sentence) <= _LONGEST_REMEMBERED else _read(sentence)


def named_in(sentence: str) -> list[tuple[Finding, int, int]]:
    """The findings that a sentence names by itself, each with the characters [start, end) that name and place it."""
    spans, named = word_spans(sentence), []
    for head, found in _sentence(sentence).named:
        first, last = _reach(head)
        named.append((found, spans[first][0], spans[last - 1][1]))
    return named


def _reach(head: Head) -> tuple[int, int]:
    """The words [start, end) of a head with the attributes that stand beside it: "12 mm nodule in the right lung"."""
    start, end = head.start, head.end
    for attribute in sorted(head.attributes, key=lambda one: -one.end):
        if attribute.start < start <= attribute.end + 1:
            start = attribute.start
    for attribute in sorted(head.attributes, key=lambda one: one.start):
        if attribute.end > end >= attribute.start - _WORDS_TO_PLACE:
            end = attribute.end
    return start, end


def _compatible(first: Finding, second: Finding) -> bool:
    pairs = (
        (first.side, second.side),
        (first.location, second.location),
        (first.size_mm, second.size_mm),
        (first.severity, second.severity),
    )
    return all(a is None or b is None or a == b for a, b in pairs)


def _taken_up(words: list[str], head: Head, findings: list[Finding], known: int, found: Finding) -> int | None:
    """The place of the finding that "the nodule" (of an earlier sentence) or "the largest nodule" takes up, if any."""
    before = words[max(0, head.start - 2) : head.start]
    if not head.present or _DEFINITE.isdisjoint(before):
        return None
    end = known if _SUPERLATIVE.isdisjoint(before) else len(findings)
    for index in range(end - 1, max(-1, end - 1 - _LOOK_BACK), -1):
        other = findings[index]
        if other.name == found.name and other.present:
            return index if _compatible(other, found) else None
    return None


def _completed(finding: Finding, more: Finding) -> Finding:
    return replace(
        finding,
        side=finding.side or more.side,
        location=finding.location or more.location,
        size_mm=finding.size_mm or more.size_mm,
        severity=finding.severity or more.severity,
        change=finding.change or more.change,
    )


def _speaks_of_last(words: list[str]) -> bool:
    return words[:1] != [] and (
        words[0] in _PRONOUNS or (words[0] == "the" and not _AFTER_ARTICLE.isdisjoint(words[1:2]))
    )


def _complete_last(findings: list[Finding], mentions: list[Mention]) -> None:
    """Add the size, place and change of a sentence without a finding of its own to the last finding."""
    last = findings[-1]
    if any(m.kind == "negated_before" and m.value in RESOLVED_PHRASES for m in mentions):
        findings[-1] = replace(last, present=False, certainty="definite", change="resolved")
        return
    change: Change | None = next(
        (c for c in CHANGES if any(m.kind == "change" and m.value == c for m in mentions)), None
    )
    places = [mention for mention in mentions if mention.kind == "place"]
    sizes = [mention.value for mention in mentions if isinstance(mention.value, float)]
    more = replace(
        last, side=side_of(places), location=location_of(places), size_mm=max(sizes, default=None), change=change
    )
    if last.present and _compatible(last, more):
        findings[-1] = _completed(last, more)


def mentions_comparison(text: str) -> bool:
    """Whether a report compares with an earlier examination ("unchanged", "new", "compared with the prior")."""
    return any(
        _compares_remembered(sentence) if len(sentence) <= _LONGEST_REMEMBERED else _compares(sentence)
        for sentence in sentences_of(text)
    )


def _compares(sentence: str) -> bool:
    return _COMPARISON.search(_NO_COMPARISON.sub(" ", sentence.lower())) is not None


_compares_remembered = lru_cache(maxsize=_REMEMBERED)(_compares)
