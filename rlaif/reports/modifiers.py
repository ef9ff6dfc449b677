"""The words around a finding: side, place, severity, negation, and what parts statements.

Plain phrases as in `rlaif.reports.lexicon`.
"""

SIDE_PHRASES: dict[str, tuple[str, ...]] = {
    "left": ("left", "left sided", "left side", "left lung", "left hemithorax"),
    "right": ("right", "right sided", "right side", "right lung", "right hemithorax"),
    "bilateral": (
        "bilateral", "bilaterally", "both", "both side", "both lung", "both hemithorax", "both hemithoraces",
        "two lung", "left and right", "right and left", "left and right lung", "right and left lung", "either side",
        "left or right", "right or left", "both pleural space",
    ),
}  # fmt: skip
LOCATION_PHRASES: dict[str, tuple[str, ...]] = {
    "upper lobe": ("upper lobe", "upper lung lobe", "superior lobe", "upper pulmonary lobe", "upperlobe"),
    "middle lobe": ("middle lobe", "middle lung lobe", "medial lobe", "mid lobe"),
    "lower lobe": ("lower lobe", "lower lung lobe", "inferior lobe", "lower pulmonary lobe", "lowerlobe"),
    "lingula": (
        "lingula", "lingular", "lingular segment", "lingular lobe", "lingula segment", "lingula of the upper lobe",
    ),
    "apex": (
        "apex", "apical", "lung apex", "apices", "apical segment", "lung apices", "apicoposterior", "apical region",
    ),
    "base": ("base", "basal", "basilar", "lung base", "basal segment", "basal region", "basal area"),
    "upper zone": ("upper zone", "upper lung", "upper lung zone", "upper lung field"),
    "mid zone": (
        "mid zone", "mid lung", "middle zone", "mid lung zone", "midlung", "mid lung field", "middle lung zone",
    ),
    "lower zone": ("lower zone", "lower lung", "lower lung zone", "lower lung field"),
    "perihilar": ("perihilar", "parahilar"),
    "hilum": ("hilum", "hilar", "hila", "hilus"),
    "mediastinum": (
        "mediastinum", "mediastinal", "paratracheal", "subcarinal", "prevascular", "precarinal", "aortopulmonary",
        "aorticopulmonary", "aortopulmonary window", "pretracheal",
    ),
    "chest wall": ("chest wall", "thoracic wall"),
    "axilla": ("axilla", "axillary", "axillae"),
    "supraclavicular": ("supraclavicular",),
    "retrocardiac": ("retrocardiac", "retrocardiac region"),
    "costophrenic angle": ("costophrenic angle", "costophrenic sulcus", "costophrenic recess"),
    "subpleural": ("subpleural",),
    "fissure": ("fissure", "fissural", "major fissure", "minor fissure"),
}  # fmt: skip
# One word that says the side and the place at once, and coordinated lobes.
PLACE_PHRASES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "rul": ("right", ("upper lobe",)),
    "rml": ("right", ("middle lobe",)),
    "rll": ("right", ("lower lobe",)),
    "lul": ("left", ("upper lobe",)),
    "lll": ("left", ("lower lobe",)),
    "bibasilar": ("bilateral", ("base",)),
    "bibasal": ("bilateral", ("base",)),
    "biapical": ("bilateral", ("apex",)),
    "bihilar": ("bilateral", ("hilum",)),
    "upper and lower lobe": (None, ("upper lobe", "lower lobe")),
    "lower and upper lobe": (None, ("upper lobe", "lower lobe")),
    "upper and middle lobe": (None, ("upper lobe", "middle lobe")),
    "middle and upper lobe": (None, ("upper lobe", "middle lobe")),
    "middle and lower lobe": (None, ("middle lobe", "lower lobe")),
    "lower and middle lobe": (None, ("middle lobe", "lower lobe")),
}
LOBE_ORDER = ("upper lobe", "middle lobe", "lingula", "lower lobe")
SEVERITY_PHRASES: dict[str, tuple[str, ...]] = {
    "mild": (
        "mild", "mildly", "minimal", "minimally", "small", "slight", "slightly", "tiny", "trace", "subtle", "minor",
        "small sized", "small volume", "small amount of", "borderline", "millimetric", "subcentimeter",
        "subcentimetre", "minimal amount of", "faint",
    ),
    "moderate": ("moderate", "moderately", "moderate sized", "medium", "moderate amount of", "medium sized"),
    "severe": (
        "severe", "severely", "large", "markedly", "marked", "massive", "massively", "extensive", "gross", "advanced",
        "huge", "large volume", "large sized", "large amount of", "profound", "extensively", "big",
    ),
}  # fmt: skip
# Organs other than lung, pleura and heart: a nodule there is no lung nodule.
ELSEWHERE_PHRASES = (
    "liver", "hepatic", "kidney", "renal", "adrenal", "adrenal gland", "surrenal",
    "thyroid", "thyroid gland", "breast", "spleen", "splenic", "pancreas", "pancreatic", "gallbladder", "bone",
    "bony", "vertebra", "vertebral", "skin", "subcutaneous", "abdominal", "abdomen", "pelvic", "pelvis",
    "perihepatic", "soft tissue", "thymic", "esophageal", "gastric",
)  # fmt: skip

