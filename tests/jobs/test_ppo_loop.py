"""The loop by PPO: two rounds from another run's base policy, killed while it learns; their summary and page, and the
command given again.
"""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from rlaif.records import Candidate
from rlaif.tables import Table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1100)]


def test_two_rounds_of_ppo_killed_once_end_in_a_summary_and_the_same_command_shows_it_again(
    smoke: Any, start_job: Callable[..., Any], tmp_path: Any
) -> None:
    cache = next(one for one in smoke.overrides if one.startswith("cache.root="))
    overrides = ["experiment=smoke", f"run.root={tmp_path}", cache, "run.name=ppo", f"run.start_from={smoke.path}"]
    overrides += ["sampler.attempts=1", "learner.ppo.batch=24", "learner.ppo.kl_target=0.001", "learner.ppo.max_kl=90"]
    # A policy of 24 steps of fine-tuning leaves many of its reports without an end, and writes most of them alike.
    overrides += ["learner.ppo.max_unusable=1", "learner.ppo.max_same=1", "learner.ppo.lr=1e-5"]
    run = tmp_path / "ppo"
    killed = start_job("ppo_loop", *overrides)
    deadline = time.monotonic() + 400
    while "round-000 learn from" not in killed.output:
        assert time.monotonic() < deadline and killed.process.poll() is None, killed.output
        time.sleep(0.05)
    os.kill(killed.process.pid, signal.SIGKILL)
    assert killed.ended(10) == -signal.SIGKILL
    table = Table(run / "round-000" / "candidates", Candidate)
    written = {row.candidate_id: row.sampled_at for row in table.read()}
    assert len(written) == 16 * 6 and not (run / "round-000" / "checkpoint").exists()

    job = start_job("ppo_loop", *overrides)
    assert job.ended(500) == 0, job.output
    assert {row.candidate_id: row.sampled_at for row in table.read()} == written

    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished" and summary["advantage"] == "gae" and "pairs" not in summary
    assert summary["heldout"].keys() == {"base", "round-000", "round-001"} and "rules_score" in summary["gain"]
    first, second = summary["rounds"]
    for number, told in enumerate((first, second)):
        rows = Table(run / f"round-{number:03d}" / "candidates", Candidate).read()
        assert Counter(row.policy_version for row in rows) == {number: 16 * 6}
        assert told["weights"]["version"] == number and told["logprob_gap"]["max"] < 1e-4
        assert told["seconds"].keys() == {"sample", "learn", "evaluate"}
    assert first["weights"]["checksum"] != second["weights"]["checksum"]
    assert "pairs" not in first and "dropped" not in first and 0 < first["reports"] <= 16 * 6

    # Right after a sync the policy is the one that wrote the reports: the ratio is 1 to the log-probs' own bound.
    steps = [json.loads((run / f"round-{n:03d}" / "metrics.json").read_text())["learning"]["steps"] for n in (0, 1)]
    for round_ in steps:
        assert abs(round_[0]["moved"]) < 1e-6 and round_[0]["clipped"] == 0.0
    assert first["kl"]["sampled"] == pytest.approx(0.0, abs=1e-3) and second["kl"]["sampled"] > 1e-3
    # Too far from the base in the second round: a fifth more, over so many of 10,000 reports.
    reports = [first["reports"], second["reports"]]
    assert all(0 < count <= 96 for count in reports)
    assert (first["kl_weight"], steps[0][0]["kl_weight"]) == (0.05, 0.05)
    assert second["kl_weight"] == pytest.approx(0.05 * (1 + 0.2 * reports[1] / 10_000), abs=1e-9)
    assert steps[1][0]["kl_weight"] == second["kl_weight"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "KL from the base policy" in page and "KL from the base, nats a report" in page
    assert "Reports learnt from" in page and "Cases dropped" not in page

    again = start_job("ppo_loop", *overrides)
    assert again.ended(120) == 0 and "report:" in again.output and "sample and judge" not in again.output
    other = start_job("dpo_loop", *overrides)
    assert other.ended(120) == 2 and "run.alignment" in other.output
