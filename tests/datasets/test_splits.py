"""Splits by patient: deterministic, stable, disjoint."""

import pytest
from pydantic import ValidationError

from rlaif.datasets.layout import SplitSettings
from rlaif.datasets.splits import (
    assign_in_order,
    assign_splits,
    check_disjoint,
    divide,
    divide_official,
    limited,
)
from rlaif.datasets.study_table import DatasetError
from rlaif.records import Split, Study

PATIENTS = [f"patient-{number}" for number in range(2000)]
THIRDS = SplitSettings(sft=0.5, align=0.3, heldout=0.2)


def study(study_id: str, patient_id: str, split: Split = "heldout") -> Study:
    return Study(study_id, patient_id, source="test", split=split, findings="Clear lungs.")


def test_fractions_are_met_and_a_patient_never_moves_when_others_come_or_go() -> None:
    all_patients = assign_splits(PATIENTS, THIRDS, seed=1)
    shares = {split: list(all_patients.values()).count(split) / 2000 for split in ("sft", "align", "heldout")}
    assert shares == pytest.approx({"sft": 0.5, "align": 0.3, "heldout": 0.2}, abs=0.03)
    half = assign_splits(reversed(PATIENTS[::2]), THIRDS, seed=1)
    assert all(all_patients[patient] == split for patient, split in half.items())
    assert assign_splits(PATIENTS, THIRDS, seed=2) != all_patients


def test_numbers_take_exactly_so_many_patients_and_leave_the_rest_out() -> None:
    assigned = assign_splits(PATIENTS, SplitSettings(sft=30, align=20, heldout=5), seed=0)
    assert [list(assigned.values()).count(split) for split in ("sft", "align", "heldout")] == [30, 20, 5]
    with pytest.raises(DatasetError, match="asks for sft 30, align 20, heldout 5 patients, and there are 40"):
        assign_splits(PATIENTS[:40], SplitSettings(sft=30, align=20, heldout=5), seed=0)


def test_in_order_the_first_patients_go_to_the_first_split() -> None:
    assert assign_in_order(["a", "b", "c", "d"], SplitSettings(sft=2, align=1, heldout=1)) == {
        "a": "sft",
        "b": "sft",
        "c": "align",
        "d": "heldout",
    }
    assert list(assign_in_order(PATIENTS[:10], THIRDS, ("sft", "align")).values()).count("sft") == 6


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.1), (10, 0.5, 1), (0, 0, 0)])
def test_shares_that_are_neither_fractions_nor_numbers_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(ValidationError, match="fractions that sum to 1, or numbers of patients"):
        SplitSettings(sft=shares[0], align=shares[1], heldout=shares[2])


def test_a_patient_in_two_splits_is_named() -> None:
    check_disjoint([study("1", "ann", "sft"), study("2", "ann", "sft"), study("3", "bob", "heldout")])
    with pytest.raises(DatasetError, match=r"1 patients are in more than one split \(ann in heldout and sft"):
        check_disjoint([study("1", "ann", "sft"), study("2", "ann", "heldout"), study("3", "bob", "align")])


def test_studies_of_a_patient_stay_together_and_follow_a_prescribed_split() -> None:
    studies = [study(f"{patient}-{scan}", patient) for patient in PATIENTS[:50] for scan in range(3)]
    divided = divide(studies, THIRDS, seed=0, limit=None, given={"patient-7-1": "heldout", "patient-8-0": "sft"})
    assert [one.study_id for one in divided] == [one.study_id for one in studies]
    splits = {patient: {one.split for one in divided if one.patient_id == patient} for patient in PATIENTS[:50]}
    assert all(len(found) == 1 for found in splits.values())
    assert splits["patient-7"] == {"heldout"}
    assert splits["patient-8"] == {"sft"}
    with pytest.raises(DatasetError, match="more than one split"):
        divide(studies, THIRDS, seed=0, limit=None, given={"patient-7-1": "heldout", "patient-7-0": "sft"})


def test_a_limit_holds_for_each_split_and_a_greater_one_keeps_the_same_studies() -> None:
    divided = divide([study(patient, patient) for patient in PATIENTS[:200]], THIRDS, seed=0, limit=None)
    few, more = limited(divided, 5, seed=0), limited(divided, 9, seed=0)
    assert [sum(one.split == split for one in few) for split in ("sft", "align", "heldout")] == [5, 5, 5]
    assert set(few) < set(more)


@pytest.mark.parametrize("ordered", [None, ["ann", "bob", "eve"]])
def test_without_a_share_for_it_the_training_part_of_an_official_split_is_left_out(ordered: list[str] | None) -> None:
    studies = [study("1", "ann"), study("2", "bob"), study("3", "eve")]
    only = divide_official(studies, {"2"}, SplitSettings(sft=0.0, align=0.0, heldout=1.0), 0, None, ordered)
    assert [(one.study_id, one.split) for one in only] == [("2", "heldout")]
    whole = divide_official(studies, {"2"}, SplitSettings(sft=1.0, align=0.0, heldout=0.0), 0, None, ordered)
    assert [one.split for one in whole] == ["sft", "heldout", "sft"]