_RESOLUTIONS = ("resolution of", "interval resolution of", "complete resolution of", "clearing of", "cleared of")
NEGATION_PHRASES = (
    "no", "not", "without", "nor", "neither", "never", "free of", "free from", "absence of", "negative for",
    "lack of", "lack", "lacking", *_RESOLUTIONS, "no evidence of", "rather than", "instead of", "removal of",
    "no sign of", "clear of", "devoid of", "exclude", "nothing",
)  # fmt: skip
_SEEN_WORDS = (
    "seen", "observed", "detected", "identified", "present", "noted", "evident", "found", "visualized", "visualised",
    "demonstrated", "apparent", "appreciated", "encountered", "visible", "shown", "distinguished", "detectable",
    "recognized", "documented", "available", "reported",
)  # fmt: skip
_SEEN_ADVERBS = ("", "clearly ", "definitely ", "currently ", "be ", "been ", "being ", "significantly ", "obviously ")
_RESOLVED = (
    "has resolved", "have resolved", "has cleared", "have cleared", "resolved", "completely resolved",
    "has completely resolved", "have completely resolved", "fully resolved", "has since resolved",
    "have since resolved", "is resolved", "are resolved", "has disappeared", "have disappeared",
)  # fmt: skip
RESOLVED_PHRASES = frozenset({*_RESOLUTIONS, *_RESOLVED})
# Denials that another one before them turns round.
DENIALS = frozenset(
    {"without", "free of", "free from", "absence of", "lack of", "negative for", "clear of", "devoid of", *_RESOLUTIONS}
)
NEGATED_BEFORE_PHRASES = (
    *(f"not {adverb}{seen}" for seen in _SEEN_WORDS for adverb in _SEEN_ADVERBS),
    *(f"no longer {seen}" for seen in _SEEN_WORDS),
    *_RESOLVED, "ruled out", "is excluded", "are excluded", "unlikely", "is unlikely", "are unlikely",
    "has been removed", "have been removed", "been removed", "removed", "not well seen", "no longer well seen",
    "cannot be seen", "cannot be identified", "absent", "is negative", "are negative", "none",
)  # fmt: skip
AFFIRMATION_PHRASES = tuple(_SEEN_WORDS)
# Phrases whose words would otherwise be read as a negation, a finding, a size or a side.
IGNORED_PHRASES = (
    "not only", "not resolved", "has not resolved", "have not resolved", "not completely resolved", "mass effect",
    "no mass effect", "body mass", "large airway", "small airway", "small bowel", "large bowel", "left ventricle",
    "left ventricular", "left atrium", "left atrial",
    "right ventricle", "right ventricular", "right atrium", "right atrial", "left anterior descending", "left heart",
    "right heart", "left main", "heart failure", "aortic valve", "mitral valve", "mitral annulus", "mitral annular",
    "left upper quadrant", "right upper quadrant", "joint effusion", "fluid overload", "fluid status",
    "pericardial thickening", "heart disease", "cardiac surgery", "cardiac border", "heart border",
    "fluid level", "subcutaneous emphysema", "heart valve", "pulmonary artery", "pulmonary vessel", "left thyroid",
    "right thyroid", "bone density", "soft tissue density", "cardiac apex", "skull base", "cardiophrenic",
    "pulmonary vascular", "vascular marking", "pulmonary vasculature", "left brachiocephalic vein",
    "calcified lymph node", "calcified hilar", "calcified mediastinal lymph node", "aortic valvular",
    "fat density", "fluid density", "water density", "metallic density", "calcium density", "calcific density",
    "stone density", "low density", "high density", "cystic fibrosis", "kyphotic curvature", "normal curvature",
    "lordotic curvature", "decreased lung volume",
    "decreased volume", "decreased attenuation", "decreased density", "decreased aeration", "decreased bone density",
    "hemodynamically stable", "clinically stable", "new york", "vertebral collapse", "collapse of the vertebra",
    "vertebral body collapse",
)  # fmt: skip

CLAUSE_ENDS = (
    ";", "but", "however", "although", "though", "whereas", "while", "yet", "except", "except for", "apart from",
    "other than", "aside from", "with the exception of", "nevertheless", "otherwise", "in contrast",
)  # fmt: skip
SEPARATORS = (
    "and", "or", "nor", ",", "with", "as well as", "along with", "plus", "accompanied by", "associated with", "/",
    "&", "together with", "in addition to",
)  # fmt: skip
NEW_STATEMENTS = (
    "there is", "there are", "there was", "there were", "there has been", "show", "demonstrate", "reveal", "revealed",
    "which",
)  # fmt: skip
