"""Reports without the sentences that one CT alone cannot bear out, as Argus curated CT-3DRRG.

Its appendix A had GPT-4o take out three kinds of sentences: comparisons with earlier studies, values that stand in the
patient's record and not in the CT, and measurements that need a tool. Here the rules of
`rlaif.reports.curation_rules` do it.
"""

import re
from dataclasses import dataclass
from typing import Literal

from rlaif.reports.curation_rules import compares, gives_calibre, gives_clinical_value, gives_size

Reason = Literal["comparison", "clinical value", "measurement"]
Measurements = Literal["keep", "calibres", "all"]

_END = re.compile(r"[.!?][)\"']*\s+|(?<=[a-z)]\.)(?=[A-Z][a-z])|\n\s*\n")
# What ends in a stop without ending a sentence: always, where a number follows, and where a small letter does.
_NEVER_LAST = re.compile(r"\b(?:dr|drs|dra|prof|mr|mrs|ms|vs|cf|e\.g|i\.e)\.$", re.IGNORECASE)
_BEFORE_NUMBER = re.compile(r"\b(?:nos?|nr|figs?|im|img|se|ser|approx|ca|max|min|seg|vol)\.$", re.IGNORECASE)
_BEFORE_SMALL_LETTER = re.compile(r"\b(?:etc|incl|approx|ca|resp|a\.m|p\.m|max|min|diam|lat|med|inf|sup|ant|post)\.$")
_ITEM_NUMBER = re.compile(r"\(?\d{1,2}[.)]")


@dataclass(frozen=True)
class Removed:
    """A sentence that was taken out of a report, and why."""

    sentence: str
    reason: Reason


@dataclass(frozen=True)
class Curated:
    """A report without the sentences that were taken out of it, and these."""

    text: str
    removed: tuple[Removed, ...]


def curate(
    text: str, *, comparisons: bool = True, clinical_values: bool = True, measurements: Measurements = "calibres"
) -> Curated:
    """The report without sentences that compare with earlier studies, give values no CT shows, or measure.

    `measurements` says which measurements go: those of the calibre of vessels and of the heart's width (`calibres`;
    the paper's example is one), or every size and density (`all`; the paper can be read so, but then the report does
    not name a nodule that it measures). A text that nothing is taken out of stays as it is; a list is not numbered
    anew.
    """
    kept: list[str] = []
    removed: list[Removed] = []
    for sentence in sentences_of(text):
        reason: Reason | None = None
        if comparisons and compares(sentence):
            reason = "comparison"
        elif clinical_values and gives_clinical_value(sentence):
            reason = "clinical value"
        elif (measurements != "keep" and gives_calibre(sentence)) or (measurements == "all" and gives_size(sentence)):
            reason = "measurement"
        if reason is None:
            kept.append(sentence)
        else:
            removed.append(Removed(sentence, reason))
    return Curated(" ".join(kept) if removed else text, tuple(removed))


def sentences_of(text: str) -> list[str]:
    """The sentences of a report as they are written; the number of a list's item ("2.") belongs to its sentence."""
    sentences: list[str] = []
    start = 0
    for end in _END.finditer(text):
        # Abbreviations and numbers of items are short: the last characters say whether this is one.
        tail, after = text[max(start, end.end() - 16) : end.end()].strip(), text[end.end() : end.end() + 1]
        if tail and not _ITEM_NUMBER.fullmatch(tail) and not _goes_on(tail, after):
            sentences.append(text[start : end.end()].strip())
            start = end.end()
    last = text[start:].strip()
    return [*sentences, last] if last else sentences


def _goes_on(before: str, after: str) -> bool:
    """Whether a text that ends in a stop is only the beginning of a sentence, whose next character is `after`."""
    return bool(
        _NEVER_LAST.search(before)
        or (after.isdigit() and _BEFORE_NUMBER.search(before))
        or (after.islower() and _BEFORE_SMALL_LETTER.search(before))
    )
