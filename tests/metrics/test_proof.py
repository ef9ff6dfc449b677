"""What must hold of several seeds: the claims that can be held against runs with and without a blind control."""

from rlaif.metrics.intervals import differences, pooled
from rlaif.metrics.proof import Claim, Seed, claims_of
from rlaif.records import HeldoutReport

CASES = [f"case-{number}" for number in range(20)]


def reports(score: float, words: float, *, control: bool = False) -> list[HeldoutReport]:
    """A report for each case, whose measures grow a little from case to case."""
    return [
        HeldoutReport(
            case_id=case,
            study_id=case,
            patient_id=f"patient-{number // 2}",
            control=control,
            reference="Clear lungs.",
            text="Clear lungs.",
            finish_reason="stop",
            policy_version=0,
            metrics={"rules_score": score + number / 100, "finding_f1": score + number / 100, "report_words": words},
        )
        for number, case in enumerate(CASES)
    ]


def seed(gain: float, words: float, *, blind: float | None = None) -> Seed:
    """A run whose last policy differs from the base by so much; with `blind`, the score without its own image."""
    controls = [] if blind is None else reports(blind, 10.0, control=True)
    base = {False: reports(0.3, 10.0), True: controls}
    return Seed(
        base, {False: reports(0.3 + gain, words), True: controls}, {row.case_id: row.patient_id for row in base[False]}
    )


def held(claim: Claim, seeds: list[Seed]) -> bool:
    parts = [differences(*claim.measure(one), one.patients) for one in seeds]
    return claim.holds(pooled(parts), [sum(values) / len(values) for values, _ in parts], seeds)


def test_what_holds_of_runs_that_read_images_and_of_those_that_read_text() -> None:
    seeing = [seed(0.1, 10.5, blind=0.1), seed(0.05, 11.0, blind=0.1)]
    assert [held(claim, seeing) for claim in claims_of(seeing)] == [True] * 5
    reading = [seed(0.1, 10.5), seed(0.05, 11.0)]
    assert [claim.words.partition(":")[0] for claim in claims_of(reading)] == [
        "rules_score rises",
        "finding_f1 does not fall",
        "report_words changes by at most 15 %",
    ]
    assert all(held(claim, reading) for claim in claims_of(reading))


def test_what_does_not_hold() -> None:
    # One seed below zero; reports a fifth longer; a base that is as good without the image, which the last one is not.
    worse = [seed(0.1, 12.0, blind=0.3), seed(-0.001, 12.0, blind=0.3)]
    assert [held(claim, worse) for claim in claims_of(worse)] == [False, True, False, False, True]
