"""Whether a report is sure of a finding: hedges, differential diagnoses and what it only looks for."""

from rlaif.reports.heads import Head, listed, starts_statement
from rlaif.reports.phrases import Mention

_VERSUS = frozenset({"versus", "vs"})
_WORDS_BEFORE_VERSUS = 5


def set_certainty(words: list[str], mentions: list[Mention], heads: list[Head]) -> None:
    """Mark as possible the heads that a clause hedges.

    A hedge holds for what follows it, up to a new statement ("may represent atelectasis or scarring"),
    and for what precedes it where nothing follows ("pneumonia is possible", "an effusion cannot be
    excluded"). Both sides of "atelectasis versus pneumonia" are possible; "atelectasis or scarring" without a
    hedge names both, as the people who tagged Open-I took it.
    """
    by_start = {head.start: head for head in heads}
    hedge: Mention | None = None
    pending: list[Head] = []
    for mention in mentions:
        head = by_start.get(mention.start)
        if mention.kind == "uncertain_before" or (mention.kind == "uncertain" and _closes(words, mention)):
            for before in listed(words, pending, mention):
                before.possible = True
            hedge, pending = None, []
        elif mention.kind == "uncertain":
            hedge = mention
            if mention.value in _VERSUS and pending and mention.start - pending[-1].end <= _WORDS_BEFORE_VERSUS:
                pending[-1].possible = True
        elif mention.kind == "new_statement":
            if hedge is None or hedge.end != mention.start:
                hedge, pending = None, []
        elif mention.kind == "separator" and starts_statement(words, mention):
            hedge = None
        if head is not None:
            head.possible = head.possible or hedge is not None
            pending.append(head)


def _closes(words: list[str], hedge: Mention) -> bool:
    """Whether nothing follows the hedge in its part of the sentence: "pneumonia less likely, follow up"."""
    return hedge.end == len(words) or words[hedge.end] in {",", ";"}
