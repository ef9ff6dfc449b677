"""jobs/score.py on a policy's reports and on other people's, as a user runs it after a run."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlaif.metrics.report_sets import ScoredReport
from rlaif.records import HeldoutReport
from rlaif.tables import Table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_policy_is_scored_at_each_temperature_and_another_peoples_file_against_it(
    smoke: Any, start_job: Callable[..., Any], tmp_path: Path
) -> None:
    roots = [f"run.root={tmp_path / 'runs'}", smoke.overrides[-1]]
    # Those of the smoke run.
    data = ["data.sft=96", "data.align=16", "data.heldout=8"]
    policy = [
        "score", *data, "run.name=policy", "policy=folder",
        f"policy.path={smoke.path / 'round-001' / 'checkpoint'}", "score.temperatures=[0,0.8]",
        "score.samples=2", "sampler.max_tokens=64", *roots,
    ]  # fmt: skip
    job = start_job(*policy)
    assert job.ended(400) == 0, job.output[-3000:]
    run = tmp_path / "runs" / "policy"
    greedy = Table(run / "reports" / "temperature-0", ScoredReport).read()
    # The same policy on the same cases: what the run itself wrote at its end.
    evaluated = [one for one in Table(smoke.path / "heldout" / "round-001", HeldoutReport).read() if not one.control]
    assert {one.case_id: one.text for one in greedy} == {one.case_id: one.text for one in evaluated}
    warm = Table(run / "reports" / "temperature-0.8", ScoredReport).read()
    assert {one.case_id for one in warm} == {one.case_id for one in greedy}
    assert {one.text for one in warm} != {one.text for one in greedy} and len(warm) == 2 * len(greedy)

    summary = json.loads((run / "score.json").read_text(encoding="utf-8"))
    own = summary["sets"]["temperature-0"]
    assert own["reports"] == own["cases"] == len(evaluated)
    recorded = json.loads((smoke.path / "summary.json").read_text(encoding="utf-8"))["heldout"]["round-001"]
    for name in ("rules_score", "finding_f1", "hallucinated", "omitted", "report_words"):
        assert own["metrics"][name]["mean"] == pytest.approx(recorded[name]["mean"]), name
    for name in ("bleu_4", "bleu_4_sample_mean", "rougeL", "ce_micro_f1", "distinct_2", "length_kl"):
        assert own["metrics"][name]["n"] and own["metrics"][name]["signature"], name
    # What has no weights here says what it wants, in one line.
    assert "score.metrics.bert_score" in own["missing"]["bert_score"]
    assert set(summary["differences"]) == {"temperature-0.8 - temperature-0"}
    assert {"low", "high", "effect"} < set(summary["differences"]["temperature-0.8 - temperature-0"]["rougeL"])
    for line in ("BLEU-4", "temperature-0.8", "paired differences", "bert_score: "):
        assert line in job.output, line

    again = start_job(*policy)
    assert again.ended(200) == 0
    assert again.output == job.output[job.output.index("policy: mean [95 % interval") :]

    # As a kill leaves it that came in the middle of a case: the rest is written, nothing stands twice.
    for stage in ("score", "judging/temperature-0.8", "reports/temperature-0.8"):
        (run / "ledger" / f"{stage}.json").unlink()
    part = run / "reports" / "temperature-0.8" / "part-000.parquet"
    pq.write_table(pq.read_table(part).slice(0, 3), part)
    resumed = start_job(*policy)
    assert resumed.ended(300) == 0, resumed.output[-3000:]
    assert Table(run / "reports" / "temperature-0.8", ScoredReport).read() == warm
    assert json.loads((run / "score.json").read_text(encoding="utf-8")) == summary

    # The same texts as somebody else's file: every difference is zero, and a study of nobody's is refused.
    theirs = tmp_path / "theirs.csv"
    with theirs.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("study_id", "text"), *((one.case_id, one.text) for one in greedy[1:])])
    file_job = [
        "score", *data, "run.name=theirs", f"score.reports={theirs}", f"score.against=[{run}]", *roots
    ]  # fmt: skip
    compared = start_job(*file_job)
    assert compared.ended(300) == 0, compared.output[-3000:]
    assert f"no report of 1 of the {len(greedy)} studies; they do not count" in compared.output
    summary = json.loads((tmp_path / "runs" / "theirs" / "score.json").read_text(encoding="utf-8"))
    assert set(summary["sets"]) == {"file", "policy, temperature-0", "policy, temperature-0.8"}
    same = summary["differences"]["file - policy, temperature-0"]
    for name in ("bleu_4", "rougeL", "rules_score", "distinct_1"):
        assert same[name]["mean"] == pytest.approx(0, abs=1e-12) and same[name]["n"] == len(greedy) - 1, name
    assert summary["sets"]["file"]["unwritten"] == 1
    twice = start_job(*file_job, f"score.pool=[{run.parent / 'theirs'}]")
    assert twice.ended(100) == 2 and "score.pool names a run twice, or this one" in twice.output
    theirs.write_text("study_id,text\nnobody,T.\n", encoding="utf-8")
    unknown = start_job(*[one.replace("run.name=theirs", "run.name=unknown") for one in file_job])
    assert unknown.ended(200) == 2
    assert "1 studies that are not in split heldout of data=phantom, such as 'nobody'" in unknown.output
