"""The wording of identifiers in report text: numbers, dates and addresses. Names are found in identifier_names.py.

Every pattern is bounded or possessive, so that the time is linear in the length of the text. What is found stands in
the group `value`.
"""

import re
from collections.abc import Iterator
from typing import Literal

Kind = Literal["date", "name", "record_number", "phone", "email", "address", "age", "url"]

_NO_UNIT = r"(?!\s{0,3}(?:mm|cm|m[lL]|cc|HU|hu|[xX%])(?!\w))"
_TIME = r"(?:(?:,?\s{1,2}(?:at\s{1,2})?|T)\d{1,2}:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:\s?[AaPp]\.?[Mm]\b|Z)?)?"
_YEAR = r"(?:19|20)\d\d(?!\d)"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?!\d)(?:st|nd|rd|th|ST|ND|RD|TH)?+(?!\w)"
_GAP = r"[\s.,/-]{1,3}"
_MONTH_NAMES = (
    *("january", "february", "march", "april", "june", "july", "august", "september", "october", "november"),
    *("december", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sept", "sep", "oct", "nov", "dec"),
)
_MONTH_NAME = rf"(?i:{'|'.join(_MONTH_NAMES)})(?![^\W\d_])"
_MONTH = rf"{_MONTH_NAME}\.?"
_ANY_MONTH = rf"(?:{_MONTH}|(?i:may)(?![^\W\d_]))"
_SHORT_YEAR = r"'?\d\d(?!\w|\.\d)"

# What stands before a number that is one of an examination's own.
_LABEL_END = r"(?:\s{0,2}(?i:number|numbers|no|nr|num|id|uid)\b\.?)?+[\s:#=.-]{0,4}"
_RECORD = (
    r"(?i:m\.?r\.?n(?![^\W\d_])\.?|medical record|(?:patient|pat\.?|hospital|study|exam|examination|visit|encounter|"
    r"chart|health plan|unit|insurance|member|policy|specimen)\s{0,2}(?=(?:number|no|nr|num|id|uid)\b|#)|"
    r"(?:order|case|account|acct|document|file|record)\.?\s{0,2}(?=(?:number|no|nr|id)\b[\s.:#]{0,3}\d|#)|"
    r"accession|acc\b\.?(?=\s{0,2}(?:no|nr|number|#|:))|nhs(?=\s{0,2}(?:number|no|#|:|\d))|mr\s?#|"
    r"p?id(?=\s{0,2}[:#])|social security|ssn)"
)
_NUMBER = r"(?=[A-Za-z./-]{0,12}\d)[A-Za-z0-9](?:\w|[/.-](?=\w)|[ ](?=\d)){2,40}+"

_WORD_FORMS: tuple[tuple[Kind, str], ...] = (
    ("email", r"(?<![\w.+%-])(?P<value>[\w.+%-]++@[\w-]{1,63}+(?:\.[\w-]{1,63}+){1,8}+)"),
    ("url", r"(?<!\w)(?P<value>(?i:https?://|ftp://|www\.)[^\s<>\"]{2,2000}+)"),
)
_NUMBER_FORMS: tuple[tuple[Kind, str], ...] = (
    ("date", rf"(?<!\w)(?P<value>{_ANY_MONTH}{_GAP}{_DAY}{_GAP}{_YEAR}{_TIME})"),
    ("date", rf"(?<!\w)(?P<value>{_DAY}{_GAP}(?:of\s)?{_ANY_MONTH}{_GAP}(?:{_YEAR}|{_SHORT_YEAR}){_TIME})"),
    ("date", rf"(?<!\w)(?P<value>\d{{1,2}}{_ANY_MONTH}(?:{_YEAR}|\d\d(?!\w)))"),
    ("date", rf"(?<!\w)(?P<value>{_ANY_MONTH}(?:{_GAP}|\sof\s){_YEAR})"),
    # "May 5" is a date; "5 may", "NODULE 2 MAY BE" are none.
    ("date", rf"(?<!\w)(?P<value>(?:{_MONTH}|May)\s{{1,2}}{_DAY}){_NO_UNIT}(?![.,/-]\d)"),
    ("date", rf"(?<![\w.,/-])(?P<value>{_DAY}[\s.-]{{1,2}}(?:of\s)?{_MONTH_NAME})(?!\w)"),
    ("date", r"(?<![\w.,])(?P<value>(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))(?!\w)"),
    ("record_number", rf"(?<!\w){_RECORD}{_LABEL_END}(?P<value>{_NUMBER})"),
    ("record_number", r"(?<![\w-])(?P<value>\d{3}-\d\d-\d{4})(?![\w-])"),
    # A DICOM UID, then long runs of digits, alone or after the letters of a site.
    ("record_number", r"(?<![\w.])(?P<value>[0-2](?:\.\d{1,39}){5,30}+)"),
    ("record_number", r"(?<![\w.,])(?P<value>[A-Za-z]{0,4}[-_]?\d{7,}+[A-Za-z]{0,2})(?![\w%])"),
    ("phone", r"(?<![\w.-])(?P<value>(?:\+?1[ .-]?)?(?:\(\d{3}\)\s?|\d{3}[.-])\d{3}[ .-]\d{4})(?!\w)"),
    ("phone", r"(?<!\w)(?P<value>\+(?:[ .()-]{0,2}\d){8,15}+)(?!\w)"),
    (
        "phone",
        r"(?<!\w)(?i:(?:tele)?phone|tel|fax|pager|mobile|cell(?= ?(?:no|number|#|:))|ext|called at)\b"
        r"\.?(?:\s?(?i:no|number)\b\.?)?+[\s:#]{0,3}(?P<value>[+(]?\d(?:[ ().-]{0,2}\d){3,14}+)(?!\w)"
        rf"{_NO_UNIT}",
    ),
    (
        "address",
        r"(?<![\w.-])(?P<value>\d{1,5}[A-Za-z]?\s(?:[A-Z][\w.'-]{0,24}\s){1,4}?"
        r"(?:Street|St\.|Avenue|Ave\b\.?|Road|Rd\b\.?|Boulevard|Blvd\b\.?|Lane|Drive|Square|Terrace|Highway)(?!\w))",
    ),
    ("address", r"(?<!\w)(?P<value>(?i:p\.?\s?o\.?\s?box)\s{0,2}\d{1,8})(?!\w)"),
    (
        "age",
        r"(?<![\w.,/-])(?P<value>(?:9\d|1[0-2]\d)[\s-]?(?i:years?|yrs?|y)[\s./-]{0,2}(?i:old|o\b|of age)|"
        r"(?:9\d|1[0-2]\d)\s?[yY](?=\s(?:male|female|man|woman)|[MF]\b))",
    ),
    ("age", rf"(?<!\w)(?i:aged?)\s{{0,2}}[:=]?\s{{0,2}}(?P<value>9\d|1[0-2]\d)(?![\w.]){_NO_UNIT}"),
)
WORD_PATTERNS = tuple((kind, re.compile(form)) for kind, form in _WORD_FORMS)
NUMBER_PATTERNS = tuple((kind, re.compile(form)) for kind, form in _NUMBER_FORMS)

_NUMERIC_DATE = re.compile(
    r"(?<!\w)(?P<first>\d{1,4})(?P<mark>\s?[/.-]\s?)(?P<second>\d{1,2})(?P=mark)(?P<third>\d{1,4})(?!\d)"
    rf"{_TIME}{_NO_UNIT}"
)
_CHAINED_BEFORE = re.compile(r"(?:/|\d[.,-])$")
_CHAINED = re.compile(r"[\w%]|[.,/-]\d")
_MONTH_AND_YEAR = re.compile(rf"(?<![\w/.,-])(?:0?[1-9]|1[0-2])/{_YEAR}(?![\w/]|[.,-]\d){_NO_UNIT}")
# Day and month alone are a date only where the words say so: 3/12 may count lymph nodes.
_DAY_AND_MONTH = re.compile(
    r"(?<!\w)(?i:dated?|since|(?:study|exam|examination|cta?|scan|radiographs?|x-rays?|films?|mri|performed|done|"
    r"obtained|compar(?:ed|ison)|prior|previous)\s(?:of|from|on|to|with|dated))[\s:]{1,2}"
    rf"(?P<value>\d{{1,2}}/\d{{1,2}})(?![\w/%]|[.,-]\d|\s(?:of|years?|months?)\b){_NO_UNIT}"
)
# Before such numbers a date would be a range or a count.
_COUNTED = re.compile(
    r"(?i:images?|img|im|series|ser?|slices?|ribs?|segments?|levels?|sections?|frames?|zones?)[\s.#:]{0,3}$"
)


def numeric_dates(text: str) -> Iterator[tuple[int, int]]:
    """Where dates written in numbers alone begin and end."""
    for match in _NUMERIC_DATE.finditer(text):
        if _is_date(match, text) and not _COUNTED.search(text[max(0, match.start() - 12) : match.start()]):
            yield match.span()
    for match in _MONTH_AND_YEAR.finditer(text):
        if not _COUNTED.search(text[max(0, match.start() - 12) : match.start()]):
            yield match.span()
    for match in _DAY_AND_MONTH.finditer(text):
        first, second = sorted(map(int, match["value"].split("/")))
        if 1 <= first <= 12 and second <= 31:
            yield match.span("value")


def _is_date(match: re.Match[str], text: str) -> bool:
    """Whether three numbers are a date: year first or last, the others a day and a month."""
    first, second, third = (match[name] for name in ("first", "second", "third"))
    if len(first) == 4:
        return 1900 <= int(first) < 2100 and len(third) <= 2 and 1 <= int(second) <= 12 and 1 <= int(third) <= 31
    lower, upper = sorted((int(first), int(second)))
    if len(first) > 2 or not (1 <= lower <= 12 and upper <= 31):
        return False
    if len(third) == 4:
        return 1900 <= int(third) < 2100
    # A year of two digits could be any number: not in longer chains, and not in ribs 9-10-11.
    in_a_row = int(third) - int(second) == int(second) - int(first) == 1
    chained = _CHAINED_BEFORE.search(text, max(0, match.start() - 2), match.start()) or _CHAINED.match(
        text, match.end()
    )
    return len(third) == 2 and len(match["mark"]) == 1 and not in_a_row and not chained
