"""The words that hedge a finding, and those that compare it with an earlier examination.

Plain phrases as in `rlaif.reports.lexicon`.
"""

from rlaif.reports.findings import Change

# Hedges of what follows ("may represent atelectasis"), and of what precedes where nothing follows.
UNCERTAIN_PHRASES = (
    "may", "maybe", "might", "could", "possible", "possibly", "possibility of", "probable", "probably", "likely",
    "less likely",
    "most likely", "more likely", "perhaps", "suspected", "suspicious for", "suspicious of", "suspicion of",
    "suspicion for", "concerning for", "concern for", "concern of", "worrisome for", "questionable", "question",
    "question of", "questioned", "suggest", "suggesting", "suggestive of", "suggestion of", "suggested", "presumed",
    "presumably", "equivocal", "differential include", "differential diagnosis include", "differential diagnosis",
    "differential consideration include", "differential consideration", "consider", "consideration of", "favor",
    "favored", "favoring", "favored to represent", "unclear whether", "unclear if", "versus", "vs",
    "cannot exclude", "can not exclude", "could not exclude", "not exclude", "cannot rule out", "can not rule out",
    "not rule out", "to exclude", "to rule out", "rule out", "evaluate for", "evaluation for", "evaluation of possible",
    "assess for", "assessment for", "correlate for", "correlate clinically for", "look for", "to identify",
    "to determine", "determine if", "for evaluation of", "history of",
    "potentially", "potential", "possibly representing", "not definitely", "nonspecific for",
)  # fmt: skip
_NOT_EXCLUDED = tuple(
    f"{denial} {adverb}{verb}"
    for denial, verbs in {
        "not": ("excluded", "be excluded", "ruled out", "be ruled out", "certain"),
        "cannot": ("be excluded", "be ruled out"),
        "can not": ("be excluded", "be ruled out"),
        "could not": ("be excluded", "be ruled out"),
    }.items()
    for adverb in ("", "entirely ", "completely ", "definitely ")
    for verb in verbs
)
# Hedges of what precedes.
UNCERTAIN_BEFORE_PHRASES = (
    *_NOT_EXCLUDED, "cannot be entirely excluded", "cannot be completely excluded", "cannot be definitely excluded",
    "may be present", "might be present", "could be present", "may also be present", "is possible", "are possible",
    "is also possible", "is suspected", "are suspected", "is questioned",
    "are questioned", "is a consideration", "be a consideration", "be considered", "is considered", "is a possibility",
    "be a possibility", "in the differential", "is uncertain", "are uncertain", "is equivocal",
)  # fmt: skip

_NO_CHANGE = tuple(
    f"{denial} {adjective}{interval}change"
    for denial in ("no", "without")
    for adjective in ("", "significant ", "appreciable ", "substantial ", "definite ", "obvious ", "evidence of ")
    for interval in ("", "interval ")
)
CHANGE_PHRASES: dict[str, tuple[str, ...]] = {
    "new": (
        "new", "newly", "newly developed", "interval development of", "has developed", "have developed",
        "has appeared", "have appeared", "interval appearance of", "not previously seen", "not previously present",
        "not previously identified", "not seen previously", "not present previously",
        *(
            f"not {seen} {where}"
            for seen in ("seen", "present", "identified", "visible")
            for where in ("on prior", "on the prior", "on previous", "on the previous", "in the prior", "before")
        ),
    ),
    "increased": (
        "increasing", "interval increase", "interval increase in", "increase in size", "enlarging", "worsening",
        "worsened", "has worsened", "have worsened", "progressed", "has progressed", "have progressed", "progressing",
        "progressive", "progression", "progression of", "interval progression", "interval worsening", "has grown",
        "have grown", "interval growth", "interval enlargement", "more prominent", "more extensive",
        "more conspicuous", "larger than before", "now larger", "larger in size",
    ),
    "decreased": (
        "decreased", "decreasing", "decrease in", "decrease in size", "decreased in size", "has decreased",
        "have decreased", "interval decrease", "interval decrease in", "improved", "improving", "has improved",
        "have improved", "improvement", "improvement in", "improvement of", "interval improvement", "smaller",
        "now smaller", "resolving", "diminished", "regressed", "regression", "regressing", "partially resolved",
        "partial resolution of", "partially cleared", "less prominent", "less extensive", "less conspicuous",
        "has shrunk", "have shrunk",
    ),
    "unchanged": (
        "unchanged", "stable", "grossly stable", "essentially unchanged", "relatively unchanged", *_NO_CHANGE,
        "not changed", "not significantly changed", "has not changed", "have not changed", "no growth", "no increase",
        "no decrease", "not increased", "not decreased", "no interval growth", "no interval increase",
        "similar in size", "similar to prior", "similar to the prior", "similar in appearance", "no progression",
        "without progression", "no interval progression",
    ),
}  # fmt: skip
CHANGES: tuple[Change, ...] = ("resolved", "new", "increased", "decreased", "unchanged")
# Words for "enlarged" that speak of the interval since an earlier examination.
GROWTH_PHRASES = frozenset({
    "has increased", "have increased", "increased in size", "has increased in size", "have increased in size",
    "has enlarged", "have enlarged",
})  # fmt: skip
