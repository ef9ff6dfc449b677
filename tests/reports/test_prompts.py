import pytest

from rlaif.records import Study
from rlaif.reports.prompts import findings_case, image_case, target_text

STUDY = Study("s1", "p1", "phantom", "align", findings=" A nodule. ", impression="Nodule.", labels=("lung nodule",))


def test_target_is_the_asked_section():
    assert target_text(STUDY, "findings") == "A nodule."
    assert target_text(STUDY, "impression") == "Nodule."
    assert target_text(STUDY, "both") == "Findings: A nodule.\nImpression: Nodule."


def test_a_missing_or_blank_section_gives_no_target():
    bare = Study("s2", "p2", "phantom", "align", findings="  ", impression=None)
    assert [target_text(bare, target) for target in ("findings", "impression", "both")] == [None, None, None]


def test_an_image_case_asks_for_its_target_and_tells_nothing_of_it():
    case = image_case(STUDY, "findings", "key-1")
    assert (case.case_id, case.patient_id, case.feature_key) == ("s1", "p1", "key-1")
    assert case.labels == ("lung nodule",)
    assert "findings" in case.prompt.lower() and "nodule" not in case.prompt
    assert len({image_case(STUDY, target, None).prompt for target in ("findings", "impression", "both")}) == 3


def test_a_text_only_case_holds_the_findings_and_asks_for_the_impression():
    case = findings_case(STUDY, "impression")
    assert "A nodule." in case.prompt and "impression" in case.prompt
    assert case.target == "Nodule."


def test_braces_in_a_report_are_only_text():
    study = Study("s3", "p3", "x", "align", findings="A {target} {0} nodule.", impression="x")
    assert "{target} {0}" in findings_case(study, "impression").prompt


def test_text_only_cases_that_cannot_be():
    with pytest.raises(ValueError, match="impression"):
        findings_case(STUDY, "findings")
    with pytest.raises(ValueError, match="s4 has no findings"):
        findings_case(Study("s4", "p4", "x", "align", impression="x"), "impression")
