"""The cases of the report page's browser: which are shown, with which texts, references, scores and marks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlaif.metrics.page.cases import browser
from rlaif.metrics.page.changes import extremes
from rlaif.metrics.page.run_tables import read_rows
from rlaif.metrics.page.studies import StudyIndex
from rlaif.metrics.page.writing import write_page
from rlaif.records import Candidate, HeldoutReport, Study
from rlaif.reports.region_reports import joined_sentences, region_order, region_prompt


def test_the_browser_has_heldout_reports_of_every_policy_and_candidates_with_all_scores(
    tmp_path: Path, run_builder: Callable[..., Path]
) -> None:
    run = run_builder(tmp_path / "runs" / "demo")
    cases = {case["id"]: case for case in browser(run, StudyIndex(run), {}).data["cases"]}
    assert len(cases) == 16
    heldout, sampled = cases["h2"], cases["case-1"]
    assert [one["label"] for one in heldout["reports"]] == ["Base", "Round 0", "Round 1"]
    assert heldout["reports"][2]["scores"][0][0] == "Rules score" and heldout["kind"] == "held-out"
    assert [one["label"] for one in sampled["reports"]] == [f"Candidate {number}" for number in (1, 2, 3, 4)]
    assert sampled["reports"][1]["scores"] == [("rules", "no score: no reference")]
    assert {one["role"] for one in sampled["reports"]} == {"chosen", "rejected", "candidate"}
    assert "stack" in sampled and "stack" not in cases["case-3"] and "cannot be read" in cases["case-3"]["note"]
    few = browser(run, StudyIndex(run), {}, first=["h7", "case-5"], most=6)
    assert few.shown == 6 and few.available == 16 and {"h7", "case-5"} <= {case["id"] for case in few.data["cases"]}


def test_reports_by_regions_are_shown_and_marked_as_their_judge_reads_them(
    tmp_path: Path, run_builder: Callable[..., Path], row_writer: Callable[..., None]
) -> None:
    run = run_builder(tmp_path / "runs" / "demo", rounds=1, cases=5)
    written = "The region 0 is lung: No effusion The region 1 is heart: Moderate cardiomegaly."
    for record, folder in ((HeldoutReport, run / "heldout" / "round-000"), (Candidate, run / "round-000/candidates")):
        first, *rows = (record(**row) for row in read_rows(folder))
        asked: Any = {"prompt": region_prompt(["lung", "heart"])}
        asked = asked if record is Candidate else {"reference": "Cardiomegaly."}
        row_writer(folder, record, [replace(first, text=written, **asked), *rows])
    row_writer(run / "studies", Study, [Study("study-0", "p", "phantom", "align", findings="Cardiomegaly.")])
    cases = {case["id"]: case for case in browser(run, StudyIndex(run), {}).data["cases"]}
    for shown in (cases["h0"]["reports"][-1], cases["case-0"]["reports"][0]):
        assert shown["text"] == "No effusion. Moderate cardiomegaly."
        assert [(kind, shown["text"][start:end]) for start, end, kind, _ in shown["marks"]] == [
            ("matched", "Moderate cardiomegaly")
        ]
        assert [kind for *_, kind, _ in shown["reference_marks"]] == ["matched"]


def test_the_reference_of_sampled_cases_is_the_one_that_judges_were_given(
    tmp_path: Path, run_builder: Callable[..., Path], row_writer: Callable[..., None]
) -> None:
    run = run_builder(tmp_path / "runs" / "demo", rounds=1, cases=5)
    said = {"heart": "Cardiomegaly", "lung": "A nodule in the right upper lobe", "bone": " "}
    sections = {"findings": "A nodule.", "impression": "Follow-up."}
    studies: list[dict[str, Any]] = [sections, {"findings": "A nodule."}, {"region_reports": said}, {}, sections]
    row_writer(
        run / "studies",
        Study,
        [Study(f"study-{k}", "p", "phantom", "align", **parts) for k, parts in enumerate(studies)],
    )
    folder = run / "round-000" / "candidates"
    asked = region_prompt(region_order(["lung", "heart", "bone"], "study-2"))
    rows = [Candidate(**row) for row in read_rows(folder)]
    row_writer(folder, Candidate, [replace(row, prompt=asked) if row.case_id == "case-2" else row for row in rows])
    regions = joined_sentences(said[name] for name in region_order(said, "study-2"))

    def shown(target: str) -> list[str]:
        (run / "config.yaml").write_text(f"run:\n  target: {target}\n")
        cases = {case["id"]: case for case in browser(run, StudyIndex(run), {}).data["cases"]}
        assert all(not one["marks"] for one in cases["case-3"]["reports"])
        assert any(one["reference_marks"] for one in cases["case-0"]["reports"]) == (target != "impression")
        return [cases[f"case-{k}"]["reference"] for k in range(5)]

    both = "Findings: A nodule.\nImpression: Follow-up."
    assert "nodule" in regions and "Cardiomegaly" in regions
    assert shown("both") == [both, "", regions, "", both]
    assert shown("findings") == ["A nodule.", "A nodule.", regions, "", "A nodule."]
    assert shown("impression") == ["Follow-up.", "", regions, "", "Follow-up."]
    with pytest.raises(ValueError, match=r"run\.target is 'all', and can be findings, impression, both"):
        shown("all")


def test_heldout_cases_without_the_main_metric_are_shown_and_counted(
    tmp_path: Path, run_builder: Callable[..., Path], row_writer: Callable[..., None]
) -> None:
    run = run_builder(tmp_path / "runs" / "demo", rounds=1, cases=5)

    def without_metric(keep: int) -> None:
        for folder in (run / "heldout").iterdir():
            rows = [HeldoutReport(**row) for row in read_rows(folder)]
            none = {"rules_score": float("nan")} if keep else {}
            known = [replace(row, reference=None, metrics=none) if row.case_id >= f"h{keep}" else row for row in rows]
            row_writer(folder, HeldoutReport, known)

    without_metric(3)
    shown = browser(run, StudyIndex(run), {})
    cases = {case["id"]: case for case in shown.data["cases"]}
    assert shown.shown == shown.available == 10 and {"h3", "h4"} <= cases.keys()
    assert [cases["h4"][name] for name in ("gain", "gain_text", "score", "score_text")] == [None, "", None, ""]
    assert [one["label"] for one in cases["h4"]["reports"]] == ["Base", "Round 0"] and cases["h0"]["gain"] is not None
    few = browser(run, StudyIndex(run), {}, most=4)
    assert few.shown == 4 and few.available == 10
    found = extremes(run, {}, [])
    assert found and sum(found["counts"]) == 3
    without_metric(0)
    shown = browser(run, StudyIndex(run), {})
    assert shown.shown == shown.available == 10 and shown.data["metric"] is None
    assert extremes(run, {}, []) is None
    assert "No held-out case has a score for both the base and a round." in write_page(run).read_text(encoding="utf-8")
