"""The rules by which a sentence speaks of something that one CT alone cannot show.

They are made to be careful: a sentence that only may be one of these stays. Reports translated from Turkish or
Spanish say that something "has increased" or "has disappeared" where they mean that it is large, or not there: such
verbs alone are no comparison. Neither is one with the other side or with an organ, nor what an operation left.
"""

import re

_PREVIOUS = r"(?:previous|prior|earlier|preceding|older|baseline|comparison)"
_STUDY = (
    r"(?:stud(?:y|ies)|exams?|examinations?|cts?|ctas?|ctpas?|scans?|tomograph(?:y|ies)|tomograms?|imaging|reports?|"
    r"radiographs?|x-?rays?|films?|pet(?:[-/ ]?ct)?|mris?|angiograph(?:y|ies)|controls?|investigations?)"
)
# Words between the two, none of which begins another phrase ("prior to the study", "compared to the left in this CT").
_BETWEEN = r"(?:[\s,]+(?!(?:to|and|or|with|in|on|of|at|by|from|for|this)\b)[\w/-]+){0,3}?\s+"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DATE = (
    r"(?:\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|"
    rf"(?:\d{{1,2}}\s+)?{_MONTH},?\s+(?:\d{{1,2}},?\s+)?(?:19|20)\d\d|(?:19|20)\d\d(?!\s*(?:mm|cm|hu)))\b"
)
_CHANGE = (
    r"(?:increas\w*|decreas\w*|develop\w*|chang\w*|resol\w*|improv\w*|progress\w*|regress\w*|worsen\w*|appear\w*|"
    r"growth|enlarg\w*|reduc\w*|clearing|stability|stable|placement|remov\w*|new|healing|evolution|insertion|"
    r"advanc\w*|diminish\w*)"
)
_SEEN = (
    r"(?:seen|noted|shown|present|visible|visuali[sz]ed|demonstrated|identified|observed|detected|evident|described|"
    r"reported|measur(?:ed|es|ing)|mentioned|documented|imaged|defined|characteri[sz]ed)"
)
_SIZE_OR_PLACE = r"(?:sizes?|dimensions?|numbers?|appearance|extent|position|volume|configuration|distribution)"

_COMPARISONS = (
    # An earlier study, or a study by its date.
    rf"\b{_PREVIOUS}{_BETWEEN}(?:{_STUDY}|images?)\b",
    rf"\b(?:last|recent|old|initial)\s+(?:[\w/-]+\s+)?{_STUDY}\b",
    r"\bpriors\b",
    rf"\b{_STUDY}\s+(?:of|from|on|dated?|performed on)\s+(?:the\s+)?{_DATE}",
    rf"\bdated\s+{_DATE}",
    r"\b(?:similar|identical|comparable|equal) to (?:the )?(?:prior|previous|last|earlier|before)\b",
    r"\b(?:from|than|to|with|since) (?:the |its )?(?:prior|previous)(?=\s*(?:[.,;:)]|$)|\s+ones?\b)",
    # A comparison, unless it is made within the study; de-identification may have taken out what it is made with.
    r"\bcompar(?:ed|ison|ing)(?:\s+is\s+made)?(?:\s+(?:to|with|against))?\s*(?:[.,;)]|$)",
    rf"\bcompar(?:ed|ison|ing|able)\s+(?:\w+\s+){{0,2}}?(?:to|with|against){_BETWEEN}"
    rf"(?:{_PREVIOUS}\b|{_STUDY}\b|{_DATE}|before\b)",
    r"^\W*comparison\b(?!\s+(?:of|with|to)\b)|\b(?:for|no|without) comparison\b",
    # Time that has passed.
    rf"\binterval\s+(?:[\w-]+\s+){{0,2}}?{_CHANGE}\b|\b(?:in|over|during|for) the interval\b|\binterim\b",
    rf"\bsince\s+(?:the\s+)?(?:{_PREVIOUS}\b|last\b|most recent\b|that\b|{_DATE})|\bsince\s*(?:[.,;)]|$)",
    r"\bthan (?:it was |they were )?before\b|\bas before\b|\b(?:as|than|was|were) previously\b",
    rf"\bpreviously\s*,?\s*(?:\w+ly\s+)?(?:{_SEEN}\b|known\b|was\b|were\b|\d)",
    rf"\b(?:again|still|now)\s+(?:\w+ly\s+)?(?:{_SEEN}|appears?|shows?|persists?|continues?)\b",
    r"\bre-?demonstrat\w+|\bcontinu(?:es?|ed|ing) to (?:be|show|persist)\b|\bno longer\b",
    # Words that mean a change, or that there was none.
    r"\bunchanged\b|\b(?:not|n't)\s+(?:\w+ly\s+)?changed?\b",
    rf"\bno\s+(?:[\w-]+\s+){{0,2}}?changes?\s+(?:\w+\s+){{0,3}}?(?:in|of)\s+(?:\w+\s+){{0,2}}?{_SIZE_OR_PLACE}\b",
    r"(?<!clinically )(?<!mechanically )(?<!dynamically )\bstable\b(?!\s+(?:patient|fracture|fixation|vital|angina))",
    r"\b(?:document\w*|confirm\w*|demonstrat\w*|show\w*|long[- ]term|size)\s+stability\b",
    r"(?<!caudal )\bregress(?:ion|ed|ing)\b|\bprogress(?:ion|ed|ing)\b|\bworsen(?:ed|ing|s)?\b|\benlarging\b",
    r"\bprogressive\s+(?:increase|decrease|worsening|enlargement|growth)\b",
    r"\bimprov(?:ed|ement|ing|es)\b|\bresolving\b|(?<!be )\bresolved\b",
    r"\b(?:complete|partial|near|total|interval|spontaneous)\s+resolution\b",
    # A persistent left vena cava is an anatomy, new bone a finding, and a new onset the patient's word.
    r"\bpersist(?:s|ed|ing)?\b",
    r"\bpersistent\b(?!\s+(?:left|right|superior|svc|ductus|truncus|foramen|sciatic|cardinal|fetal|thym\w+))",
    rf"\bnewly\s+(?:{_SEEN}|develop\w+|appear\w+|emerg\w+|formed|occurr\w+|added)\b",
    r"(?<!periosteal )\bnew\b(?![- ](?:bone|york|onset|born))",
)

