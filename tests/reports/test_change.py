import pytest

from rlaif.reports.extraction import extract

CHANGES = {
    "New left effusion.": "new",
    "Interval development of an effusion.": "new",
    "Effusion not seen on the prior study.": "new",
    "The effusion has increased.": "increased",
    "Increased right effusion.": "increased",
    "Worsening effusion.": "increased",
    "An effusion, which has progressed.": "increased",
    "Interval increase in the effusion.": "increased",
    "The effusion has decreased.": "decreased",
    "Interval decrease in size of the effusion.": "decreased",
    "Improved effusion.": "decreased",
    "Resolving effusion.": "decreased",
    "Unchanged effusion.": "unchanged",
    "Stable effusion.": "unchanged",
    "No change in the effusion.": "unchanged",
    "No significant interval change in the effusion.": "unchanged",
    "Without change of the effusion.": "unchanged",
    "The effusion is not significantly changed.": "unchanged",
    "An effusion. It is unchanged.": "unchanged",
    "An effusion.": None,
}


@pytest.mark.parametrize("text", CHANGES)
def test_the_change_since_an_earlier_examination(text):
    assert [(f.name, f.present, f.change) for f in extract(text)] == [("pleural effusion", True, CHANGES[text])]


@pytest.mark.parametrize(
    "text",
    [
        "The effusion has resolved.",
        "Interval resolution of the effusion.",
        "Resolved effusion.",
        "Completely resolved left effusion.",
        "There was an effusion. It has resolved.",
    ],
)
def test_what_has_resolved_is_not_present(text):
    assert [(f.name, f.present, f.change) for f in extract(text)] == [("pleural effusion", False, "resolved")]


@pytest.mark.parametrize("text", ["The effusion has not resolved.", "No resolution of the effusion."])
def test_what_has_not_resolved_is_present(text):
    assert [(f.name, f.present) for f in extract(text)] == [("pleural effusion", True)]


def test_each_finding_has_its_own_change():
    said = {f.name: f.change for f in extract("Worsening consolidation with improved effusion, unchanged nodule.")}
    assert said == {"consolidation": "increased", "pleural effusion": "decreased", "lung nodule": "unchanged"}
    said = {f.name: f.change for f in extract("Stable nodule, decreased lung volumes, and atelectasis.")}
    assert said == {"lung nodule": "unchanged", "atelectasis": None}


@pytest.mark.parametrize("text", ["Increased opacity in the left lung.", "The heart has increased in size."])
def test_density_and_the_heart_are_no_comparison(text):
    assert [f.change for f in extract(text)] == [None]


SIZES = {
    "A nodule of 2 x 3 cm.": 30.0,
    "A 1.5-cm nodule.": 15.0,
    "A 5 to 7 mm nodule.": 7.0,
    "A nodule of 5-7 mm.": 7.0,
    "A nodule of 12 mm x 0.8 cm.": 12.0,
    "A nodule of 3 millimetres.": 3.0,
    "Nodules ranging from 5 mm to 9 mm.": 9.0,
    "The nodule measures 9 mm, previously 12 mm.": 9.0,
    "The nodule has increased from 9 mm to 12 mm.": 12.0,
    "The nodule has shrunk to 9 mm, it previously measured 12 mm.": 9.0,
    "A subcentimeter nodule.": None,
    "A nodule on slice 12.": None,
}


@pytest.mark.parametrize("text", SIZES)
def test_sizes_have_units_and_are_those_of_today(text):
    assert [f.size_mm for f in extract(text)] == [SIZES[text]]


def test_less_than_a_centimetre_is_small():
    (finding,) = extract("A subcentimeter nodule in the left lung.")
    assert (finding.severity, finding.side) == ("mild", "left")
