"""What must hold of several seeds: the claims that can be held against runs with and without a blind control."""

from rlaif.metrics.proof import Answer, Seed, answer_of, claims_of
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


def answers(seeds: list[Seed]) -> dict[str, Answer]:
    return {claim.words.partition(":")[0]: answer_of(claim, seeds) for claim in claims_of(seeds)[0]}


def held(seeds: list[Seed]) -> list[bool]:
    return [answer.holds for answer in answers(seeds).values()]


def test_what_holds_of_runs_that_read_images_and_of_those_that_read_text() -> None:
    assert held([seed(0.1, 10.5, blind=0.1), seed(0.05, 11.0, blind=0.1)]) == [True] * 5
    reading = [seed(0.1, 10.5), seed(0.05, 11.0)]
    assert [*answers(reading)] == [
        "rules_score rises",
        "finding_f1 does not fall",
        "report_words changes by at most 15 %",
    ]
    assert held(reading) == [True] * 3
    assert [claim.words.partition(":")[0] for claim in claims_of(reading)[1]] == [
        "base reads the image",
        "last policy reads the image",
    ]


def test_what_does_not_hold() -> None:
    # One seed below zero; reports a fifth longer; a base that is as good without the image, which the last one is not.
    worse = [seed(0.1, 12.0, blind=0.3), seed(-0.001, 12.0, blind=0.3)]
    assert held(worse) == [False, True, False, False, True]


def test_a_control_that_one_seed_lacks_is_no_reason_to_ask_less() -> None:
    told = answers([seed(0.1, 10.5, blind=0.1), seed(0.05, 11.0)])
    assert len(told) == 5
    assert not told["base reads the image"].holds and told["base reads the image"].interval is None
    assert told["base reads the image"].shown == ("not measured", "-0.200", "-")
    assert told["rules_score rises"].holds


def test_runs_without_held_out_reports_have_no_claim_that_could_hold() -> None:
    empty: dict[bool, list[HeldoutReport]] = {False: [], True: []}
    kept, left_out = claims_of([Seed(empty, empty, {})])
    assert kept == [] and len(left_out) == 5
