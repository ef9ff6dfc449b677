"""Names of people in report text: beside a title, a label or a doctor's degree, in English wording.

Every pattern is bounded or possessive, so that the time is linear in the length of the text.
"""

import re
from collections.abc import Iterator


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


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


def names_of_people(text: str) -> Iterator[tuple[int, int]]:
    """Where names begin and end, in no order; one may be found twice."""
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
