"""When a policy counts as collapsed: from tables alone."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from actors.collapse import check_heldout, check_round
from actors.rounds import RoundFailed
from rlaif.ledger import RunFolder
from rlaif.records import Candidate, HeldoutReport

VARIED = [f"There is a nodule of {number} mm." for number in range(10)]


def write(run: RunFolder, texts: list[str], ended: list[bool]) -> None:
    """The same reports as a round's candidates and as its held-out ones, with controls that are all alike."""
    written = [*enumerate(zip(texts, ended, strict=True))]
    run.replace("round-001/candidates", Candidate, [candidate(*one) for one in written])
    write_base(run, VARIED)
    rows = [heldout(number, text, "stop" if end else "length") for number, (text, end) in written]
    run.replace("heldout/round-001", HeldoutReport, [*rows, *(heldout(n, "same", "stop", True) for n in range(40))])


def write_base(run: RunFolder, texts: list[str]) -> None:
    run.replace("heldout/base", HeldoutReport, [heldout(number, text, "stop") for number, text in enumerate(texts)])


def candidate(number: int, written: tuple[str, bool]) -> Candidate:
    text, usable = written
    return Candidate(
        candidate_id=f"c{number}.1.0",
        case_id=f"c{number}",
        study_id=f"s{number}",
        round=1,
        index=0,
        attempt=0,
        prompt="",
        text=text,
        token_ids=(1,),
        logprobs=(-1.0,),
        finish_reason="stop" if usable else "length",
        usable=usable,
        policy_version=1,
        weights_checksum="",
        feature_key=None,
        seed=0,
        sampled_at=datetime.now(UTC),
    )


def heldout(number: int, text: str, reason: str, control: bool = False) -> HeldoutReport:
    return HeldoutReport(f"c{number}", f"s{number}", f"p{number}", control, None, text, reason, 1, {})


@pytest.mark.parametrize("check", [check_round, check_heldout])
@pytest.mark.parametrize(
    ("texts", "ended", "message"),
    [
        (VARIED, [False] * 6 + [True] * 4, "of 10 reports 60% are empty or do not end, more than .*max_unusable=0.5"),
        ([""] * 6 + VARIED[6:], [True] * 10, "60% are empty or do not end"),
        (["No nodule."] * 10, [True] * 10, "100% have the same words, more than learner.ppo.max_same=0.9"),
    ],
)
def test_endless_empty_and_constant_reports_end_the_run(
    configured: Any, tmp_path: Path, check: Any, texts: list[str], ended: list[bool], message: str
) -> None:
    with RunFolder.open(tmp_path, "run", {}) as run:
        write(run, texts, ended)
        with pytest.raises(RoundFailed, match=f"round-001: the policy has collapsed: .*{message}"):
            check(run, configured("experiment=smoke"), 1)


def test_a_base_that_was_like_that_before_has_not_collapsed(configured: Any, tmp_path: Path) -> None:
    config = configured("experiment=smoke")
    with RunFolder.open(tmp_path, "run", {}) as run:
        write(run, ["No nodule."] * 10, [True] * 10)
        write_base(run, ["No nodule."] * 10)
        check_heldout(run, config, 1)
        # It collapses in another way.
        write(run, VARIED, [False] * 10)
        write_base(run, ["No nodule."] * 10)
        with pytest.raises(RoundFailed, match=r"collapsed: of 10 reports 100% are empty or do not end, .*=0.5. The"):
            check_heldout(run, config, 1)
        write(run, ["No nodule."] * 10, [True] * 10)
        rows = run.read("round-001/candidates", Candidate)
        run.replace("round-000/candidates", Candidate, rows)
        with pytest.raises(RoundFailed, match=r"round-000: nothing can be learnt from what the base policy writes: "):
            check_round(run, config, 0)


def test_prompts_without_room_for_a_report_say_nothing_of_the_policy(configured: Any, tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "run", {}) as run:
        write(run, VARIED, [True] * 10)
        rows = run.read("round-001/candidates", Candidate)
        short = [
            replace(row, candidate_id=f"{row.candidate_id}-{n}", text="", finish_reason="prompt_too_long", usable=False)
            for n in range(9)
            for row in rows
        ]
        run.replace("round-001/candidates", Candidate, [*rows, *short])
        check_round(run, configured("experiment=smoke"), 1)


@pytest.mark.parametrize("check", [check_round, check_heldout])
@pytest.mark.parametrize(
    ("texts", "ended"),
    [
        (VARIED, [False] * 5 + [True] * 5),
        (["No nodule."] * 9 + VARIED[:1], [True] * 10),
        # So few that it may be chance.
        (["No nodule."] * 7, [True] * 7),
    ],
)
def test_what_stays_below_the_bounds_goes_on(
    configured: Any, tmp_path: Path, check: Any, texts: list[str], ended: list[bool]
) -> None:
    with RunFolder.open(tmp_path, "run", {}) as run:
        write(run, texts, ended)
        check(run, configured("experiment=smoke"), 1)