# A number that belongs to what was named just before, and is no size.
_VALUE = r"[^\d,;.]{0,20}?\d(?![\d.,]*\s*(?:mm|cm|hu|x)\b)"
_COUNT = r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|twelve|several|few)"
_DURATION = rf"\b{_COUNT}[\s-]*(?:hours?|days?|weeks?|months?|years?)\b"
_SYMPTOM = (
    r"\b(?:symptom\w*|fever\w*|febrile|cough\w*|dyspn\w+|shortness of breath|chills?|malaise|asthenia|fatigue|"
    r"ha?emoptysis|diarrh\w+|vomiting|nausea|headache|anosmia|syncope|(?:chest|abdominal|back|flank) pain|evolution)\b"
)
_LABORATORY = (
    r"\b(?:crp|c[- ]reactive protein|procalcitonin|d[- ]?dimers?|ha?emoglobin|hb|hgb|ha?ematocrit|"
    r"leu[kc]ocyt(?:es?|osis)|wbc|white (?:blood )?cells?|neutrophils?|neutrophilia|lymphocytes?|lymphopenia|"
    r"platelets?|creatinine|urea|bun|e?gfr|troponin|(?:nt-?\s?pro)?-?bnp|ldh|ferritin|fibrinogen|inr|lipase|amylase|"
    r"bilirubin|ast|alt|gpt|ggt|albumin|lactate|hba1c|glucose|gluc?emia|psa|cea|afp|esr|sedimentation rate|sodium|"
    r"potassium|interleukin|il-6)\b"
)

_CLINICAL_VALUES = (
    r"\b(?:sp|sa|pa|pac?)\s?[oc]?o2\b|\bp[oc]o2\b|\bsat(?:uration)?s?\.?\s*(?:of\s+)?(?:o2|oxygen)\b",
    rf"\b(?:o2|oxygen)\s*sat(?:uration)?s?\b|\bsat(?:uration)?s?\b{_VALUE}",
    r"\b(?:fever|febrile|temperature|pyrexia)\b[^,;]{0,30}?\b(?:3[4-9]|4[0-2])(?:[.,]\d)?\b(?!\s*(?:mm|cm|hu|%|x\b))",
    r"\b(?:3[4-9]|4[0-2])(?:[.,]\d)?\s?(?:°|º|degrees?)\s?c\b",
    rf"\bmm\s?hg\b|\bblood pressure\b{_VALUE}|\b(?:bp|ta)\s*[:=]?\s*\d{{2,3}}\s?/\s?\d{{2,3}}\b",
    rf"\b(?:heart|pulse|respiratory) rate\b{_VALUE}|\bhr\s*[:=]?\s*\d{{2,3}}\b|\b\d{{1,3}}\s?(?:bpm|beats|breaths)\b",
    rf"{_LABORATORY}{_VALUE}|\bca\s?-?(?:19[-.]?9|125|15[-.]?3)\b",
    r"\d\s?(?:mg|[uµ]g|mcg|ng|pg|g|mmol|[uµ]mol|meq|m?i?u)\s?/\s?(?:d?l|ml)\b",
    rf"\bejection fraction\b{_VALUE}|\b(?:lv)?ef\s*[:=]?\s*\d{{2}}\s?%|\bfev\s?1\b|\bfvc\b|\bdlco\b",
    r"\bsuv(?:\s?-?max)?\b[^,;]{0,20}?\d",
    r"\b\d{1,3}[- ]?(?:years?|yrs?|months?|days?)[- ]olds?\b|\b\d{1,3}\s?y/?o\b|\baged?\s*:?\s+\d{1,3}\b",
    rf"\bpack[- ]?years?\b|\b\d+(?:[.,]\d+)?\s?(?:kg|lbs?)\b|\b(?:bmi|body mass index)\b{_VALUE}",
    r"\bdlp\b|\bctdi\w*|\bm(?:gy|sv)\b",
    r"\d\s?(?:cc|ml)\s+(?:[\w-]+\s+){0,3}?contrast\b",
    rf"{_DURATION}\s+ago\b|{_SYMPTOM}[^,;]{{0,25}}?{_DURATION}|{_DURATION}[^,;]{{0,20}}?{_SYMPTOM}",
)


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


