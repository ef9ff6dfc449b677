"""An ablation from its run folders: gains in the eyes of every judge, costs, and agreement on the common candidates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlaif.ledger import RunFolder
from rlaif.metrics.ablation import AblationRun, ablation_of, draw, markdown
from rlaif.records import HeldoutReport, Judgement

CASES = ("a", "b", "c", "d")


def judgement(candidate: str, case: str, judge: str, score: float | None, high: float = 1.0) -> Judgement:
    failure = None if score is not None else "timeout"
    low = 1.0 if high > 1 else 0.0
    return Judgement(
        f"{candidate}.{judge}", candidate, case, 0, judge, "1", score, low, high, failure, "", None, None, None, False,
        0.0, 0, 0, 0.0,
    )  # fmt: skip


def make_run(
    root: Path,
    judge: str,
    pairs: str,
    seed: int,
    gain: float,
    scores: dict[str, float],
    heldout: Sequence[str] = CASES,
) -> AblationRun:
    """A finished run: held-out reports gain `gain` by the rules, and half a grade by the grader."""
    name = f"{judge}-{pairs}-{seed}"
    told = {"failures": {"timeout": 1}, "cost_usd": 0.25, "prompt_tokens": 100}
    with RunFolder.open(root, name, {}) as run:
        for stage, more in (("base", 0.0), ("round-000", gain)):
            rows = [
                HeldoutReport(
                    one, one, f"p{one}", False, "r", "t", "stop", 0, {"rules_score": 0.25 + more, "report_words": 40.0}
                )
                for one in heldout
            ]
            run.append(f"heldout/{stage}", HeldoutReport, rows)
            grades = [
                judgement(f"{one}.{stage}", one, "grader", 3.0 if stage == "base" else 3.5, 5.0) for one in heldout[:2]
            ]
            run.append(f"heldout-judging/{stage}/judgements", Judgement, grades)
        own = [judgement(f"{case}.0.0", case, judge, score) for case, score in scores.items()]
        run.append("round-000/judgements", Judgement, own)
        one = {"pairs": 3, "dropped_cases": 1, "judging": {"judges": {judge: told}}}
        run.write_json("summary.json", {"rounds": [one], "heldout_judging": {"base": {"grader": told}}})
    return AblationRun(judge, pairs, seed, root / name)


def test_rows_pool_seeds_and_mark_a_judge_that_grades_its_own_pupil(tmp_path: Path) -> None:
    low_first = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    runs = [
        make_run(tmp_path, "rules", "strategy1", 0, 0.2, low_first),
        make_run(tmp_path, "rules", "strategy1", 1, 0.4, low_first),
        make_run(tmp_path, "grader", "strategy1", 0, 0.1, low_first),
        make_run(tmp_path, "grader", "strategy1", 1, 0.1, dict(zip(CASES, (0.4, 0.3, 0.2, 0.1), strict=True))),
    ]
    ablation = ablation_of(runs, resamples=200)
    rules, grader = ablation["rows"]
    assert (rules["judge"], rules["pairs"], rules["seeds"]) == ("rules", "strategy1", [0, 1])
    gain = rules["gain"]["rules_score"]
    assert gain["mean"] == pytest.approx(0.3) and gain["by_seed"] == pytest.approx([0.2, 0.4]) and gain["own"]
    assert gain["n"] == 8 and gain["base"] == pytest.approx(0.25)
    # The two patients that the grader scored, in two seeds; it did not train here.
    assert (rules["gain"]["grader_score"]["mean"], rules["gain"]["grader_score"]["n"]) == (0.5, 4)
    assert not rules["gain"]["grader_score"]["own"] and grader["gain"]["grader_score"]["own"]
    assert (rules["pairs_a_round"], rules["cases_a_round"], rules["failures"]) == (3.0, 4.0, 4)
    # A round and the held-out reports, in two seeds.
    assert rules["cost_usd"] == pytest.approx(1.0)
    (agreement,) = ablation["agreement"]
    # Seed 0 agrees, seed 1 disagrees.
    assert agreement["judges"] == ["grader", "rules"] and agreement["candidates"] == 8 and agreement["cases"] == 4
    assert agreement["spearman"]["mean"] == pytest.approx(0.0)


def test_the_table_and_the_figure_say_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, "rules", "best_worst", 0, 0.2, {"a": 0.1})
    ablation: dict[str, Any] = ablation_of([run], resamples=200)
    lines = markdown(ablation).splitlines()
    assert lines[0] == "| trained by | pairs | seeds | grader | rules | report words | pairs kept | cost |"
    gains = "+0.500 [+0.500, +0.500] | *+0.200 [+0.200, +0.200]* | +0.0 [+0.0, +0.0]"
    assert lines[2] == f"| rules | best_worst | 1 | {gains} | 3 of 4 | $0.50 |"
    ablation["rows"][0] |= {"cost_usd": 0.0}
    assert markdown(ablation).rstrip().endswith("| no price |")
    assert str(draw(ablation)).count("</svg>") == 1


def test_one_patients_gains_stand_without_an_interval(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, "rules", "best_worst", seed, 0.2, {"a": 0.1}, CASES[:1]) for seed in (0, 1)]
    ablation = ablation_of(runs, resamples=200)
    assert "| +0.500 | *+0.200* | +0.0 |" in markdown(ablation)
    assert str(draw(ablation)).count("</svg>") == 1


def test_without_held_out_reports_there_is_a_table_of_costs_and_no_figure(tmp_path: Path) -> None:
    ablation = ablation_of([make_run(tmp_path, "rules", "best_worst", 0, 0.2, {"a": 0.1}, ())], resamples=200)
    assert markdown(ablation).splitlines()[2] == "| rules | best_worst | 1 | 3 of 4 | $0.50 |"
    assert draw(ablation) is None
