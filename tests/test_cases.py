"""The cases of a run, from the tables of a small run folder."""

from pathlib import Path

import pytest

from rlaif.cases import cases_of
from rlaif.ledger import RunFolder
from rlaif.models.connectors.settings import MaskEncoderSettings, MlpSettings, RegionSettings
from rlaif.models.encoders.settings import ViTSettings
from rlaif.models.settings import PolicySettings
from rlaif.records import Ingested, Study
from rlaif.reports.region_reports import region_slots, without_region_prefixes

ENCODER = ViTSettings(volume=(32, 48, 48), patch=(8, 8, 8))
SCAN = PolicySettings(name="x", size="x", recipe="phantom", encoder=ENCODER, connector=MlpSettings())
MASK = MaskEncoderSettings(volume=(32, 48, 48), patch=(8, 8, 8))
REGIONS = SCAN.model_copy(update={"connector": RegionSettings(mask=MASK)})
FINDINGS = PolicySettings(name="x", size="x", recipe=None, encoder=None, connector=None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with RunFolder.open(tmp_path, "run", {}) as folder:
        folder.replace(
            "studies",
            Study,
            [
                Study("s3", "p3", "t", "align", "c.nii", "Nodule.", "A nodule."),
                Study("s1", "p1", "t", "align", "a.nii", "Clear.", None, labels=("nodule",)),
                Study("s2", "p2", "t", "align", "b.nii"),
                Study("s4", "p4", "t", "align", "torn.nii", "Clear.", "Normal."),
                Study("s5", "p5", "t", "heldout", "e.nii", "Clear.", "Normal."),
            ],
        )
        keys = {"s1": "k1", "s2": "k2", "s3": "k3", "s5": "k5"}
        folder.replace("features", Ingested, [Ingested(study, key) for study, key in keys.items()])
        return folder.path


def test_a_splits_cases_are_ordered_and_have_features(run: Path) -> None:
    cases = cases_of(run, "align", "findings", SCAN)
    assert [(case.case_id, case.feature_key, case.target) for case in cases] == [
        ("s1", "k1", "Clear."),
        ("s2", "k2", None),
        ("s3", "k3", "Nodule."),
    ]
    assert cases[0].labels == ("nodule",) and cases[0].patient_id == "p1" and "findings" in cases[0].prompt
    assert [case.case_id for case in cases_of(run, "heldout", "findings", SCAN)] == ["s5"]
    assert cases_of(run, "sft", "findings", SCAN) == []


def test_the_target_decides_prompt_and_text(run: Path) -> None:
    both = {case.case_id: case.target for case in cases_of(run, "align", "both", SCAN)}
    assert both == {"s1": None, "s2": None, "s3": "Findings: Nodule.\nImpression: A nodule."}


def test_text_only_cases_ask_from_the_findings_and_need_no_features(run: Path) -> None:
    cases = cases_of(run, "align", "impression", FINDINGS)
    assert [(case.case_id, case.target) for case in cases] == [("s1", None), ("s3", "A nodule."), ("s4", "Normal.")]
    assert all(case.feature_key is None for case in cases) and "Nodule." in cases[1].prompt
    with pytest.raises(ValueError, match="writes the impression from the findings"):
        cases_of(run, "align", "findings", FINDINGS)


@pytest.fixture
def guided(tmp_path: Path) -> Path:
    """A run whose studies have regions: what they were ingested with, and sentences of some of them."""
    told = {"heart": "The heart is enlarged.", "lung": "Clear lungs.", "breast": "Normal breasts."}
    with RunFolder.open(tmp_path, "guided", {}) as folder:
        folder.replace(
            "studies",
            Study,
            [
                Study("g1", "p1", "t", "sft", "a.nii", "Clear lungs. Large heart.", region_reports=told),
                Study("g2", "p2", "t", "sft", "b.nii", region_reports=told),
                Study("g3", "p3", "t", "sft", "c.nii", "Clear lungs."),
                Study("g4", "p4", "t", "heldout", "d.nii", "Clear lungs.", region_reports=told),
                Study("g5", "p5", "t", "sft", "torn.nii", "Clear lungs.", region_reports=told),
            ],
        )
        read = {"g1": ("bone", "heart", "lung"), "g2": ("lung",), "g3": ("lung",), "g4": ("heart", "lung", "pleura")}
        folder.replace("features", Ingested, [Ingested(name, f"k-{name}", regions=one) for name, one in read.items()])
        return folder.path


def test_region_guided_cases_ask_for_what_the_ingest_read(guided: Path) -> None:
    cases = {one.case_id: one for one in cases_of(guided, "sft", "findings", REGIONS)}
    assert list(cases) == ["g1", "g2", "g3"] and cases["g1"].feature_key == "k-g1"
    asked = {name: set(region_slots(one.prompt)) for name, one in cases.items()}
    # The breast has a sentence and no mask, the bone a mask and no sentence.
    assert asked == {"g1": {"heart", "lung"}, "g2": {"lung"}, "g3": {"lung"}}
    assert cases["g1"].target == "Clear lungs. Large heart."
    assert without_region_prefixes(str(cases["g1"].answer)) in (
        "The heart is enlarged. Clear lungs.",
        "Clear lungs. The heart is enlarged.",
    )
    # Without findings the sentences of what was asked for, without sentences no answer to learn.
    assert (cases["g2"].target, cases["g2"].answer) == ("Clear lungs.", "The region 0 is lung: Clear lungs.")
    assert (cases["g3"].target, cases["g3"].answer) == ("Clear lungs.", None)
    (heldout,) = cases_of(guided, "heldout", "findings", REGIONS)
    assert set(region_slots(heldout.prompt)) == {"heart", "lung", "pleura"} and heldout.answer is None


def test_the_same_studies_are_whole_scans_to_another_policy(guided: Path) -> None:
    cases = cases_of(guided, "sft", "findings", SCAN)
    assert [(one.case_id, one.answer) for one in cases] == [
        ("g1", "Clear lungs. Large heart."),
        ("g2", None),
        ("g3", "Clear lungs."),
    ]
    assert all(region_slots(one.prompt) == () for one in cases)


def test_a_policys_own_words_are_what_is_asked(guided: Path) -> None:
    scan = SCAN.model_copy(update={"prompt": "What does <image> show?"})
    assert {one.prompt for one in cases_of(guided, "sft", "findings", scan)} == {"What does <image> show?"}
    regions = REGIONS.model_copy(update={"prompt": "<image> {regions} Which?"})
    prompts = [one.prompt for one in cases_of(guided, "sft", "findings", regions)]
    assert prompts[1] == "<image> The region 0 is <region:lung>. Which?"
    findings = FINDINGS.model_copy(update={"prompt": "{findings} So?"})
    assert [one.prompt for one in cases_of(guided, "heldout", "impression", findings)] == ["Clear lungs. So?"]
