"""The cases of a run, from the tables of a small run folder."""

from pathlib import Path

import pytest

from rlaif.cases import cases_of
from rlaif.ledger import RunFolder
from rlaif.models.connectors.settings import MlpSettings
from rlaif.models.encoders.settings import ViTSettings
from rlaif.models.settings import PolicySettings
from rlaif.records import Ingested, Study

ENCODER = ViTSettings(volume=(32, 48, 48), patch=(8, 8, 8))
SCAN = PolicySettings(name="x", size="x", recipe="phantom", encoder=ENCODER, connector=MlpSettings())
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
