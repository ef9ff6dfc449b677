"""The findings of one clause: what is named, whether it is negated, and which attributes belong to it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise, takewhile

from rlaif.reports.findings import Finding, Severity, Side
from rlaif.reports.lexicon import CALCIFICATION_OF_VESSEL, LUNG_UNLESS_ELSEWHERE, WITHOUT_PLACE
from rlaif.reports.modifiers import LOBE_ORDER, SEVERITY_PHRASES
from rlaif.reports.phrases import Mention

_HEAD_KINDS = frozenset({"finding", "negated_finding", "effusion", "calcification", "atherosclerosis", "lymph_node"})
_ATTRIBUTE_KINDS = frozenset(
    {"place", "size", "severity", "vessel", "cavity_adjective", "cavity_noun", "elsewhere", "enlarged", "pathological"}
)
_COORDINATION = frozenset({"and", "or", "nor", ",", "/", "&", "pleural", "pericardial"})
_APPOSITION = frozenset({"of", "type", "like", "a"})
_OUTSIDE_THE_LUNG = frozenset({(None, ("chest wall",)), (None, ("axilla",))})
_VERBS = frozenset({"is", "are", "was", "were", "measure", "normal", "unremarkable"})
_LEADING_WORDS = 24
_PARTED_BY_AND = frozenset({"size", "severity", "elsewhere", "enlarged"})
_PREPOSITIONS = frozenset({"in", "on", "at", "within", "throughout", "involving"})
_SEVERITIES: tuple[Severity, ...] = ("severe", "moderate", "mild")
# Words that may stand between "heart" and "enlarged" without parting them.
_HEART_FILLERS = frozenset({
    "is", "are", "was", "were", "appear", "appearance", "size", "in", "the", "of", "has", "have", "been", "be",
    "seem", "remain", "to", "contour", "shadow", "dimension", "silhouette", "transverse", "diameter", "not", "no",
    "now", "also", "markedly", "significantly", "visibly", "overall", "and",
}).union(*(phrase.split() for phrases in SEVERITY_PHRASES.values() for phrase in phrases))  # fmt: skip
_HEART_TO_NORMAL_WORDS = 10
_PATHOLOGICAL_NODE_WORDS = 9
# Short axis from which a lymph node counts as enlarged (the usual limit in the mediastinum).
_ENLARGED_NODE_MM = 10.0


@dataclass(slots=True)
class Head:
    """A finding named in a clause, at words [start, end), while its attributes are gathered."""

    kind: str
    name: str
    start: int
    end: int
    present: bool = True
    attributes: list[Mention] = field(default_factory=list)

    @property
    def has_place(self) -> bool:
        return any(attribute.kind == "place" for attribute in self.attributes)


def _heart_heads(words: list[str], mentions: list[Mention]) -> list[Head]:
    """Cardiomegaly said in parts: "the heart is mildly enlarged", "enlarged silhouette", "heart size is normal"."""
    heads: list[Head] = []
    last_heart: Mention | None = None
    barrier = -1
    for index, mention in enumerate(mentions):
        if mention.kind in _HEAD_KINDS:
            barrier = mention.end
        elif mention.kind == "heart":
            last_heart = mention
        elif mention.kind in ("enlarged", "normal"):
            if last_heart is not None and barrier <= last_heart.start and _reaches(words, last_heart, mention):
                heart = last_heart
            else:
                following = next((m for m in mentions[index + 1 : index + 4] if m.kind == "heart"), None)
                if following is None or not set(words[mention.end : following.start]) <= _HEART_FILLERS:
                    continue
                heart = following
            enlarged = mention.kind == "enlarged"
            heads.append(Head("finding", "cardiomegaly", mention.start, mention.end, present=enlarged))
            if heart is last_heart:
                last_heart = None
    return heads


def _reaches(words: list[str], heart: Mention, quality: Mention) -> bool:
    between = words[heart.end : quality.start]
    if quality.kind == "normal":
        return len(between) <= _HEART_TO_NORMAL_WORDS
    return set(between) <= _HEART_FILLERS


def heads_of(words: list[str], mentions: list[Mention]) -> list[Head]:
    """The findings a clause names, in their order, with `present` set from the clause's negations."""
    named = (mention for mention in mentions if mention.kind in _HEAD_KINDS)
    heads = [Head(m.kind, str(m.value), m.start, m.end, m.kind != "negated_finding") for m in named]
    heads += _heart_heads(words, mentions)
    heads.sort(key=lambda head: head.start)
    _set_polarity(words, mentions, heads)
    return _joined(words, heads)


def _joined(words: list[str], heads: list[Head]) -> list[Head]:
    """The heads with those made one that name the same thing: "lung opacity of ground-glass density"."""
    joined: list[Head] = []
    for head in heads:
        last = joined[-1] if joined else None
        if (
            last is not None
            and (last.kind, last.name, last.present) == (head.kind, head.name, head.present)
            and _APPOSITION.issuperset(words[last.end : head.start])
        ):
            last.end = head.end
        else:
            joined.append(head)
    return joined


