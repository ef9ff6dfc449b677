"""Which attributes of a clause belong to which of its findings."""

from itertools import pairwise, takewhile

from rlaif.reports.heads import Head
from rlaif.reports.phrases import Mention

_ATTRIBUTE_KINDS = frozenset(
    {
        "place",
        "size",
        "severity",
        "vessel",
        "cavity_adjective",
        "cavity_noun",
        "elsewhere",
        "enlarged",
        "pathological",
        "change",
    }
)
_COORDINATION = frozenset({"and", "or", "nor", ",", "/", "&", "pleural", "pericardial", "versus", "vs"})
_VERBS = frozenset({"is", "are", "was", "were", "measure", "normal", "unremarkable"})
_LEADING_WORDS = 24
_WORDS_TO_CALCIFIED = 6
_PARTED_BY_AND = frozenset({"size", "severity", "elsewhere", "enlarged", "change"})
# Between an attribute and the finding after it, these say that it belongs to the one before.
_PARTING = frozenset({
    "in", "of", "the", "lung", "lobe", "may", "might", "could", "represent", "representing", "reflect", "reflecting",
    "suggest", "suggesting", "likely", "probably", "possibly", "for", "versus", "vs",
})  # fmt: skip
_PREPOSITIONS = frozenset({"in", "on", "at", "within", "throughout", "involving"})


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
    return after if len(gap) <= 2 and _PARTING.isdisjoint(gap) else before


def _leads(words: list[str], attribute: Mention, head: Head, separator: Mention | None) -> bool:
    """Whether an attribute at the head of a clause, parted from the first finding, still belongs to it.

    "In the left lung, there is a nodule" and "12 mm, solid nodule" say so; "The left lung is normal, a
    nodule" and "The aorta measures 45 mm and a nodule" do not.
    """
    between = words[attribute.end : min(head.start, attribute.end + _LEADING_WORDS)]
    if head.start - attribute.end > _LEADING_WORDS:
        return False
    if attribute.kind == "vessel" and words[head.start] == "calcified" and len(between) <= _WORDS_TO_CALCIFIED:
        # "The aorta is tortuous and calcified."
        return True
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
