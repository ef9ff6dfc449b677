"""Sets of scored reports: metrics and judges' scores side by side, differences by case, and seeds pooled."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlaif.metrics.measures.settings import MetricSettings
from rlaif.metrics.published import PublishedColumn, PublishedRow, PublishedTable
from rlaif.metrics.report_sets import (
    ReportSet,
    ScoredReport,
    ScoredSetsError,
    check_same_cases,
    differences_of,
    measured_set,
    pool_of,
    read_sets,
    summary_of,
    written,
)
from rlaif.metrics.score_tables import score_tables

WORDS = MetricSettings(
    names=("lengths", "rouge"), wordnet=None, bert_score=None, bert_score_layer=None, ratescore=None, radgraph=None,
    radbert=None,
)  # fmt: skip


def reports(*texts: str) -> list[ScoredReport]:
    return [
        ScoredReport(f"c{n}.0", f"c{n}", f"p{n}", "clear lungs", text, None, (), "stop") for n, text in enumerate(texts)
    ]


def scored(values: list[float | None], judge: str = "gpt4", version: str = "gpt4-1:m") -> list[dict[str, Any]]:
    same = {"judge": judge, "judge_version": version, "scale_low": 1.0, "scale_high": 5.0}
    return [{"candidate_id": f"c{n}.0", "score": value, **same} for n, value in enumerate(values)]


def measured(texts: list[str], values: list[float | None], version: str = "gpt4-1:m") -> ReportSet:
    return measured_set(reports(*texts), scored(values, version=version), WORDS, processes=1)


def test_a_judges_scores_stand_beside_the_metrics_and_a_failure_is_no_score() -> None:
    summary = summary_of(measured(["clear lungs", "lungs", "a b c"], [5, None, 2]), resamples=200)
    assert (summary["reports"], summary["cases"], summary["missing"]) == (3, 3, {})
    assert summary["metrics"]["gpt4_score"]["mean"] == 3.5 and summary["metrics"]["gpt4_score"]["n"] == 2
    assert summary["metrics"]["gpt4_score"]["signature"] == "gpt4-1:m; tokens: the judge's own; sample mean; 1 to 5"
    assert summary["metrics"]["report_words"]["mean"] == 2.0
    # F of one of two words, all of it right: 2 · 1 · ½ / 1½.
    assert summary["metrics"]["rouge1"]["mean"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_differences_are_of_the_cases_of_both_computed_in_the_same_way() -> None:
    first, second = measured(["lungs", "lungs", "a"], [1, 1, 1]), measured(["clear lungs", "lungs"], [2, 4])
    found = differences_of(first, second, resamples=200)
    assert found["rouge1"]["mean"] == pytest.approx((1 / 3 + 0) / 2) and found["rouge1"]["n"] == 2
    assert found["gpt4_score"]["mean"] == 2.0
    # Another version of a judge is another judge.
    assert "gpt4_score" not in differences_of(first, measured(["x"], [5], version="gpt4-2:m"), resamples=50)


def test_seeds_are_pooled_where_all_have_the_metric() -> None:
    seeds = [measured(["a", "a b"], [2, 4]), measured(["a b c", "a"], [5, 5])]
    pooled = pool_of(seeds, same_patients=True, resamples=300)
    assert pooled["gpt4_score"]["mean"] == 4.0 and pooled["gpt4_score"]["seeds"] == 2
    assert pooled["gpt4_score"]["spread"] == pytest.approx(2**0.5)
    assert pooled["report_words"]["mean"] == 1.75
    seeds[1] = measured_set(reports("a"), [], WORDS, processes=1)
    assert "gpt4_score" not in pool_of(seeds, same_patients=True, resamples=50)


def test_another_folder_than_a_finished_score_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoredSetsError, match=r"is no finished run of jobs/score\.py with sets"):
        read_sets(tmp_path)
    for damaged in ('{"own": ["a', "[]"):
        (tmp_path / "score.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(ScoredSetsError, match=r"score\.json is damaged: remove it, and give that run's command"):
            read_sets(tmp_path)
    # Reports that stand in several pairs are no set.
    (tmp_path / "score.json").write_text('{"own": []}', encoding="utf-8")
    with pytest.raises(ScoredSetsError, match=r"whose score\.json has metrics"):
        read_sets(tmp_path)


def test_cases_of_one_name_and_another_patient_or_reference_are_not_compared() -> None:
    mine, same = reports("a", "b"), reports("c")
    check_same_cases(mine, same, "other")
    for changed in ({"patient_id": "p9"}, {"reference": "other words"}):
        with pytest.raises(ScoredSetsError, match="other: case c0 has another patient or reference than here"):
            check_same_cases(mine, [replace(same[0], **changed)], "other")


def test_a_region_guided_report_keeps_the_names_that_recognition_reads() -> None:
    text = "The region 0 is lung: Clear.\nThe region 1 is heart: Enlarged."
    one = ScoredReport("c0.0", "c0", "p0", "Clear. Enlarged.", text, None, ("lung", "heart"), "stop")
    settings = WORDS.model_copy(update={"names": ("findings", "rouge")})
    metrics = summary_of(measured_set([one], [], settings, processes=1), resamples=100)["metrics"]
    assert metrics["region_recognition"]["mean"] == 1.0 and metrics["rouge1"]["mean"] == 1.0


def test_prompts_without_room_for_a_report_do_not_count() -> None:
    whole, cut_off, never = reports("clear lungs", "lungs", "")
    rows = [whole, replace(cut_off, finish_reason="length"), replace(never, finish_reason="prompt_too_long")]
    summary = summary_of(measured_set(written(rows), scored([5, 3]), WORDS, processes=1), resamples=50)
    assert summary["reports"] == 2 and summary["metrics"]["report_words"]["mean"] == 1.5


def test_what_has_no_value_says_so_and_the_rules_score_has_one_signature() -> None:
    rows = [
        {
            "candidate_id": "c0.0",
            "judge": "rules",
            "judge_version": "rules-2",
            "score": 1.0,
            "scale_low": 0.0,
            "scale_high": 1.0,
        }
    ]
    one = measured_set([replace(reports("a")[0], reference=None)], [*rows, *scored([None])], WORDS, processes=1)
    summary = summary_of(one, resamples=100)
    assert "rules_score" not in summary["metrics"]
    assert "none of the reports has a value" in summary["missing"]["gpt4_score"] == summary["missing"]["rouge1"]


def test_the_tables_show_sets_differences_and_what_is_missing() -> None:
    one = summary_of(measured(["clear lungs"], [4]), resamples=100)
    one["missing"] = {"bert_score": "needs weights: set score.metrics.bert_score"}
    summary = {
        "name": "mine",
        "sets": {"temperature-0": one | {"data": "phantom", "unwritten": 3, "no_room": 2, "cut_off": 1}},
        "differences": {"a - b": {"rouge1": {"mean": 0.1, "low": 0.05, "high": 0.2, "n": 1}}, "none": {}},
        "pooled": {},
    }
    tables = score_tables(summary)
    assert [table.title.plain for table in tables] == [  # type: ignore[union-attr]
        "mine: mean [95 % interval over patients]", "paired differences, the same patients in both"
    ]  # fmt: skip
    assert "temperature-0: no report of 3 studies of the split" in str(tables[0].caption)
    assert "temperature-0: 2 prompts left no room for sampler.max_tokens within sampler" in str(tables[0].caption)
    assert "temperature-0: 1 reports were cut off at sampler.max_tokens, and count" in str(tables[0].caption)
    assert "bert_score: needs weights: set score.metrics.bert_score" in str(tables[0].caption)
    assert [column.header for column in tables[1].columns] == ["Metric", "a - b"]
    assert next(iter(tables[1].columns[1].cells)).plain == "+0.100 [+0.050, +0.200]"  # type: ignore[union-attr]


def test_a_mean_that_a_published_table_has_is_measured_with_an_interval_of_its_own() -> None:
    column = PublishedColumn(label="Avg.", metric="average", mean_of=("rouge1", "rougeL"))
    table = PublishedTable(
        paper="P", number="1", title="T", source="S", data="D", columns=(column,),
        rows=(PublishedRow(label="theirs", values=(0.5,)),), marks=(), claims=(), remarks=(),
    )  # fmt: skip
    one = measured_set(reports("clear lungs", "lungs"), [], WORDS, table, processes=1)
    average = summary_of(one, resamples=200)["metrics"]["average"]
    assert average["mean"] == pytest.approx((1 + 2 / 3) / 2) and average["low"] == pytest.approx(2 / 3)