def _set_polarity(words: list[str], mentions: list[Mention], heads: list[Head]) -> None:
    """Negate heads after a negation (up to where a new statement begins) and before "is not seen"."""
    by_start = {head.start: head for head in heads}
    negation: Mention | None = None
    pending: list[Head] = []
    after_predicate, named_since_negation = False, False
    previous: Mention | None = None
    for mention in mentions:
        head = by_start.get(mention.start)
        if mention.kind == "negation":
            negation, named_since_negation, after_predicate = mention, False, False
        elif mention.kind == "negated_before":
            for before in _listed(words, pending, mention):
                before.present = False
            pending, negation, after_predicate = [], None, False
        elif mention.kind == "affirmation":
            after_predicate = True
        elif mention.kind == "new_statement":
            if negation is None or negation.end != mention.start:
                negation, pending = None, []
        elif mention.kind == "separator":
            if after_predicate and mention.value not in ("or", "nor"):
                negation, pending, after_predicate = None, [], False
            elif _starts_statement(words, mention):
                negation = None
        elif mention.kind == "heart" and previous is not None and previous.kind == "separator" and named_since_negation:
            negation = None
        if head is not None:
            head.present = head.present and negation is None
            named_since_negation = True
            pending.append(head)
        elif negation and mention.kind in ("enlarged", "pathological") and pending and pending[-1].kind == "lymph_node":
            # "the lymph nodes are not enlarged": the negation stands between the node and what is denied.
            pending[-1].present = False
        previous = mention


def _starts_statement(words: list[str], separator: Mention) -> bool:
    if separator.value in ("or", "nor"):
        return False
    follows = words[separator.end] if separator.end < len(words) else ""
    return separator.value == "with" or follows in ("a", "an", "the") or follows[:1].isdigit()


def _listed(words: list[str], pending: list[Head], negation: Mention) -> list[Head]:
    """The heads that a trailing "is not seen" denies: all of a list, but not an earlier statement of the sentence."""
    for index in range(len(pending) - 1, 0, -1):
        earlier, later = pending[index - 1], pending[index]
        between = words[earlier.end : later.start]
        if "and" in between or "or" in between or "," not in between or between[0] == ",":
            continue
        if "and" not in words[later.start : negation.start]:
            return pending[index:]
    return pending


def assign_attributes(words: list[str], mentions: list[Mention], heads: list[Head]) -> None:
    """Give each attribute of a clause to the finding that it describes."""
    separators = [m for m in mentions if m.kind == "separator"]
    separator_index, last_between = 0, None
    following = 0
    taken = {head.start for head in heads}
    for mention in mentions:
        while following < len(heads) and heads[following].start < mention.end:
            following, last_between = following + 1, None
        if mention.kind not in _ATTRIBUTE_KINDS or mention.start in taken:
            continue
        before = heads[following - 1] if following else None
        after = heads[following] if following < len(heads) else None
        if after is not None and last_between is None:
            while separator_index < len(separators) and separators[separator_index].start < after.start:
                last_between = separators[separator_index]
                separator_index += 1
            if last_between is not None and before is not None and last_between.start < before.end:
                last_between = None
        owner = _owner(words, mention, before, after, last_between)
        if owner is not None:
            owner.attributes.append(mention)
    _share_places(words, heads)


def _owner(
    words: list[str], attribute: Mention, before: Head | None, after: Head | None, separator: Mention | None
) -> Head | None:
    if attribute.kind == "cavity_adjective":
        return after
    if after is None:
        return before
    parted = separator is not None and separator.start >= attribute.end
    if before is None:
        return after if not parted or _leads(words, attribute, after, separator) else None
    if separator is not None:
        return before if parted else after
    gap = words[attribute.end : after.start]
    return after if len(gap) <= 2 and not {"in", "of", "the", "lung", "lobe"} & set(gap) else before


def _leads(words: list[str], attribute: Mention, head: Head, separator: Mention | None) -> bool:
    """Whether an attribute at the head of a clause, parted from the first finding, still belongs to it.

    "In the left lung, there is a nodule" and "12 mm, solid nodule" say so; "The left lung is normal, a
    nodule" and "The aorta measures 45 mm and a nodule" do not.
    """
    between = words[attribute.end : min(head.start, attribute.end + _LEADING_WORDS)]
    if head.start - attribute.end > _LEADING_WORDS:
        return False
    if attribute.kind in _PARTED_BY_AND and separator is not None and separator.value != ",":
        return False
    statement = takewhile(lambda word: word not in _COORDINATION, between)
    return _VERBS.isdisjoint(statement)


def _share_places(words: list[str], heads: list[Head]) -> None:
    """In "consolidation and effusion in the left lung" the place holds for both."""
    for index in range(len(heads) - 2, -1, -1):
        head, following = heads[index], heads[index + 1]
        if _shares(words, head, following, head):
            head.attributes += [a for a in following.attributes if a.kind == "place" and a.start >= following.end]
    for previous, head in pairwise(heads):
        if _shares(words, previous, head, head):
            leading = (a for a in previous.attributes if a.kind == "place" and a.end <= previous.start)
            head.attributes += [
                a for a in leading if not _PREPOSITIONS.isdisjoint(words[max(0, a.start - 2) : a.start])
            ]


def _shares(words: list[str], first: Head, second: Head, without_place: Head) -> bool:
    """Whether two heads are joined by a bare conjunction and one of them still lacks a place."""
    between = words[first.end : second.start]
    return bool(between) and not without_place.has_place and _COORDINATION.issuperset(between)


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
    return [head.name]


def findings_of(head: Head, sentence: str) -> Iterator[Finding]:
    """The findings that a head with its attributes stands for."""
    places = [a for a in head.attributes if a.kind == "place"]
    sizes = [a.value for a in head.attributes if isinstance(a.value, float)]
    side, location = side_of(places), location_of(places)
    if side is None and location in ("middle lobe", "lingula"):
        # Only the right lung has a middle lobe, only the left a lingula.
        side = "right" if location == "middle lobe" else "left"
    found = Finding(
        name="",
        present=head.present,
        side=side,
        location=location,
        size_mm=max(sizes) if sizes else None,
        severity=_severity_of(head),
        sentence=sentence,
    )
    for name in _names(head):
        if name in WITHOUT_PLACE:
            aortic = name == "arterial wall calcification" and any(a.value == "aorta" for a in head.attributes)
            yield replace(found, name=name, side=None, location="aorta" if aortic else None)
        else:
            yield replace(found, name=name)
