"""Findings from a head and its attributes: which label, which side, place, size and severity."""

from collections.abc import Iterator

from rlaif.reports.findings import Change, Finding, Severity, Side
from rlaif.reports.heads import Head
from rlaif.reports.hedges import CHANGES, GROWTH_PHRASES
from rlaif.reports.lexicon import CALCIFICATION_OF_VESSEL, COMBINED, GROWING, LUNG_UNLESS_ELSEWHERE, WITHOUT_PLACE
from rlaif.reports.modifiers import LOBE_ORDER
from rlaif.reports.phrases import Mention

# The greater first: of "mild to moderate" it is what counts.
_SEVERITIES: tuple[Severity, ...] = ("severe", "moderate", "mild")
_OUTSIDE_THE_LUNG = frozenset({(None, ("chest wall",)), (None, ("axilla",))})
_PATHOLOGICAL_NODE_WORDS = 9
# Short axis from which a lymph node counts as enlarged (the usual limit in the mediastinum).
_ENLARGED_NODE_MM = 10.0


def side_of(places: list[Mention]) -> Side | None:
    """The side that several place words say together: left and right make bilateral."""
    sides = {place.value[0] for place in places if isinstance(place.value, tuple)} - {None}
    if "bilateral" in sides or len(sides) == 2:
        return "bilateral"
    return "left" if "left" in sides else "right" if "right" in sides else None


def location_of(places: list[Mention]) -> str | None:
    """The place that the words name; several are joined by "and", lobes from top to bottom."""
    named = dict.fromkeys(where for place in places if isinstance(place.value, tuple) for where in place.value[1])
    ordered = sorted(named, key=lambda where: LOBE_ORDER.index(where) if where in LOBE_ORDER else len(LOBE_ORDER))
    return " and ".join(ordered) if ordered else None


def _severity_of(head: Head) -> Severity | None:
    """The nearest severity word; of "mild to moderate" the greater."""
    words = [a for a in head.attributes if a.kind == "severity"]
    if not words:
        return None
    nearest = min(words, key=lambda a: max(head.start - a.end, a.start - head.end))
    joined = [a for a in words if abs(a.start - nearest.end) <= 1 or abs(nearest.start - a.end) <= 1]
    said = {a.value for a in (nearest, *joined)}
    return next(severity for severity in _SEVERITIES if severity in said)


def _change_of(head: Head, name: str) -> Change | None:
    """The nearest word of change; "increased" alone is one only of what grows, not of opacity or the heart."""
    said: list[tuple[int, Change]] = []
    for a in head.attributes:
        grown = a.kind == "enlarged" and (
            a.value in GROWTH_PHRASES or (name in GROWING and a.value in ("increased", "increase"))
        )
        change = next((change for change in CHANGES if a.kind == "change" and a.value == change), None)
        if change is not None or grown:
            said.append((max(a.start - head.end, head.start - a.end), change or "increased"))
    return min(said, default=(0, None), key=lambda one: one[0])[1]


def _near(head: Head, attribute: Mention) -> bool:
    return max(attribute.start - head.end, head.start - attribute.end) <= _PATHOLOGICAL_NODE_WORDS


def _names(head: Head) -> list[str]:
    """The labels that a head stands for, now that its vessels, cavities and organs are known."""
    kinds = {a.kind for a in head.attributes}
    if head.kind == "effusion":
        adjectives = dict.fromkeys(str(a.value) for a in head.attributes if a.kind == "cavity_adjective")
        nouns = dict.fromkeys(str(a.value) for a in head.attributes if a.kind == "cavity_noun")
        if not adjectives and not nouns and "elsewhere" in kinds:
            return []
        return list(adjectives or nouns) or ["pleural effusion"]
    if head.kind in ("calcification", "atherosclerosis"):
        vessels = [CALCIFICATION_OF_VESSEL[str(a.value)] for a in head.attributes if a.kind == "vessel"]
        unsaid = ["arterial wall calcification"] if head.kind == "atherosclerosis" else []
        return list(dict.fromkeys(vessels)) or unsaid
    if head.kind == "lymph_node":
        pathological = any(a.kind in ("enlarged", "pathological") and _near(head, a) for a in head.attributes)
        large = any(isinstance(a.value, float) and a.value >= _ENLARGED_NODE_MM for a in head.attributes)
        return ["lymphadenopathy"] if pathological or large or not head.present else []
    outside = "elsewhere" in kinds or any(a.value in _OUTSIDE_THE_LUNG for a in head.attributes)
    if head.name in LUNG_UNLESS_ELSEWHERE and outside:
        return []
    return list(COMBINED.get(head.name, (head.name,)))


def findings_of(head: Head, sentence: str) -> Iterator[Finding]:
    """The findings that a head with its attributes stands for."""
    places = [a for a in head.attributes if a.kind == "place"]
    sizes = [a.value for a in head.attributes if isinstance(a.value, float)]
    side, location = side_of(places), location_of(places)
    if side is None and location in ("middle lobe", "lingula"):
        # Only the right lung has a middle lobe, only the left a lingula.
        side = "right" if location == "middle lobe" else "left"
    severity, size = _severity_of(head), max(sizes, default=None)
    for name in _names(head):
        placed = name not in WITHOUT_PLACE
        aortic = name == "arterial wall calcification" and any(a.value == "aorta" for a in head.attributes)
        yield Finding(
            name=name,
            present=head.present,
            side=side if placed else None,
            location=location if placed else "aorta" if aortic else None,
            size_mm=size,
            severity=severity,
            sentence=sentence,
            certainty="possible" if head.possible and head.present else "definite",
            change=_change_of(head, name) if head.attributes else None,
        )
