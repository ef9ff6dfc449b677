"""`summary.json` of a small run made by hand: what the tables hold, paired, and nothing else."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rlaif.ledger import RunError, RunFolder
from rlaif.metrics.summary import summarise
from rlaif.records import Candidate, Dropped, HeldoutReport, Judgement, Pair

SCORES = {"base": (0.2, 0.4, 0.6), "round-000": (0.3, 0.5, 0.7), "round-001": (0.6, 0.6, 0.6)}


def report(case: int, score: float | None, *, control: bool = False) -> HeldoutReport:
    known = {} if score is None else {"rules_score": score}
    return HeldoutReport(
        f"c{case}",
        f"c{case}",
        f"p{case}",
        control,
        "Clear.",
        "Clear.",
        "stop",
        0,
        {"report_words": 10.0 + case} | known,
    )


def candidate(number: int) -> Candidate:
    return Candidate(
        f"a{number}", "a", "a", 0, number, 0, "?", "Clear.", (1,), (-1.0,), "stop", True, 0, "w0", None, 0,
        datetime.now(UTC),
    )  # fmt: skip


def judgement(number: int, score: float | None) -> Judgement:
    failure = None if score is not None else "no_reference"
    return Judgement(
        f"a{number}.rules", f"a{number}", "a", 0, "rules", "1", score, 0.0, 1.0, failure, "", None, None, None,
        False, 0.0, 0, 0, 0.0,
    )  # fmt: skip


def make_round(run: RunFolder, number: int) -> None:
    name = f"round-{number:03d}"
    run.append(f"{name}/candidates", Candidate, [candidate(index) for index in range(3)])
    run.append(f"{name}/judgements", Judgement, [judgement(0, 0.5), judgement(1, 1.0), judgement(2, None)])
    run.append(
        f"{name}/pairs", Pair, [Pair("a", "a", 0, "strategy1", "?", "x", "y", "a1", "a0", 1.0, 0.5, 0.5, "rules")]
    )
    run.append(f"{name}/dropped", Dropped, [Dropped("b", 0, "all good"), Dropped("d", 0, "all good")])
    run.finish(
        f"{name}/sample",
        seconds=4.0,
        judging={"judges": {"rules": {"failures": {"no_reference": 1}}}, "agreement": []},
        repeated_calls=2,
        version=number,
        checksum=f"w{number}",
    )
    run.finish(f"{name}/pairs", seconds=1.0, dropped={"all good": 2}, pairs=1)
    run.finish(f"{name}/learn", seconds=8.0, steps=1, logprob_gap={"mean": 1e-7, "max": 1e-6})


def make_run(root: Path, rounds: int, *, control: bool = True) -> RunFolder:
    run = RunFolder.open(root, "run", {})
    run.finish("studies", seconds=1.0, sft=5, align=2, heldout=3, quarantined=1)
    run.finish("ingest", seconds=2.0, encoded=9, quarantined=2, features="bypassed")
    run.finish("base", seconds=3.0, trained=True)
    for number in range(rounds):
        make_round(run, number)
    for name in ("base", *(f"round-{number:03d}" for number in range(rounds))):
        rows = [report(case, score) for case, score in enumerate(SCORES[name])]
        blind = [report(case, score - 0.1, control=True) for case, score in enumerate(SCORES[name])]
        run.append(f"heldout/{name}", HeldoutReport, rows + (blind if control else []))
        run.finish(f"heldout/{name}", seconds=5.0, version=0)
    return run


def means(metrics: dict[str, Any]) -> dict[str, float]:
    return {metric: interval["mean"] for metric, interval in metrics.items()}


def test_the_summary_of_two_rounds(tmp_path: Path) -> None:
    with make_run(tmp_path, 2) as run:
        summary = summarise(run, {"name": "run", "judge": "rules"}, 2, resamples=200)
    assert list(summary)[:3] == ["status", "name", "judge"] and summary["status"] == "finished"
    assert summary["studies"] == {"sft": 5, "align": 2, "heldout": 3, "quarantined": 3}
    assert summary["features"] == "bypassed"
    assert summary["seconds"] == {"studies": 1.0, "ingest": 2.0, "base": 3.0, "heldout/base": 5.0}

    assert list(summary["heldout"]) == ["base", "round-000", "round-001"]
    base = summary["heldout"]["base"]
    assert means(base) == pytest.approx({"rules_score": 0.4, "report_words": 11.0})
    assert base["rules_score"]["n"] == 3 and base["rules_score"]["low"] <= 0.4 <= base["rules_score"]["high"]
    # The last round against the base, case by case: +0.4, +0.2 and 0.
    gain = summary["gain"]["rules_score"]
    assert gain["mean"] == pytest.approx(0.2) and 0.0 <= gain["low"] < 0.2 < gain["high"] <= 0.4 and gain["n"] == 3
    assert means(summary["gain"])["report_words"] == 0.0

    blind = summary["blind_control"]
    assert means(blind["base"])["rules_score"] == pytest.approx(0.3)
    assert {name: means(metrics)["rules_score"] for name, metrics in blind["difference"].items()} == pytest.approx(
        {"base": -0.1, "round-001": -0.1}
    )

    first = summary["rounds"][0]
    assert (first["candidates"], first["judgements"], first["pairs"], first["dropped_cases"]) == (3, 3, 1, 2)
    assert first["judge_failures"] == {"no_reference": 1} and first["dropped"] == {"all good": 2}
    assert first["seconds"] == {"sample": 4.0, "pairs": 1.0, "learn": 8.0, "evaluate": 5.0}
    assert first["logprob_gap"] == {"mean": 1e-7, "max": 1e-6} and first["repeated_calls"] == 2
    assert [one["weights"] for one in summary["rounds"]] == [
        {"version": 0, "checksum": "w0"},
        {"version": 1, "checksum": "w1"},
    ]
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_without_a_round_there_is_no_gain(tmp_path: Path) -> None:
    with make_run(tmp_path, 0, control=False) as run:
        summary = summarise(run, {}, 0, resamples=50)
    assert summary["rounds"] == [] and summary["gain"] == {} and list(summary["heldout"]) == ["base"]
    assert summary["blind_control"] == {"difference": {}}


def test_a_case_that_a_metric_does_not_apply_to_takes_no_part(tmp_path: Path) -> None:
    with make_run(tmp_path, 1) as run:
        rows = [report(0, None), report(1, 0.9), report(2, 0.7)]
        run.replace("heldout/round-000", HeldoutReport, rows)
        summary = summarise(run, {}, 1, resamples=50)
    assert summary["heldout"]["round-000"]["rules_score"]["n"] == 2
    # Cases 1 and 2 alone: +0.5 and +0.1.
    assert summary["gain"]["rules_score"]["mean"] == pytest.approx(0.3) and summary["gain"]["rules_score"]["n"] == 2
    assert "round-000" not in summary["blind_control"] and list(summary["blind_control"]["difference"]) == ["base"]


def test_a_stage_that_is_not_finished_has_no_summary(tmp_path: Path) -> None:
    with make_run(tmp_path, 1) as run, pytest.raises(RunError, match="round-001/sample is not finished"):
        summarise(run, {}, 2, resamples=50)
