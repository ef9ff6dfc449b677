"""The findings that a clause names, as heads for their attributes, and whether each is negated."""

from dataclasses import dataclass, field

from rlaif.reports.modifiers import DENIALS, RESOLVED_PHRASES, SEVERITY_PHRASES
from rlaif.reports.phrases import Mention

_HEAD_KINDS = frozenset(
    {"finding", "suggested_finding", "negated_finding", "effusion", "calcification", "atherosclerosis", "lymph_node"}
)
# Words that join two names of one thing.
_APPOSITION = frozenset({"of", "type", "like", "a"})
# Words that may stand between "heart" and "enlarged" without parting them.
_HEART_FILLERS = frozenset({
    "is", "are", "was", "were", "appear", "appearance", "size", "in", "the", "of", "has", "have", "been", "be",
    "seem", "remain", "to", "contour", "shadow", "dimension", "silhouette", "transverse", "diameter", "not", "no",
    "now", "also", "markedly", "significantly", "visibly", "overall", "and",
}).union(*(phrase.split() for phrases in SEVERITY_PHRASES.values() for phrase in phrases))  # fmt: skip
_HEART_TO_NORMAL_WORDS = 10


@dataclass(slots=True)
class Head:
    """A finding named in a clause, at words [start, end), while its attributes are gathered."""

    kind: str
    name: str
    start: int
    end: int
    present: bool = True
    possible: bool = False
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
        elif mention.kind in ("enlarged", "normal") or words[mention.start : mention.end] == ["large"]:
            if last_heart is not None and barrier <= last_heart.start and _reaches(words, last_heart, mention):
                heart = last_heart
            else:
                following = next((m for m in mentions[index + 1 : index + 4] if m.kind == "heart"), None)
                if following is None or not set(words[mention.end : following.start]) <= _HEART_FILLERS:
                    continue
                heart = following
            enlarged = mention.kind != "normal"
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
    heads = [
        Head(m.kind, str(m.value), m.start, m.end, m.kind != "negated_finding", m.kind == "suggested_finding")
        for m in named
    ]
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
            # "Not without effusion", "no resolution of the effusion": two denials say that it is there.
            doubled = negation is not None and negation.end == mention.start and mention.value in DENIALS
            negation, named_since_negation, after_predicate = None if doubled else mention, False, False
        elif mention.kind == "negated_before" and not pending and mention.value in RESOLVED_PHRASES:
            negation, named_since_negation, after_predicate = mention, False, False
        elif mention.kind == "negated_before":
            for before in listed(words, pending, mention):
                before.present = False
                if mention.value in RESOLVED_PHRASES:
                    before.attributes.append(Mention("change", "resolved", mention.start, mention.end))
            pending, negation, after_predicate = [], None, False
        elif mention.kind == "affirmation":
            # In "no visible nodule or mass" the word stands before what it says, and ends nothing.
            after_predicate = negation is None or named_since_negation
        elif mention.kind == "new_statement":
            if negation is None or negation.end != mention.start:
                negation, pending = None, []
        elif mention.kind == "separator":
            if after_predicate and mention.value not in ("or", "nor"):
                negation, pending, after_predicate = None, [], False
            elif starts_statement(words, mention):
                negation = None
        elif mention.kind == "heart" and previous is not None and previous.kind == "separator" and named_since_negation:
            negation = None
        if head is not None:
            head.present = head.present and negation is None
            if negation is not None and negation.value in RESOLVED_PHRASES:
                head.attributes.append(Mention("change", "resolved", negation.start, negation.end))
            named_since_negation = True
            pending.append(head)
        elif negation and mention.kind in ("enlarged", "pathological") and pending and pending[-1].kind == "lymph_node":
            # "the lymph nodes are not enlarged": the negation stands between the node and what is denied.
            pending[-1].present = False
        previous = mention


def starts_statement(words: list[str], separator: Mention) -> bool:
    """Whether a separator ends the reach of what was denied or hedged before it."""
    if separator.value in ("or", "nor"):
        return False
    follows = words[separator.end] if separator.end < len(words) else ""
    return separator.value == "with" or follows in ("a", "an", "the") or follows[:1].isdigit()


def listed(words: list[str], pending: list[Head], negation: Mention) -> list[Head]:
    """The heads that a trailing "is not seen" or "is possible" speaks of.

    All of a list, but not an earlier statement of the sentence.
    """
    for index in range(len(pending) - 1, 0, -1):
        earlier, later = pending[index - 1], pending[index]
        between = words[earlier.end : later.start]
        if "and" in between or "or" in between or "," not in between or between[0] == ",":
            continue
        if "and" not in words[later.start : negation.start]:
            return pending[index:]
    return pending