# Every sentence that a rule is true of holds one of these, or a number: looking for them first is ten times faster.
_COMPARISON_STEMS = (
    "previous", "prior", "earlier", "preceding", "older", "baseline", "compar", "last ", "recent", "old ", "initial",
    "since", "interval", "interim", "before", "again", "still", "now ", "demonstr", "continu", "longer", "change",
    "stab", "regress", "progress", "worsen", "enlarging", "improv", "resol", "persist", "new", "dated", "19", "20",
    "/", ".1", ".2",
)  # fmt: skip
_CLINICAL_STEMS = (
    "o2", "oxygen", "mmhg", "mm hg", "fvc", "dlco", "pack", "dlp", "ctdi", "mgy", "msv", "hour", "day", "week", "month",
    "year",
)  # fmt: skip
_DIGIT = re.compile(r"\d")

_COMPARISON, _CLINICAL_VALUE = _any_of(*_COMPARISONS), _any_of(*_CLINICAL_VALUES)
_SIZE = _any_of(
    r"\d\s*-?\s*(?:mm|cm|millimet(?:er|re)s?|centimet(?:er|re)s?)\b",
    r"\d\s*(?:hu|hounsfield|ml|cc)\b",
    r"\b(?:hu|hounsfield)\b[^,;]{0,15}?\d",
)
_CALIBRE = _any_of(r"\b(?:calib\w+|diameters?|widths?|dilat\w+|ectasia|ectatic|enlarge\w*|measur\w+|wider?|widened)\b")
_VESSEL = _any_of(
    r"\b(?:aort(?:a|as|ic)|arter(?:y|ies|ial)|veins?|vena|cava|trunk|truncus|conus|vessels?|vascular|svc|ivc)\b"
)
_LESION = _any_of(
    r"\b(?:nodul\w*|mass(?:es)?|lesions?|nodes?|lymph\w*|cyst\w*|effusions?|thick\w+|opacit\w+|consolidat\w+|"
    r"hernia\w*|thromb\w+|embol\w+|defects?|plaques?|tumou?rs?|metasta\w+|collections?|ha?ematomas?|abscess\w*|"
    r"fractures?|stones?|calcul\w+|bullae?|diverticul\w*|aneurysm\w*|dissect\w+|catheters?|tubes?|stents?)\b"
)
_HEART_RATIO = _any_of(r"\bcardio-?thoracic (?:ratio|index)\b[^,;]{0,25}?\d")


def compares(sentence: str) -> bool:
    """Whether a sentence speaks of an earlier study, or of a change since one."""
    lower = sentence.lower()
    return any(stem in lower for stem in _COMPARISON_STEMS) and _COMPARISON.search(lower) is not None


def gives_clinical_value(sentence: str) -> bool:
    """Whether a sentence gives a value that stands in the patient's record and cannot be seen in a CT."""
    lower = sentence.lower()
    named = _DIGIT.search(lower) is not None or any(stem in lower for stem in _CLINICAL_STEMS)
    return named and _CLINICAL_VALUE.search(lower) is not None


def gives_size(sentence: str) -> bool:
    """Whether a sentence gives a length, a volume or a density."""
    return _SIZE.search(sentence.lower()) is not None


def gives_calibre(sentence: str) -> bool:
    """Whether a sentence measures a vessel and no lesion in or near one, or the heart against the chest."""
    lower = sentence.lower()
    if _DIGIT.search(lower) is None:
        return False
    if _HEART_RATIO.search(lower) is not None:
        return True
    wanted = (_SIZE, _VESSEL, _CALIBRE)
    return all(pattern.search(lower) for pattern in wanted) and _LESION.search(lower) is None
