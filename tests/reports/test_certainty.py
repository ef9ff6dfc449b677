import pytest

from rlaif.reports.extraction import extract


def certainties(text):
    return [(f.name, f.certainty) if f.present else f"no {f.name}" for f in extract(text)]


HEDGED = [
    "Possible pneumonia.",
    "Pneumonia is possible.",
    "Suspicious for pneumonia.",
    "Pneumonia cannot be excluded.",
    "Cannot exclude pneumonia.",
    "Pneumonia is not entirely excluded.",
    "Questionable pneumonia.",
    "This may represent pneumonia.",
    "It could be pneumonia.",
    "Likely pneumonia.",
    "Pneumonia, less likely.",
    "Probable pneumonia.",
    "Concerning for pneumonia.",
    "Appearance suggesting pneumonia.",
    "Pneumonia may be present.",
    "Follow up to rule out pneumonia.",
    "History of pneumonia.",
]


@pytest.mark.parametrize("text", HEDGED)
def test_hedged_findings_are_possible(text):
    assert certainties(text) == [("pneumonia", "possible")]


@pytest.mark.parametrize(
    "text",
    [
        "Pneumonia.",
        "There is pneumonia in the left lung.",
        "Consistent with pneumonia.",
        "Likely old. There is pneumonia.",
        "A nodule may be benign; there is pneumonia.",
    ],
)
def test_findings_that_are_stated_are_definite(text):
    assert certainties(text)[-1] == ("pneumonia", "definite")


REACH = {
    "An opacity in the left base may represent atelectasis or pneumonia.": [
        ("lung opacity", "definite"),
        ("atelectasis", "possible"),
        ("pneumonia", "possible"),
    ],
    "Atelectasis versus pneumonia.": [("atelectasis", "possible"), ("pneumonia", "possible")],
    "Emphysema, and atelectasis vs. consolidation.": [
        ("emphysema", "definite"),
        ("atelectasis", "possible"),
        ("consolidation", "possible"),
    ],
    # The people who tagged Open-I took both of an unhedged "or" for named.
    "Scarring or atelectasis.": [("pulmonary fibrotic sequela", "definite"), ("atelectasis", "definite")],
    "A small nodule, possibly a granuloma, and a left effusion.": [
        ("lung nodule", "definite"),
        ("granuloma", "possible"),
        ("pleural effusion", "definite"),
    ],
    "Possible consolidation with a small effusion.": [("consolidation", "possible"), ("pleural effusion", "definite")],
    "Emphysema, but a mass is suspected.": [("emphysema", "definite"), ("lung nodule", "possible")],
    "Blunting of the left costophrenic angle.": [("pleural effusion", "possible")],
    "CT to exclude a nodule.": [("lung nodule", "possible")],
}


@pytest.mark.parametrize("text", REACH)
def test_a_hedge_reaches_as_far_as_a_reader_takes_it(text):
    assert certainties(text) == REACH[text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No findings suspicious for pneumonia.", ["no pneumonia"]),
        ("Without a definite or possible nodule.", ["no lung nodule"]),
        ("Pneumonia is unlikely.", ["no pneumonia"]),
        ("No nodule, but a possible effusion.", ["no lung nodule", ("pleural effusion", "possible")]),
    ],
)
def test_a_denied_hedge_is_a_denial(text, expected):
    assert certainties(text) == expected


def test_a_hedged_finding_keeps_its_attributes():
    (finding,) = extract("Possible 12 mm nodule in the right upper lobe.")
    assert (finding.certainty, finding.size_mm, finding.side, finding.location) == (
        "possible",
        12.0,
        "right",
        "upper lobe",
    )
    opacity, atelectasis = extract("An opacity in the left base may represent atelectasis.")
    assert (opacity.side, opacity.location) == ("left", "base")
    assert (atelectasis.side, atelectasis.location) == (None, None)
