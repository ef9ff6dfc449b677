"""One whole smoke run, uninterrupted: its tables, its summary, its page, and the command given again."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from rlaif.records import Candidate, Dropped, HeldoutReport, Ingested, Judgement, Pair, Study
from rlaif.tables import Table
from rlaif.trackers.event_files import file_name

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]
METRICS = {"rules_score", "finding_f1", "hallucinated", "omitted", "report_words"}
ROUNDS = ("round-000", "round-001")


@pytest.fixture(scope="module")
def summary(smoke: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((smoke.path / "summary.json").read_text(encoding="utf-8"))
    return found


def test_every_case_has_six_candidates_and_every_candidate_one_judgement(smoke: Any) -> None:
    studies = Table(smoke.path / "studies", Study).read()
    features = {row.study_id: row.feature_key for row in Table(smoke.path / "features", Ingested).read()}
    assert features.keys() == {study.study_id for study in studies}
    cases = {study.study_id for study in studies if study.split == "align"}
    for number, name in enumerate(ROUNDS):
        candidates = Table(smoke.path / name / "candidates", Candidate).read()
        assert Counter(one.case_id for one in candidates) == dict.fromkeys(cases, 6)
        assert {one.candidate_id for one in candidates} == {f"{c}.{number}.{i}" for c in cases for i in range(6)}
        assert all(one.feature_key == features[one.study_id] for one in candidates)
        assert {one.policy_version for one in candidates} == {number}
        judgements = Table(smoke.path / name / "judgements", Judgement).read()
        assert sorted(one.candidate_id for one in judgements) == sorted(one.candidate_id for one in candidates)
        failed = {one.candidate_id for one in judgements if one.failure == "invalid_candidate"}
        assert failed == {one.candidate_id for one in candidates if not one.usable}


def test_pairs_are_of_the_scores_and_every_case_is_paired_or_dropped(smoke: Any) -> None:
    for name in ROUNDS:
        scores = {one.candidate_id: one.score for one in Table(smoke.path / name / "judgements", Judgement).read()}
        texts = {one.candidate_id: one.text for one in Table(smoke.path / name / "candidates", Candidate).read()}
        cases = {candidate.rpartition(".")[0].rpartition(".")[0] for candidate in scores}
        pairs = Table(smoke.path / name / "pairs", Pair).read()
        dropped = Table(smoke.path / name / "dropped", Dropped).read()
        assert sorted([pair.case_id for pair in pairs] + [one.case_id for one in dropped]) == sorted(cases)
        assert pairs, "the smoke run should build a pair"
        for pair in pairs:
            assert pair.chosen != pair.rejected
            assert pair.rejected_candidate_id is not None
            assert pair.rejected_score == scores[pair.rejected_candidate_id]
            assert pair.rejected == texts[pair.rejected_candidate_id]
            if pair.chosen_candidate_id is not None:
                assert pair.chosen_score == scores[pair.chosen_candidate_id] > pair.rejected_score


def test_heldout_cases_are_written_once_from_their_own_features_and_once_blind(smoke: Any) -> None:
    cases = {one.study_id for one in Table(smoke.path / "studies", Study).read() if one.split == "heldout"}
    for version, name in enumerate(("base", *ROUNDS)):
        reports = Table(smoke.path / "heldout" / name, HeldoutReport).read()
        assert Counter((one.case_id, one.control) for one in reports) == dict.fromkeys(
            [(case, control) for case in cases for control in (False, True)], 1
        )
        assert {one.policy_version for one in reports} == {version}


def test_the_summary_counts_what_the_tables_hold(smoke: Any, summary: dict[str, Any]) -> None:
    assert summary["status"] == "finished"
    assert [one["round"] for one in summary["rounds"]] == [0, 1]
    for name, told in zip(ROUNDS, summary["rounds"], strict=True):
        tables = {"candidates": Candidate, "judgements": Judgement, "pairs": Pair}
        counted = {table: len(Table(smoke.path / name / table, record).read()) for table, record in tables.items()}
        assert {table: told[table] for table in tables} == counted
        failures = Counter(one.failure for one in Table(smoke.path / name / "judgements", Judgement).read())
        assert told["judge_failures"] == {reason: count for reason, count in failures.items() if reason}
        dropped = Counter(one.reason for one in Table(smoke.path / name / "dropped", Dropped).read())
        assert told["dropped"] == dropped
        assert {"sample", "pairs", "learn", "evaluate"} <= told["seconds"].keys()
        assert 0 <= told["logprob_gap"]["mean"] < 1e-4
        assert told["logprob_gap"]["mean"] <= told["logprob_gap"]["max"]
        assert told["repeated_calls"] == 0
        versions = {(one.policy_version, one.weights_checksum) for one in _candidates(smoke, name)}
        assert versions == {(told["weights"]["version"], told["weights"]["checksum"])}
    assert summary["rounds"][0]["weights"]["checksum"] != summary["rounds"][1]["weights"]["checksum"]


def _candidates(smoke: Any, name: str) -> list[Candidate]:
    return Table(smoke.path / name / "candidates", Candidate).read()


def test_the_summary_has_every_metric_with_its_interval(summary: dict[str, Any]) -> None:
    assert summary["heldout"].keys() == {"base", *ROUNDS}
    intervals = [*summary["heldout"].values(), summary["gain"], summary["blind_control"]["base"]]
    for metrics in intervals:
        assert metrics.keys() == METRICS
        for one in metrics.values():
            assert one["low"] <= one["mean"] <= one["high"] and one["n"] > 0
    assert summary["blind_control"].keys() >= {"base", "round-001", "difference"}
    gained = (
        summary["heldout"]["round-001"]["report_words"]["mean"] - summary["heldout"]["base"]["report_words"]["mean"]
    )
    assert summary["gain"]["report_words"]["mean"] == pytest.approx(gained)


def test_the_run_folder_holds_its_parts_and_nothing_half_done(smoke: Any) -> None:
    parts = ["config.yaml", "provenance.json", "summary.json", "report.html", "base/policy.json", "quarantine"]
    parts += [f"{name}/checkpoint/language_model/model.safetensors" for name in ROUNDS]
    parts += [f"{name}/metrics.json" for name in ROUNDS]
    assert [part for part in parts if not (smoke.path / part).exists()] == []
    assert [path for path in smoke.path.rglob("*") if path.name.startswith((".rlaif-", "segment-"))] == []


def test_the_page_loads_nothing_from_the_network(smoke: Any) -> None:
    page = (smoke.path / "report.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy and policy[1].startswith("default-src 'none';") and "http" not in policy[1]
    # Programs may say `image.src = …`; the policy above is what holds them.
    markup = re.sub(r"(<script[^>]*>).*?(</script>)", r"\1\2", page, flags=re.DOTALL)
    loaded = re.findall(r"""(?:src|href|action|data|poster)\s*=\s*["']?([^"'\s>]+)""", markup)
    loaded += re.findall(r"url\(\s*['\"]?([^'\")]+)", markup) + re.findall(r"@import\s+['\"]?(\S+)", markup)
    assert [one for one in loaded if not one.startswith(("data:", "#"))] == []


def test_the_finished_run_says_its_table_again_and_does_nothing(smoke: Any, start_job: Callable[..., Any]) -> None:
    def content() -> dict[str, int]:
        files = [path for path in smoke.path.rglob("*") if path.is_file() and "lease" not in path.name]
        return {str(path): path.stat().st_mtime_ns for path in files}

    before, started = content(), time.monotonic()
    job = start_job("dpo_loop", *smoke.overrides)
    assert job.ended(60) == 0, job.output
    table = smoke.output[smoke.output.rindex("round-001: ") :] if "round-001: " in smoke.output else smoke.output
    assert job.output.strip().splitlines()[-1] == f"report: {smoke.path / 'report.html'}"
    assert [line for line in job.output.splitlines() if line.strip()][-8:] == [
        line for line in table.splitlines() if line.strip()
    ][-8:]
    assert content() == before
    assert time.monotonic() - started < 60


def test_tensorboard_has_a_file_of_every_stage_with_numbers(smoke: Any) -> None:
    stages = json.loads((smoke.path / "trackers.json").read_text(encoding="utf-8"))["stages"]
    learnt = {f"{name}/{stage}" for name in ROUNDS for stage in ("sample", "pairs", "learn")}
    assert {"studies", "ingest", "base", "heldout/base", *(f"heldout/{name}" for name in ROUNDS), *learnt} <= {*stages}
    files = sorted((smoke.path / "tensorboard").iterdir())
    assert [path.name for path in files] == [file_name(number, stage) for number, stage in enumerate(stages)]
    assert all(path.stat().st_size for path in files)
