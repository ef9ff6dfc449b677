"""The result table on the terminal and in Markdown."""

import io
from typing import Any

from rich.console import Console

from rlaif.metrics.display import display_of, interval_text, judge_displays, ordered, policy_columns, verdict_of
from rlaif.metrics.table import plain_table, result_table


def summary() -> dict[str, Any]:
    def at(score: float, hallucinated: float) -> dict[str, Any]:
        return {
            "hallucinated": {"mean": hallucinated, "low": hallucinated - 0.2, "high": hallucinated + 0.2, "n": 200},
            "rules_score": {"mean": score, "low": score - 0.03, "high": score + 0.03, "n": 200},
        }

    return {
        "name": "demo",
        "heldout": {"round-001": at(0.52, 0.9), "base": at(0.41, 1.3), "round-000": at(0.47, 1.1)},
        "gain": {
            "rules_score": {"mean": 0.11, "low": 0.08, "high": 0.14, "n": 200},
            "hallucinated": {"mean": -0.4, "low": -0.55, "high": -0.25, "n": 200},
        },
    }


def shown(content: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(result_table(content))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_terminal_table_has_base_rounds_and_gain() -> None:
    text = shown(summary())
    assert "demo: mean [95 % interval], 200 held-out cases" in text
    row = next(line for line in text.splitlines() if "Rules score" in line)
    cells = ["0.410 [0.380, 0.440]", "0.470 [0.440, 0.500]", "0.520 [0.490, 0.550]", "+0.110 [+0.080, +0.140]"]
    places = [row.index(cell) for cell in cells]
    assert places == sorted(places)
    assert "Hallucinated findings \N{DOWNWARDS ARROW}" in text and "-0.40 [-0.55, -0.25]" in text
    assert "not for clinical use" in text


def test_three_rounds_fit_a_terminal() -> None:
    content = summary()
    content["heldout"]["round-002"] = content["heldout"]["round-001"]
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(result_table(content))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Hallucinated findings \N{DOWNWARDS ARROW}" in text and "[0.490, 0.550]" in text
    assert "[+0.080, +0.140]" in text and "\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_scale_is_that_of_the_judges_accounts() -> None:
    told = {"mini": {"scale": [1.0, 7.0]}, "gpt4": {"scale": [0, 100]}, "odd": {"scale": [1, 1]}, "old": {}}
    told |= {"none": None, "text": {"scale": "15"}, "three": {"scale": [1, 2, 3]}, "true": {"scale": [False, True]}}
    content = {"rounds": [{"judging": {"judges": told}}]}
    judges = judge_displays(content)
    assert judges["mini"].scale == (1.0, 7.0) and judges["gpt4"].scale == (0, 100) and judges["rules"].scale == (0, 1)
    assert {judges[name].scale for name in ("odd", "old", "none", "text", "three", "true")} == {None}
    assert judge_displays(content, {"mini": (0.0, 10.0)})["mini"].scale == (0.0, 10.0)
    # The same of held-out judging alone, in the table.
    score = {"mean": 4.0, "low": 3.5, "high": 4.5, "n": 9}
    shown_ = shown({"heldout": {"base": {"mini_score": score}}, "heldout_judging": {"base": told}})
    assert "Mini score, 1 to 7" in shown_
    assert "Rules score \N{UPWARDS ARROW}" in shown(summary())
    assert "| Mini score, 1 to 7 \N{UPWARDS ARROW} | 4.000 [3.500, 4.500] |" in plain_table(
        {"heldout": {"base": {"mini_score": score}}, "heldout_judging": {"base": told}}
    )


def test_a_name_with_markup_is_shown_as_it_is() -> None:
    assert "[red]x[/red]" in shown({**summary(), "name": "[red]x[/red]"})


def test_the_warnings_of_the_guards_stand_below_the_table() -> None:
    warned = summary() | {"guards": {"warnings": ["gpt4_score rose while [b]rules_score[/b] fell.", "Reports grew."]}}
    lines = [line.strip() for line in shown(warned).splitlines()]
    assert lines[-2:] == ["Warning: gpt4_score rose while [b]rules_score[/b] fell.", "Warning: Reports grew."]
    assert "Warning: Reports grew." in shown({"guards": warned["guards"]})
    assert "Warning" not in shown(summary() | {"guards": {"warnings": []}})


def test_the_markdown_table() -> None:
    lines = plain_table(summary()).splitlines()
    assert lines[0] == "| Metric | Base | Round 0 | Round 1 | Gain (last - base) |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: |"
    assert lines[2].startswith("| Rules score \N{UPWARDS ARROW} | 0.410 [0.380, 0.440] |")
    assert len(lines) == 4


def test_missing_parts_leave_cells_out() -> None:
    assert "No held-out scores" in shown({"rounds": []}) and "No held-out scores" in plain_table({})
    partial = summary()
    del partial["heldout"]["round-000"]["hallucinated"], partial["gain"]["hallucinated"]
    line = next(line for line in plain_table(partial).splitlines() if "Hallucinated" in line)
    assert line.split("|")[3].strip() == "-" and line.split("|")[5].strip() == "-"


def test_metrics_and_columns_are_ordered_and_verdicts_know_the_direction() -> None:
    assert ordered(["omitted", "zeta", "green_score", "rules_score"]) == [
        "rules_score",
        "green_score",
        "omitted",
        "zeta",
    ]
    assert policy_columns({"round-010": 1, "round-002": 1, "base": 1}) == ["base", "round-002", "round-010"]
    fell = {"mean": -0.4, "low": -0.5, "high": -0.3}
    assert verdict_of(fell, display_of("hallucinated")) == "better"
    assert verdict_of(fell, display_of("rules_score")) == "worse"
    assert verdict_of(fell, display_of("report_words")) == "changed"
    assert verdict_of({"mean": 0.1, "low": -0.1, "high": 0.3}, display_of("rules_score")) == "unclear"
    assert verdict_of({"mean": 0.1, "low": None, "high": None}, display_of("rules_score")) == "unclear"
    assert interval_text({"mean": float("nan")}, display_of("rules_score")) == "not available"
    assert interval_text({"mean": -0.0001, "low": None}, display_of("rules_score"), signed=True) == "0.000"
