"""The report page on judges and guards: made-up numbers go in, and stand in the page where a reader looks for them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlaif.metrics.display import display_of, judge_displays
from rlaif.metrics.page.guards import guards_section
from rlaif.metrics.page.judges import judges_section
from rlaif.metrics.page.writing import write_page
from rlaif.records import Judgement

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
HOSTILE = '<script>alert("x")</script> <img src=https://example.org/a.png onerror=1> & "quoted".'


def interval(mean: float, half: float, n: int = 200) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def accounts(mean: float | None, **more: Any) -> dict[str, Any]:
    """What a judge did in a stage, as in `summary.json`."""
    return {
        "versions": ["1"],
        "judgements": 2400,
        "scored": 2391,
        "mean_score": mean,
        "failures": {},
        "cached": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "cost_usd": 0.0,
        "mean_latency_s": None,
        **more,
    }


@pytest.fixture
def judged_summary(run_summary: dict[str, Any]) -> dict[str, Any]:
    """The summary of a run that trained with gpt4 and an unkind name, and asked llm_parser about held-out reports."""
    summary = run_summary
    gpt4 = accounts(
        3.217,
        failures={"parse": 7, "timeout": 2},
        cached=812,
        prompt_tokens=1_234_567,
        completion_tokens=8_901,
        cost_usd=12.345,
        mean_latency_s=0.836,
    )
    bias = {
        "comparisons": 3100,
        "first_place": interval(0.62, 0.03),
        "orders_agree": interval(0.71, 0.04),
        "ties": 455,
        "failures": {"parse": 3},
    }
    pair = {"round": 1, "candidates": 2391, "cases": 400, "failures": {}}
    agreement = [
        {
            **pair,
            "judges": ["gpt4", "rules"],
            "spearman": interval(0.67, 0.04),
            "kendall": interval(0.52, 0.04),
            "kappa": interval(0.44, 0.05),
            "order": interval(0.76, 0.03),
        },
        {
            **pair,
            "judges": [HOSTILE, "gpt4"],
            "spearman": interval(-0.33, 0.04),
            "kendall": None,
            "kappa": None,
            "order": None,
        },
        {**pair, "judges": [HOSTILE, "rules"], "spearman": None, "kendall": None, "kappa": None, "order": None},
    ]
    for one in summary["rounds"]:
        one["judging"] = {"judges": {HOSTILE: accounts(None), "gpt4": gpt4, "rules": accounts(0.312)}, "agreement": []}
    summary["rounds"][1]["judging"]["agreement"] = agreement
    summary["judge"] = "gpt4"
    gains = {
        "gpt4_score": interval(0.48, 0.12),
        "llm_parser_score": interval(-0.09, 0.04),
        "rules_score": interval(0.11, 0.03),
        "finding_f1": interval(0.08, 0.025),
        "hallucinated": interval(-0.37, 0.12),
    }
    summary["gain"] |= {name: gains[name] for name in ("gpt4_score", "llm_parser_score")}
    for key, gpt4_mean, wins in (("base", 2.51, 0.5), ("round-000", 2.8, 0.45), ("round-001", 2.99, 0.41)):
        scores = {"gpt4_score": interval(gpt4_mean, 0.2), "llm_parser_score": interval(wins, 0.04)}
        summary["heldout"][key] |= scores
    summary["heldout_judging"] = {
        "base": {"gpt4": gpt4, "llm_parser": accounts(0.5)},
        "round-001": {"gpt4": gpt4, "llm_parser": accounts(0.41, comparisons=bias)},
    }
    classes = ("false_finding", "missing_finding", "wrong_location", "wrong_severity", "false_comparison")
    summary["guards"] = {
        "judge": "gpt4",
        "length": {
            "round-000": {
                "correlation": interval(0.58, 0.06),
                "chosen_longer": interval(0.81, 0.05),
                "chosen_minus_rejected": interval(6.3, 1.2),
            },
            "round-001": {"correlation": None, "chosen_longer": None, "chosen_minus_rejected": None},
        },
        "errors": {
            key: {**dict.fromkeys(classes, interval(level, 0.1)), "omitted_comparison": None}
            for key, level in (("base", 1.25), ("round-001", 0.75))
        },
        "hallucinated": {"base": interval(1.31, 0.08), "round-001": None},
        "gains": gains,
        "length_matched": {"gain": interval(0.21, 0.2, 63), "win_rate": interval(0.57, 0.06, 63)},
        "warnings": ["The training judge's gpt4_score rose while llm_parser_score fell.", HOSTILE],
    }
    return summary


@pytest.fixture
def page(tmp_path: Path, judged_summary: dict[str, Any]) -> str:
    (tmp_path / "summary.json").write_text(json.dumps(judged_summary), encoding="utf-8")
    return " ".join(write_page(tmp_path).read_text(encoding="utf-8").split())


def section(page: str, name: str) -> str:
    return page.split(f'<section id="{name}">')[1].split("</section>")[0]


def test_each_judge_has_its_accounts_with_failures_and_costs(page: str) -> None:
    judges = section(page, "judges")
    assert "took 4,938,268 tokens of prompts and 35,604 of replies, and cost US$ 49.38." in judges
    assert (
        '<td>3.217 <span class="ci">on 1 to 5</span></td><td><ul><li>parse 7</li><li>timeout 2</li></ul></td>' in judges
    )
    assert "<td>812</td><td>1,234,567 + 8,901</td><td>12.35</td><td>0.84</td>" in judges
    none = f"<td>none</td><td>0</td><td>{DASH}</td><td>{DASH}</td><td>{DASH}</td>"
    assert f'<td>0.312 <span class="ci">on 0 to 1</span></td>{none}' in judges


def test_a_judge_that_compares_shows_whether_the_place_decides(page: str) -> None:
    judges = section(page, "judges")
    assert "Held-out, round 1" in judges and "0.5: no bias" in judges
    cells = [
        "3,100",
        '0.62 <span class="ci">[0.59, 0.65]</span>',
        '0.71 <span class="ci">[0.67, 0.75]</span>',
        "455",
        "parse 3",
    ]
    assert "".join(f"<td>{cell}</td>" for cell in cells) in judges


def test_agreement_is_told_in_words_shades_and_figures(judged_summary: dict[str, Any]) -> None:
    matrix = judges_section(judged_summary, judge_displays(judged_summary))["matrix"]  # type: ignore[index]
    assert matrix["label"] == "Round 1" and matrix["columns"][1] == "gpt4"
    (second, (against,)), (last, (unknown, good)) = matrix["rows"]
    assert (second, last) == ("gpt4", "rules")
    assert (good["word"], good["shade"], good["spearman"]) == ("good", "s3", "0.67 [0.63, 0.71]")
    assert (good["kappa"], good["order"]) == ("0.44 [0.39, 0.49]", "0.76 [0.73, 0.79]")
    assert (against["word"], against["shade"]) == ("opposite", "against")
    assert (unknown["word"], unknown["shade"], unknown["kappa"]) == ("cannot be told", "", "not available")


def test_warnings_stand_before_the_results_and_are_escaped(page: str) -> None:
    top = page.split("<main>")[1].split('<section id="results">')[0]
    assert "Warnings of the guards" in top and "gpt4_score rose while llm_parser_score fell." in top
    assert "&lt;script&gt;alert(" in top and "&lt;script&gt;alert(" in section(page, "judges")
    assert "<script" not in page and "<img src=https" not in page


def test_what_may_be_chance_stands_below_the_warnings_and_makes_none(
    tmp_path: Path, judged_summary: dict[str, Any]
) -> None:
    def top() -> str:
        (tmp_path / "summary.json").write_text(json.dumps(judged_summary), encoding="utf-8")
        page = write_page(tmp_path).read_text(encoding="utf-8")
        assert "<script" not in page
        return " ".join(page.split("<main>")[1].split('<section id="results">')[0].split())

    judged_summary["guards"]["notes"] = ["The rules_score may have fallen.", HOSTILE]
    told = top()
    assert told.index("</aside>") < told.index('<ul class="soft small"><li>The rules_score may have fallen.</li>')
    assert "may have fallen" not in told.split("</aside>")[0]
    judged_summary["guards"]["warnings"] = []
    assert "No warning: the guards see no sure sign" in top() and "may have fallen" in top()
    judged_summary["guards"]["notes"] = []
    assert "No warning: the guards see no sign" in top() and '<ul class="soft small">' not in top()


def test_gains_stand_side_by_side_with_the_training_judge_marked(page: str) -> None:
    gaming = section(page, "gaming")
    places = [
        gaming.index(words)
        for words in (
            'GPT-4 score <span class="role">training judge</span><small>score, 1 to 5</small>',
            'Rules score <span class="role">in training too</span>',
            'LLM parser win rate against base <span class="role">held out</span>',
            "Finding F1<small>",
            "Gains as shares of each scale",
            "GPT-4 score (training judge)",
        )
    ]
    assert places == sorted(places)
    assert '<td class="gain better">+0.480 <span class="ci">[+0.360, +0.600]</span>' in gaming
    assert f'<td class="gain worse">{MINUS}0.090' in gaming
    # 0.48 of the four steps from 1 to 5.
    assert "+0.120 [+0.090, +0.150]" in gaming
    assert "63 held-out cases whose report is as long as the base&#39;s within 10 %" in gaming
    assert "gain is +0.210 [+0.010, +0.410]" in gaming and "wins 0.57 [0.51, 0.63] of the cases" in gaming


def test_length_and_errors_stand_by_round_and_policy(page: str) -> None:
    gaming = section(page, "gaming")
    row = gaming.split('<th scope="row">Round 0</th>')[1].split("</tr>")[0]
    for words in ("+0.58 ", "[+0.52, +0.64]", "0.81 ", "[0.76, 0.86]", "+6.3 ", "[+5.1, +7.5]"):
        assert words in row, words
    assert gaming.split('<th scope="row">Round 1</th>')[1].split("</tr>")[0].count("not available") == 3
    row = gaming.split('<th scope="row">Wrong location</th>')[1].split("</tr>")[0]
    assert row.index("1.25 ") < row.index("0.75 ")
    assert gaming.split('<th scope="row">Omitted comparison</th>')[1].split("</tr>")[0].count("not available") == 2
    assert "1.31 " in gaming.split('<th scope="row">Hallucinated findings</th>')[1].split("</tr>")[0]


def test_the_rules_alone_take_no_section_and_the_guards_say_that_they_are_quiet(
    tmp_path: Path, judged_summary: dict[str, Any]
) -> None:
    for one in judged_summary["rounds"]:
        one["judging"] = {"judges": {"rules": accounts(0.312)}, "agreement": []}
    judged_summary["heldout_judging"] = {}
    judged_summary["guards"] |= {
        "judge": "rules",
        "gains": {"rules_score": judged_summary["gain"]["rules_score"]},
        "warnings": [],
    }
    (tmp_path / "summary.json").write_text(json.dumps(judged_summary), encoding="utf-8")
    page = write_page(tmp_path).read_text(encoding="utf-8")
    assert 'id="judges"' not in page and "#judges" not in page.split("</style>")[1]
    assert '<p class="quiet">No warning: ' in page and "as shares of each scale" not in page
    assert "Every judge here took part in training" in page


def test_guards_that_measured_nothing_do_not_sound_like_an_all_clear(run_summary: dict[str, Any]) -> None:
    run_summary["guards"] = {"judge": "rules", "length": {}, "errors": {}, "gains": {}, "warnings": []}
    guards = guards_section(run_summary, judge_displays(run_summary))
    assert guards is not None
    assert guards["quiet"].startswith("Whether the policy games its judge was not measured")
    assert guards["matched"].startswith("No held-out report is as long")


def test_an_older_summary_has_neither_section(tmp_path: Path, run_builder: Callable[..., Path]) -> None:
    page = write_page(run_builder(tmp_path / "runs" / "demo", rounds=1, cases=5)).read_text(encoding="utf-8")
    assert "The run's summary has no guards" in page
    assert 'id="judges"' not in page and 'class="quiet"' not in page and 'class="warnings"' not in page


def test_nulls_in_place_of_the_new_keys_still_give_a_page(tmp_path: Path) -> None:
    summary = {
        "rounds": [{"judging": None}, {"judging": {"judges": {"gpt4": None}, "agreement": None}}],
        "heldout_judging": {"base": None},
        "guards": {"gains": {"gpt4_score": None}, "length": {"round-000": None}, "errors": {"base": None}},
        "heldout": None,
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    page = write_page(tmp_path).read_text(encoding="utf-8")
    assert f'<th scope="row">gpt4</th><td>{DASH}</td>' in page


def test_a_scale_is_read_from_the_judgements_of_a_judge_with_a_name_of_its_own(
    tmp_path: Path, judged_summary: dict[str, Any], row_writer: Callable[..., None]
) -> None:
    row = Judgement("j", "c.base", "c", 0, "mini", "1", 4.0, 1.0, 5.0, None, "", {}, None, None, False, 0.1, 1, 1, 0.0)
    row_writer(tmp_path / "heldout-judging" / "base" / "judgements", Judgement, [row])
    judged_summary["heldout"]["base"]["mini_score"] = {"mean": 4.0, "low": None, "high": None, "n": 1}
    (tmp_path / "summary.json").write_text(json.dumps(judged_summary), encoding="utf-8")
    results = section(write_page(tmp_path).read_text(encoding="utf-8"), "results")
    assert "Mini score<small>score, 1 to 5; higher is better</small>" in results


def test_scores_are_named_by_their_judge_and_by_what_it_does(judged_summary: dict[str, Any]) -> None:
    judges = judge_displays(judged_summary)
    assert display_of("gpt4_score", judges).label == "GPT-4 score" and display_of("gpt4_score").unit == "score, 1 to 5"
    assert display_of("gpt4_mini_score", judges).label == "Gpt4 mini score"
    assert display_of("gpt4_mini_score", judges).unit == "score"
    assert display_of("llm_parser_score", judges).label == "LLM parser win rate against base"
    assert display_of("llm_parser_score").label == "LLM parser score"
    assert display_of("gpt4_score").words == "GPT-4 score" and display_of("rules_score").words == "rules score"
