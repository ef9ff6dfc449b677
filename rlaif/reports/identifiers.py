"""What in a report may point to a patient: a check before text leaves the site, not a de-identification.

The kinds are those of the HIPAA "safe harbor" list (45 CFR 164.514(b)(2)) that report text holds; a year alone is none.
Names are found beside a title, a label or a doctor's degree, in English wording. Every pattern is bounded or
possessive, so that the time is linear in the length of the text.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["date", "name", "record_number", "phone", "email", "address", "age", "url"]

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
    found = [Identifier("name", start, end) for start, end in _names(text)]
    for kind, pattern in _WORD_PATTERNS:
        found += [Identifier(kind, *match.span("value")) for match in pattern.finditer(text)]
    if _DIGIT.search(text):
        for kind, pattern in _NUMBER_PATTERNS:
            found += [Identifier(kind, *match.span("value")) for match in pattern.finditer(text)]
        found += [Identifier("date", start, end) for start, end in _numeric_dates(text)]
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


# One character for one, so that places in the text stay: dashes, apostrophes, spaces and the full-width signs.
_PLAIN = str.maketrans(
    "\u2010\u2011\u2012\u2013\u2014\u2212\u2018\u2019\u00a0\u202f\u00d7\uff0f\uff0d\uff0e\uff1a\uff20\uff0c",
    "------''  x/-.:@,",
)
_DIGIT = re.compile(r"\d")
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
_WORD_PATTERNS = tuple((kind, re.compile(form)) for kind, form in _WORD_FORMS)
_NUMBER_PATTERNS = tuple((kind, re.compile(form)) for kind, form in _NUMBER_FORMS)

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


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _numeric_dates(text: str) -> Iterator[tuple[int, int]]:
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


# Exact case where a title is also a study or a disease: MR, MRS, MS, DR.
_TITLE = re.compile(
    r"(?<!\w)(?:(?:[Dd]rs?|DRS?|[Pp]rof|PROF|MRS)\.|(?:Drs?|Prof|Mr|Mrs|Ms|Mx)(?!\w)\.?|"
    r"(?:Miss|Doctor|Professor|Nurse)(?!\w)|(?:(?<=WITH )|(?<=BY )|(?<=TO ))DR(?!\w))\s{0,3}"
)
_PERSON = (
    r"(?:physicians?|doctor|provider|clinician|radiologist|surgeon|consultant|resident|fellow|technologist|"
    r"practitioner|md)"
)
_ROLE = r"(?:referring|ordering|attending|requesting|interpreting|reporting|reading|primary care|signing|performing)"
_NAME_LABEL = re.compile(
    r"(?<!\w)(?i:(?P<plain>(?:patient|pt|patient's|last|first|family|given|middle|maiden|full)\s?name|surname)|"
    rf"(?P<patient>patient|pt)|(?:{_ROLE}\s)?{_PERSON}|{_ROLE}|(?:electronically\s)?signed|dictated|transcriptionist|"
    r"transcribed|verified|approved|cc|/s/)[ \t]{0,8}(?:[:=]|(?<=/s/)|(?<=/s/ ))[ \t]{0,20}"
)
_LINE_NAME = re.compile(r"(?:^|(?<=[\n;|]))[ \t]{0,4}(?P<plain>[Nn]ame|NAME)(?P<patient>)[ \t]{0,8}:[ \t]{0,20}")
# One word is a name where nothing goes on after it: "Patient: Smith, 45", and not "Patient: Obese male".
_NAME_STANDS_ALONE = re.compile(r"[ \t]{0,8}(?:[,;|(\d]|$|\n)")
_DONE_BY = re.compile(
    r"(?<!\w)(?i:(?:dictated|signed|read|reported|interpreted|reviewed|verified|approved|transcribed|requested|referred|"
    r"ordered|authenticated|finali[sz]ed|edited|performed|prepared|entered|attested|created)\s(?:off\s)?by)[\s:]{1,3}"
)
_TOLD = re.compile(
    r"(?<!\w)(?:(?:[Dd]iscussed|[Rr]eviewed|[Ss]poke|[Cc]onfirmed)\swith|(?:[Cc]ommunicated|[Rr]elayed|[Rr]eported|"
    r"[Cc]onveyed|[Gg]iven|[Tt]elephoned|[Cc]alled)\sto|[Nn]otified|[Pp]aged|[Ii]nformed|[Pp]atient(?:\s[Nn]ame)?)\s"
)
_DEGREE = re.compile(
    r"(?P<comma>,?)\s(?:M\.?D\b|MBBS|MBChB|FRCR|FRCPC|FACR|FRANZCR|Ph\.?D\b|PhD\b|D\.O\.|RN\b|PA-C\b|CRNP\b)"
)

_WORD = re.compile(r"[^\W\d_]{1,40}+(?:['-][^\W\d_]{1,40}+){0,3}+\.?(?!\w)")
_BETWEEN_WORDS = re.compile(r"[ \t]{1,3}")
_LAST_FIRST = re.compile(r",[ \t]{0,2}")
_MOST_WORDS = 6
_PARTICLES = _words("al bin da de del den der di dos du el la le ten ter van von y")
# Capitalised or not, these begin no name after a title or a label, and end one.
_NO_NAMES = _words(
    """
    a about above acute adult after age aged agree agreed agrees all also am an and angiogram angiography anonymised
    anonymized anonymous any appears are as at available axial be because been before below blood brain but by can
    cardiac cardiology care case cc center centre change chest child clear clinic clinical clinician coded compared
    comparison complains complete consultant contact contrast coronal correlation critical ct cta cxr date dated
    december deidentified denies department dept did dob doctor dr drs due during ed electronically emergency er
    evaluation exam examination february fellow female film final finding findings floor follow following for from
    given group had has have he head heart her his history home hospital icu id if image images imaging impression
    in indication infant inpatient internal intubated is it january july lateral left liver lower lung lungs male
    man manager march mass may md medical medicine mild mother motion mr mri mrn mrs ms na name neck new nil no none
    nonsmoker normal not notes notified november nurse obese october of office on oncologist oncology or ordering
    other our out outpatient page paged patient pediatric performed phone physician pneumothorax portable position
    positioning positive post preliminary presented presents primary prior prof professor prone protocol provider
    pulmonary radiograph radiologist radiology rate recommendation recommended redacted referring removed report
    reports resident respiratory result results reviewed right rn rotated sagittal same scan see september series
    service sex she should signed significant since small smoker spectroscopy spine staff states status study supine
    surgeon surgery surgical team technique technologist telephone that the their there these they thin this
    thoracic thorax time to today transcribed transplant trauma treating unavailable unchanged unit unknown
    unremarkable up upper urgent using very via view views ward was we were when which white who wife will with
    withheld without woman would xray yes you your
    """
)


def _names(text: str) -> Iterator[tuple[int, int]]:
    for match in _TITLE.finditer(text):
        # "dr. smith" in a report without capitals.
        words, end = _name_at(text, match.end())
        if not words and match[0][0].islower() and "." in match[0]:
            words, end = _name_at(text, match.end(), small=True, most=1)
        if words:
            yield match.end(), end
    for label in (_NAME_LABEL, _LINE_NAME):
        for match in label.finditer(text):
            small = match["plain"] is not None and text[match.end() : match.end() + 1].islower()
            words, end = _name_at(text, match.end(), small=small, comma=True, most=3 if small else _MOST_WORDS)
            if words > 1 or (words and (not match["patient"] or _NAME_STANDS_ALONE.match(text, end))):
                yield match.end(), end
    for done in (_DONE_BY, _TOLD):
        for match in done.finditer(text):
            words, end = _name_at(text, match.end(), comma=done is _DONE_BY)
            # All else may be written in capitals, too.
            if words > 1 and (done is _DONE_BY or not text[match.end() : end].isupper()):
                yield match.end(), end
    for match in _DEGREE.finditer(text):
        yield from _name_before(text, match)


def _name_at(
    text: str, start: int, *, small: bool = False, comma: bool = False, most: int = _MOST_WORDS
) -> tuple[int, int]:
    """How many words of a name stand at `start`, and where they end; `comma` lets "LAST, FIRST" be one name."""
    words, position, end = 0, start, start
    while words < most and (word := _WORD.match(text, position)):
        bare = word[0].rstrip(".")
        lower = bare.lower()
        initial = len(bare) == 1 and bare.isupper()
        if (lower in _NO_NAMES and not initial) or set(lower) <= set("x-") or (small and len(word[0]) < 2):
            break
        if small or bare[0] != bare[0].lower() or bare[0].upper() == bare[0]:
            words, end = words + 1, word.end() - (word[0] != bare and len(bare) > 1)
        elif lower not in _PARTICLES:
            break
        gap = None if end < word.end() and word[0] != bare else _BETWEEN_WORDS.match(text, word.end())
        if gap is None and comma and words:
            gap, comma = _LAST_FIRST.match(text, word.end()), False
        if gap is None:
            break
        position = gap.end()
    # One letter is a sex, "N/A", or a name already cut down.
    return (words, end) if len(text[start:end].strip(".")) > 1 else (0, start)


def _name_before(text: str, degree: re.Match[str]) -> Iterator[tuple[int, int]]:
    """The two or three capitalised words before a degree."""
    before = list(_WORD.finditer(text, max(0, degree.start() - 60), degree.start()))[-3:]
    while before:
        start = before[0].start()
        words, end = _name_at(text, start)
        if words == len(before) > 1 and end == degree.start() and (degree["comma"] or not text[start:end].isupper()):
            yield start, end
            return
        before = before[1:]
