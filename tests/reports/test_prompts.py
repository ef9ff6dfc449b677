"""Cases: what is put to a policy of each kind, and what it should answer."""

from dataclasses import replace

import pytest

from rlaif.records import Study
from rlaif.reports.prompts import findings_case, image_case, region_case, target_text
from rlaif.reports.region_reports import joined_sentences, region_answer, region_slots

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


REGIONAL = Study(
    "s5",
    "p5",
    "radgenome",
    "sft",
    findings="The heart is enlarged. Clear lungs.",
    impression=None,
    region_reports={"heart": "The heart is enlarged.", "lung": "Clear lungs", "bone": " ", "breast": "Normal."},
    labels=("cardiomegaly",),
)
MASKED = ("bone", "heart", "lung", "pleura")


def test_training_asks_for_the_regions_that_have_sentences_and_a_mask() -> None:
    for split in ("sft", "align"):
        case = region_case(replace(REGIONAL, split=split), "findings", "key", MASKED)
        order = region_slots(case.prompt)
        assert set(order) == {"heart", "lung"}
        assert case.target == "The heart is enlarged. Clear lungs." and case.feature_key == "key"
        assert case.labels == ("cardiomegaly",) and case.prompt.count("<image>") == 1
        assert case.answer == region_answer(order, {"heart": "The heart is enlarged.", "lung": "Clear lungs"})
        # The order is the study's, whatever order the masks are listed in.
        assert region_case(replace(REGIONAL, split=split), "findings", "key", reversed(MASKED)) == case


def test_held_out_studies_are_asked_for_every_region_with_a_mask() -> None:
    case = region_case(replace(REGIONAL, split="heldout"), "findings", "key", MASKED)
    assert set(region_slots(case.prompt)) == set(MASKED)
    # Bone and pleura have no sentences to answer with.
    assert case.answer is None and case.target == "The heart is enlarged. Clear lungs."
    told = region_case(replace(REGIONAL, split="heldout"), "findings", "key", ("lung", "heart"))
    assert told.answer is not None and "is lung: Clear lungs" in told.answer


def test_a_study_without_its_target_takes_its_regions_sentences() -> None:
    case = region_case(REGIONAL, "impression", None, MASKED)
    first, second = region_slots(case.prompt)
    sentences = {"heart": "The heart is enlarged.", "lung": "Clear lungs"}
    assert case.target == joined_sentences([sentences[first], sentences[second]])
    assert case.answer == region_answer((first, second), sentences)
    bare = replace(REGIONAL, findings=None, region_reports=None)
    assert region_case(bare, "findings", None, MASKED).target is None


def test_a_study_whose_regions_have_no_sentences_is_asked_for_all_of_them() -> None:
    for reports in (None, {}, {"breast": "Normal."}, {"lung": " "}):
        case = region_case(replace(REGIONAL, split="align", region_reports=reports), "findings", "key", MASKED)
        assert set(region_slots(case.prompt)) == set(MASKED)
        assert case.answer is None and case.target == "The heart is enlarged. Clear lungs."


def test_words_of_ones_own_take_the_place_of_ours() -> None:
    assert image_case(STUDY, "findings", None, "Look: <image>").prompt == "Look: <image>"
    asked = findings_case(replace(STUDY, findings="A {findings} {x}."), "impression", "Of {findings}?").prompt
    assert asked == "Of A {findings} {x}.?"
    case = region_case(REGIONAL, "findings", None, ("lung",), "<image> {regions} {x}")
    assert case.prompt == "<image> The region 0 is <region:lung>. {x}"
