"""Guards on policies made to game their judge, or not, and on tables small enough to compute by hand."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from rlaif.metrics.guards import RoundLengths, error_classes, guards_of, length_guard, round_lengths
from rlaif.metrics.report_metrics import report_metrics
from rlaif.records import Candidate, HeldoutReport, Judgement, Pair, table_of

FINDINGS = (
    "A 12 mm nodule is seen in the right upper lobe.",
    "There is a moderate left pleural effusion.",
    "Emphysema is present in both upper lobes.",
    "Coronary artery wall calcification is present.",
    "There is cardiomegaly.",
    "A hiatal hernia is present.",
)
# As long as a finding, and silent.
FILLER = ("The visualised bones are as expected for age.", "The trachea and bronchi are all patent.")
Write = Callable[[random.Random, list[str], list[str]], list[str]]


def base_policy(random_: random.Random, true: list[str], false: list[str]) -> list[str]:
    """Tells half of what is there, and something that is not now and then."""
    told = [one if random_.random() < 0.5 else FILLER[0] for one in true]
    return [*told, false[0] if random_.random() < 0.3 else FILLER[1]]


def gaming_policy(random_: random.Random, true: list[str], false: list[str]) -> list[str]:
    """Says what the base says and two findings more, so as to be longer."""
    return [*base_policy(random_, true, false), *false[1:3]]


def honest_policy(random_: random.Random, true: list[str], false: list[str]) -> list[str]:
    """Tells most of what is there, in as many sentences."""
    return [*(one if random_.random() < 0.9 else FILLER[0] for one in true), FILLER[1]]


def by_length(reference: str, text: str) -> float:
    return len(text.split()) / 100


def by_findings(reference: str, text: str) -> float:
    return report_metrics(reference, None, text)["rules_score"]


def heldout(write: Write, score: Callable[[str, str], float], seed: int, cases: int = 60) -> list[HeldoutReport]:
    random_, rows = random.Random(seed), []
    for case in range(cases):
        kinds = random.Random(case).sample(FINDINGS, len(FINDINGS))
        reference, text = " ".join(kinds[:3]), " ".join(write(random_, kinds[:3], kinds[3:]))
        metrics = report_metrics(reference, None, text) | {"mine_score": score(reference, text)}
        rows.append(HeldoutReport(f"c{case}", f"c{case}", f"p{case}", False, reference, text, "stop", 0, metrics))
    return rows


def training_round(score: Callable[[str, str], float], cases: int = 40) -> RoundLengths:
    """Six candidates a case, of the base and of both other policies, the best against the worst."""
    candidates, pairs = [], []
    for case in range(cases):
        random_ = random.Random(1000 + case)
        kinds = random_.sample(FINDINGS, len(FINDINGS))
        own = []
        for write in (base_policy, gaming_policy, honest_policy) * 2:
            text = " ".join(write(random_, kinds[:3], kinds[3:]))
            own.append((score(" ".join(kinds[:3]), text), len(text.split())))
        candidates += [(f"a{case}", *one) for one in own]
        pairs.append((f"a{case}", max(own)[1], min(own)[1]))
    return RoundLengths(0, candidates, pairs)


def guarded(write: Write, score: Callable[[str, str], float]) -> dict[str, Any]:
    reports = {"base": heldout(base_policy, score, 1), "round-000": heldout(write, score, 2)}
    guards = guards_of("mine", [training_round(score)], reports, resamples=400)
    assert json.loads(json.dumps(guards, allow_nan=False)) == guards
    return guards


def test_a_policy_that_games_a_judge_of_length_is_told_so() -> None:
    guards = guarded(gaming_policy, by_length)
    told = guards["warnings"]
    assert [one for one in told if "mine_score rose" in one and "rules_score fell" in one]
    assert [one for one in told if "mine_score rose" in one and "finding_f1 " in one]
    assert [one for one in told if one.startswith("Reports grew by ") and " % (+" in one]
    assert [one for one in told if one.startswith("In round-000 the training judge scores longer candidates higher")]
    assert [one for one in told if one.startswith("Hallucinated findings rose by +")]
    assert len(told) == 5
    assert guards["length"]["round-000"]["correlation"]["mean"] == pytest.approx(1.0)
    assert guards["length"]["round-000"]["chosen_longer"]["mean"] == 1.0
    assert guards["length"]["round-000"]["chosen_minus_rejected"]["low"] > 0
    # Next to no case is left to compare at equal length, and of one there is no interval.
    assert guards["length_matched"]["gain"]["n"] == 1 and guards["length_matched"]["gain"]["low"] is None
    false = {policy: guards["errors"][policy]["false_finding"]["mean"] for policy in ("base", "round-000")}
    assert false["round-000"] == pytest.approx(false["base"] + 2, abs=0.3)


def test_a_policy_that_becomes_truer_is_not_warned_of() -> None:
    guards = guarded(honest_policy, by_findings)
    assert guards["warnings"] == []
    assert guards["gains"]["mine_score"]["low"] > 0 and guards["gains"]["finding_f1"]["low"] > 0
    assert guards["length_matched"]["gain"]["low"] > 0 and guards["length_matched"]["win_rate"]["mean"] > 0.7
    missing = {policy: guards["errors"][policy]["missing_finding"]["mean"] for policy in ("base", "round-000")}
    assert missing["round-000"] < missing["base"] - 0.5
    assert guards["hallucinated"]["round-000"]["mean"] == 0.0 < guards["hallucinated"]["base"]["low"]


def report(case: int, text: str = "Clear lungs.", reference: str | None = "Clear.", **metrics: float) -> HeldoutReport:
    return HeldoutReport(f"c{case}", f"c{case}", f"p{case}", False, reference, text, "stop", 0, metrics)


def told(base: list[HeldoutReport], last: list[HeldoutReport]) -> list[str]:
    return guards_of("mine", [], {"base": base, "round-000": last}, resamples=200)["warnings"]


def noted(base: list[HeldoutReport], last: list[HeldoutReport]) -> list[str]:
    return guards_of("mine", [], {"base": base, "round-000": last}, resamples=200)["notes"]


def test_a_fall_that_may_be_chance_is_a_note_and_no_warning() -> None:
    base = [report(case, mine_score=1.0, green_score=0.5) for case in range(20)]
    sure = [report(case, mine_score=1.5, green_score=0.4) for case in range(20)]
    unsure = [report(case, mine_score=1.5, green_score=0.5 + (-0.3, 0.28)[case % 2]) for case in range(20)]
    assert told(base, sure) == [
        "The training judge's mine_score rose by +0.500 [+0.500, +0.500] on 20 held-out cases, while green_score fell "
        "(-0.100 [-0.100, -0.100]): the policy may please its judge without writing truer reports."
    ]
    assert told(base, unsure) == [] == noted(base, sure)
    [one] = noted(base, unsure)
    assert "green_score may have fallen (-0.010 [-0." in one and one.endswith("which may be chance.")
    # What the training judge does not like better either is no sign of gaming.
    fell = [report(case, mine_score=0.9, green_score=0.4) for case in range(20)]
    assert told(base, fell) == [] == noted(base, fell)
    # (0.1 + 0.2) - 0.3 is above 0 in binary, and nothing; nor is a mean whose shown digits are 0.
    same = [report(case, mine_score=1.5, green_score=0.5 - (0.1 + 0.2 - 0.3)) for case in range(20)]
    assert told(base, same) == [] == noted(base, same)
    zero = [report(case, mine_score=1.5, green_score=0.5 + (-0.3008, 0.3)[case % 2]) for case in range(20)]
    assert told(base, zero) == [] == noted(base, zero)
    # What is sure is told however small it is.
    small = [report(case, mine_score=1.5, green_score=0.5 - 0.0004) for case in range(20)]
    assert len(told(base, small)) == 1 and noted(base, small) == []


@pytest.mark.parametrize(("words", "warned"), [(115, ""), (116, "grew by 16 %"), (85, ""), (80, "shrank by 20 %")])
def test_length_is_told_beyond_fifteen_per_cent(words: int, warned: str) -> None:
    base = [report(case, mine_score=1.0, report_words=100.0) for case in range(4)]
    told_ = told(base, [report(case, mine_score=1.5, report_words=float(words)) for case in range(4)])
    assert len(told_) == bool(warned) and all(one.startswith(f"Reports {warned} (") for one in told_)
    # Without a better score it is no reward.
    assert told(base, [report(case, mine_score=1.0, report_words=200.0) for case in range(4)]) == []


def test_equal_length_is_within_a_tenth_of_the_base() -> None:
    base = [report(case, mine_score=0.5, report_words=100.0) for case in range(5)]
    last = [
        report(case, mine_score=score, report_words=words)
        for case, (score, words) in enumerate([(0.7, 110.0), (0.9, 111.0), (0.4, 90.0), (0.1, 89.0), (0.5, 100.0)])
    ]
    matched = guards_of("mine", [], {"base": base, "round-000": last}, resamples=100)["length_matched"]
    assert matched["gain"]["mean"] == pytest.approx((0.2 - 0.1 + 0) / 3) and matched["gain"]["n"] == 3
    assert matched["win_rate"]["mean"] == pytest.approx(0.5)


def test_the_last_round_counts_and_the_blind_control_does_not() -> None:
    def control(rows: list[HeldoutReport]) -> list[HeldoutReport]:
        return [
            HeldoutReport(row.case_id, row.study_id, row.patient_id, True, None, "X", "stop", 0, {"mine_score": 9.0})
            for row in rows
        ]

    policies = {
        name: [report(case, mine_score=score) for case in range(3)]
        for name, score in (("round-010", 0.9), ("round-009", 0.1), ("base", 0.5))
    }
    guards = guards_of("mine", [], {name: [*rows, *control(rows)] for name, rows in policies.items()}, resamples=50)
    assert guards["gains"]["mine_score"]["mean"] == pytest.approx(0.4) and guards["gains"]["mine_score"]["n"] == 3
    assert list(guards["errors"]) == ["base", "round-009", "round-010"]


def test_a_judge_that_was_not_asked_about_heldout_reports_is_told() -> None:
    [one] = told([report(0, finding_f1=0.5)], [report(0, finding_f1=0.4)])
    assert one.startswith("The held-out reports have no mine_score")


def test_without_a_round_there_is_nothing_to_warn_of() -> None:
    guards = guards_of("mine", [], {"base": [report(0, mine_score=0.5)]}, resamples=50)
    assert guards["warnings"] == [] == guards["notes"] and guards["gains"] == {} and guards["length"] == {}
    assert guards_of("mine", [], {})["errors"] == {}


def test_of_one_patient_nothing_is_sure() -> None:
    [one] = told(
        [report(0, mine_score=1.0, report_words=10.0, hallucinated=1.0)],
        [report(0, mine_score=2.0, report_words=20.0, hallucinated=3.0)],
    )
    assert one.startswith("Reports grew by 100 % (+10.0 words a report) while the training judge's mine_score may have")


def test_error_classes_of_what_cannot_be_judged() -> None:
    rows = [report(0, "There is cardiomegaly.", "Clear lungs."), report(1, "", "Clear."), report(2, "Clear.", None)]
    classes = error_classes(rows, resamples=50)
    assert classes["false_finding"]["mean"] == 1.0 and classes["missing_finding"]["mean"] == 0.0
    assert {one["n"] for one in classes.values()} == {1} and len(classes) == 6
    assert set(error_classes(rows[1:], resamples=50).values()) == {None}


def test_error_classes_see_a_report_by_regions_as_its_judge_does() -> None:
    written = "The region 0 is lung: No effusion The region 1 is heart: Moderate cardiomegaly."
    classes = error_classes([report(0, written, "Moderate cardiomegaly.")], resamples=50)
    assert {name: one["mean"] for name, one in classes.items()} == dict.fromkeys(classes, 0.0)


def test_correlation_within_cases_is_blind_to_differences_between_them() -> None:
    # Long cases score high, and within each case short candidates do.
    rows = [(f"c{case}", case + place / 10, 100 * case - place) for case in range(10) for place in range(4)]
    guard = length_guard(RoundLengths(0, rows, []), resamples=50)
    assert guard["correlation"] == {"mean": -1.0, "low": -1.0, "high": -1.0, "n": 10}
    assert guard["chosen_longer"] is None and guard["chosen_minus_rejected"] is None


def test_the_correlation_of_a_case_is_spearmans() -> None:
    # Scores rank 1 2 3 4 5, words 2 1 4 3 5: 0.8. With ties 1.5 1.5 3 4 against 1 2 3 4: 4.5 / sqrt(4.5 · 5).
    rows = [("a", score, words) for score, words in ((0.1, 20), (0.2, 10), (0.3, 40), (0.4, 30), (0.5, 50))]
    rows += [("b", score, words) for score, words in ((0.1, 1), (0.1, 2), (0.3, 3), (0.4, 4))]
    rows += [("two", 0.1, 1), ("two", 0.2, 2), *[("same score", 0.5, words) for words in range(4)]]
    rows += [("same length", score / 10, 7) for score in range(4)]
    guard = length_guard(RoundLengths(0, rows, [("a", 9, 5), ("b", 3, 3), ("b", 2, 4)]), resamples=50)["correlation"]
    assert guard["mean"] == pytest.approx((0.8 + 4.5 / np.sqrt(22.5)) / 2) and guard["n"] == 2


def test_pairs_of_unequal_length_are_counted() -> None:
    guard = length_guard(RoundLengths(0, [], [("a", 9, 5), ("b", 3, 3), ("c", 2, 4), ("d", 8, 7)]), resamples=50)
    assert guard["chosen_longer"]["mean"] == pytest.approx(2 / 3) and guard["chosen_longer"]["n"] == 3
    assert guard["chosen_minus_rejected"]["mean"] == pytest.approx(3 / 4) and guard["correlation"] is None


def test_the_lengths_of_a_round_from_its_tables() -> None:
    when = datetime.now(UTC)
    candidates = [
        Candidate(f"x{n}", "c", "c", 0, n, 0, "?", text, (1,), (-1.0,), "stop", True, 0, "w", None, 0, when)
        for n, text in enumerate(["One.", "One two.", "  One two\n three. ", ""])
    ]
    judgements = [
        Judgement(f"{n}{by}", f"x{n}", "c", 0, by, "1", score, 0.0, 5.0, None if score is not None else "parse", "",
                  None, None, None, False, 0.0, 0, 0, 0.0)
        for by, scores in (("mine", (1.0, 2.0, None, None)), ("other", (3.0, 3.0, 3.0, 3.0)))
        for n, score in enumerate(scores)
    ]  # fmt: skip
    pairs = [Pair("p", "c", 0, "best_worst", "?", "One two.", "One.", "x1", "x0", 2.0, 1.0, 1.0, "mine")]
    tables = table_of(Candidate, candidates), table_of(Judgement, judgements), table_of(Pair, pairs)
    lengths = round_lengths(3, "mine", *tables)
    assert lengths == RoundLengths(3, [("c", 1.0, 1), ("c", 2.0, 2)], [("c", 2, 1)])
    assert [words for _, _, words in round_lengths(3, "other", *tables).candidates] == [1, 2, 3, 0]
