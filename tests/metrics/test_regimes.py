"""The tables of fine-tuning against alignment, from held-out tables written by hand."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from rlaif.metrics.regimes import MeasuredPolicy, markdown, regime_table
from rlaif.records import HeldoutReport
from rlaif.tables import Table

REFERENCES = {"a": "clear lungs", "b": "small effusion", "c": None}


def write(
    folder: Path,
    texts: dict[str, str],
    scores: dict[str, float],
    references: Mapping[str, str | None] = REFERENCES,
    patient: str | None = None,
) -> Path:
    rows = [
        HeldoutReport(
            case_id=case,
            study_id=case,
            patient_id=patient or f"p-{case}",
            control=control,
            reference=references[case],
            text="clear lungs" if control else text,
            finish_reason="stop",
            policy_version=0,
            metrics={
                "report_words": float(len(text.split())),
                **({"rules_score": scores[case]} if case in scores else {}),
            },
        )
        for case, text in texts.items()
        for control in (False, True)
    ]
    Table(folder, HeldoutReport).append(rows)
    return folder


@pytest.fixture
def policies(tmp_path: Path) -> list[MeasuredPolicy]:
    texts = {"a": "clear lungs", "b": "large effusion", "c": "nothing"}
    better = texts | {"b": "small effusion"}
    first = write(tmp_path / "sft", texts, {"a": 1.0, "b": 0.0})
    second = write(tmp_path / "more", better | {"a": "lungs"}, {"a": 0.5, "b": 0.5})
    third = write(tmp_path / "dpo", better, {"a": 1.0, "b": 0.5})
    return [
        MeasuredPolicy("SFT-50", None, first),
        MeasuredPolicy("SFT-80", None, second),
        MeasuredPolicy("RGRO-50 by DPO", "SFT-50", third),
    ]


def test_every_policy_has_its_means_over_the_cases_that_have_a_metric(policies: list[MeasuredPolicy]) -> None:
    table = regime_table(policies, resamples=200)["policies"]
    assert table["SFT-50"]["rouge1"]["mean"] == pytest.approx((1 + 0.5) / 2) and table["SFT-50"]["rouge1"]["n"] == 2
    assert table["SFT-50"]["rouge2"]["mean"] == pytest.approx(0.5)
    assert table["RGRO-50 by DPO"]["rougeL"]["mean"] == 1.0
    # Also of the case without a reference, and never of the control.
    assert table["SFT-50"]["report_words"] == {"mean": pytest.approx(5 / 3), "low": 1.0, "high": 2.0, "n": 3}
    assert "hallucinated" not in table["SFT-50"]


def test_alignment_is_held_against_every_fine_tuned_policy_on_the_same_cases(policies: list[MeasuredPolicy]) -> None:
    gains = regime_table(policies, resamples=200)["gains"]
    assert gains.keys() == {"RGRO-50 by DPO"} and [*gains["RGRO-50 by DPO"]] == ["SFT-50", "SFT-80"]
    own, other = gains["RGRO-50 by DPO"].values()
    assert own["rouge1"]["mean"] == pytest.approx(0.25) and own["rules_score"]["mean"] == pytest.approx(0.25)
    # One word of two: precision 1, recall 1/2.
    assert other["rouge1"]["mean"] == pytest.approx((1 - 2 / 3) / 2)
    assert own["rules_score"]["low"] <= own["rules_score"]["mean"] <= own["rules_score"]["high"]


def test_the_markdown_has_a_row_for_each_policy_and_each_difference(policies: list[MeasuredPolicy]) -> None:
    lines = markdown("openi, held out", regime_table(policies, resamples=200)).splitlines()
    assert lines[0] == "### openi, held out"
    assert lines[2] == "|  | ROUGE-1 | ROUGE-2 | ROUGE-L | Rules score | Words |"
    assert [line.split(" | ")[0] for line in lines[4:7]] == ["| SFT-50", "| SFT-80", "| RGRO-50 by DPO"]
    assert [line.split(" | ")[0] for line in lines[10:]] == ["| RGRO-50 by DPO - SFT-50", "| RGRO-50 by DPO - SFT-80"]
    assert "+0.250 [+0.000, +0.500]" in lines[10]


def test_two_policies_of_one_name_do_not_stand_in_one_table(policies: list[MeasuredPolicy]) -> None:
    with pytest.raises(ValueError, match="SFT-50 is the name of two policies"):
        regime_table([*policies, policies[0]], resamples=200)


def test_rouge_is_of_what_judges_see_and_of_references_that_have_words(tmp_path: Path) -> None:
    texts = {"a": "The region 0 is lung: clear The region 1 is heart: lungs", "b": "small", "c": "clear"}
    references = {"a": "clear. lungs", "b": "--- !", "c": None}
    rouge = regime_table([MeasuredPolicy("SFT", None, write(tmp_path / "sft", texts, {}, references))], resamples=50)
    # Neither the prefixes nor a reference of which ROUGE knows no word count.
    assert [rouge["policies"]["SFT"][kind]["mean"] for kind in ("rouge1", "rouge2", "rougeL")] == [1.0, 1.0, 1.0]
    assert rouge["policies"]["SFT"]["rouge1"]["n"] == 1


def test_one_patient_has_means_without_intervals(tmp_path: Path) -> None:
    before = write(tmp_path / "sft", {"a": "clear", "b": "small"}, {}, patient="p")
    after = write(tmp_path / "dpo", {"a": "clear lungs", "b": "small"}, {}, patient="p")
    policies = [MeasuredPolicy("SFT", None, before), MeasuredPolicy("DPO", "SFT", after)]
    lines = markdown("openi", regime_table(policies, resamples=50)).splitlines()
    assert lines[5] == "| DPO | 0.833 | 0.500 | 0.833 | 1.500 |" and lines[9].startswith("| DPO - SFT | +0.167 |")
