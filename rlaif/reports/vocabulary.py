"""The whole vocabulary of the extraction as one table of phrases, each with its kind and value."""

from typing import Literal

from rlaif.reports import hedges, lexicon, modifiers

Kind = Literal[
    "finding", "effusion", "calcification", "atherosclerosis", "vessel", "cavity_adjective", "cavity_noun", "heart",
    "lymph_node", "enlarged", "pathological", "normal", "negated_finding", "place", "severity", "elsewhere", "negation",
    "negated_before", "affirmation", "ignored", "clause_end", "separator", "new_statement", "suggested_finding",
    "uncertain", "uncertain_before", "change",
]  # fmt: skip
Place = tuple[str | None, tuple[str, ...]]
Value = str | Place


def entries() -> list[tuple[str, Kind, Value]]:
    """All phrases as (phrase, kind, value); of equal phrases the later one holds."""
    table: list[tuple[str, Kind, Value]] = []
    plain: list[tuple[Kind, tuple[str, ...]]] = [
        ("elsewhere", modifiers.ELSEWHERE_PHRASES),
        ("affirmation", modifiers.AFFIRMATION_PHRASES),
        ("normal", lexicon.NORMAL_PHRASES),
        ("pathological", lexicon.PATHOLOGICAL_PHRASES),
        ("enlarged", lexicon.ENLARGED_PHRASES),
        ("enlarged", tuple(hedges.GROWTH_PHRASES)),
        ("lymph_node", lexicon.LYMPH_NODE_PHRASES),
        ("heart", lexicon.HEART_PHRASES),
        ("calcification", lexicon.CALCIFICATION_PHRASES),
        ("atherosclerosis", lexicon.ATHEROSCLEROSIS_PHRASES),
        ("effusion", lexicon.EFFUSION_PHRASES),
        ("separator", modifiers.SEPARATORS),
        ("new_statement", modifiers.NEW_STATEMENTS),
        ("negation", modifiers.NEGATION_PHRASES),
        ("negated_before", modifiers.NEGATED_BEFORE_PHRASES),
        ("ignored", modifiers.IGNORED_PHRASES),
        ("clause_end", modifiers.CLAUSE_ENDS),
        ("uncertain", hedges.UNCERTAIN_PHRASES),
        ("uncertain_before", hedges.UNCERTAIN_BEFORE_PHRASES),
    ]
    for kind, phrases in plain:
        table += [(phrase, kind, phrase) for phrase in phrases]
    named: list[tuple[Kind, dict[str, tuple[str, ...]]]] = [
        ("vessel", lexicon.VESSEL_PHRASES),
        ("cavity_adjective", lexicon.CAVITY_ADJECTIVES),
        ("cavity_noun", lexicon.CAVITY_NOUNS),
        ("finding", lexicon.FINDING_PHRASES),
        ("finding", {"pleural effusion": lexicon.HYDROTHORAX_PHRASES}),
        ("finding", {name: (name,) for name in lexicon.COMBINED}),
        ("negated_finding", {"lung opacity": lexicon.CLEAR_LUNG_PHRASES}),
        ("negated_finding", {"pleural effusion": lexicon.CLEAR_PLEURA_PHRASES}),
        ("severity", modifiers.SEVERITY_PHRASES),
        ("change", hedges.CHANGE_PHRASES),
        ("suggested_finding", {"pleural effusion": lexicon.BLUNTED_ANGLE_PHRASES}),
    ]
    for kind, names in named:
        table += [(phrase, kind, name) for name, phrases in names.items() for phrase in phrases]
    table += [(phrase, "place", (side, ())) for side, phrases in modifiers.SIDE_PHRASES.items() for phrase in phrases]
    # "The lungs are clear of effusion" denies what follows, not the lungs' opacity.
    table += [(f"{phrase} of", "negation", phrase) for phrase in lexicon.CLEAR_LUNG_PHRASES]
    for where, phrases in modifiers.LOCATION_PHRASES.items():
        table += [(phrase, "place", (None, (where,))) for phrase in phrases]
    table += [(phrase, "place", place) for phrase, place in modifiers.PLACE_PHRASES.items()]
    return table
