"""Marked findings of the report page: where two reports name findings, and how each stands to the other."""

from rlaif.metrics.page.highlights import compared_findings

REFERENCE = (
    "FINDINGS:\nThe  heart is enlarged, approx. 60 %.  A 14 mm solid nodule is seen in the right upper lobe. "
    "Moderate left pleural effusion with adjacent atelectasis.\nCoronary artery wall calcification is present."
)
CANDIDATE = (
    "A 12 mm nodule in the left lower lobe. Moderate left pleural effusion. Emphysematous changes predominate in the "
    "upper lobes. No coronary calcification. Heart is enlarged."
)


def marks(text: str, highlights: tuple) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in highlights]


def test_findings_are_marked_where_they_stand_although_the_text_has_spaces_and_abbreviations() -> None:
    compared = compared_findings(REFERENCE, CANDIDATE)
    assert marks(REFERENCE, compared.reference) == [
        ("matched", "enlarged"),
        ("differs", "14 mm solid nodule"),
        ("matched", "Moderate left pleural effusion"),
        ("missing", "atelectasis"),
        ("missing", "Coronary artery wall calcification"),
    ]
    assert marks(CANDIDATE, compared.candidate) == [
        ("differs", "12 mm nodule in the left lower lobe"),
        ("matched", "Moderate left pleural effusion"),
        ("hallucinated", "Emphysematous changes predominate in the upper lobes"),
        ("missing", "coronary calcification"),
        ("matched", "enlarged"),
    ]
    assert ("lung nodule", "differs") in compared.found and ("emphysema", "hallucinated") in compared.found
    assert "wrong location" in compared.reference[1].note


def test_what_is_not_sure_or_not_english_is_not_marked() -> None:
    compared = compared_findings("A possible nodule in the left lower lobe.", "The lungs are clear.")
    assert compared.reference == () and compared.found == ()
    assert compared_findings("", "A nodule.") == compared_findings("A nodule.", "  ")
    assert compared_findings("Kein Pleuraerguss. Die Lunge ist frei.", "Herz und Lunge sind frei.").candidate == ()


def test_marks_never_overlap_and_stay_inside_garbage() -> None:
    dotted = "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}"
    garbage = f"nodule nodule effusion{dotted} 3 mm nodule and\tnodule. \n\n nodule " * 40
    for text in (garbage, garbage[:50], "nodule", "\n nodule\u2028"):
        compared = compared_findings(REFERENCE, text)
        end = 0
        for one in compared.candidate:
            assert end <= one.start < one.end <= len(text)
            end = one.end
