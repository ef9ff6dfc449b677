"""The loop from a team's own pairs: those of another run, as they stand in its folder."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from rlaif.files import checksum_of
from rlaif.preferences.own_rows import LeftOut
from rlaif.records import Candidate, Judgement, Pair, Study
from rlaif.tables import Table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


@pytest.fixture
def overrides(smoke: Any, tmp_path: Any) -> list[str]:
    cache = next(one for one in smoke.overrides if one.startswith("cache.root="))
    return ["experiment=smoke", f"run.root={tmp_path}", cache, "run.name=own", f"run.start_from={smoke.path}"]


def test_a_finished_runs_pairs_are_learnt_by_another_which_then_samples_itself(
    smoke: Any, start_job: Callable[..., Any], tmp_path: Any, overrides: list[str]
) -> None:
    given = smoke.path / "round-000" / "pairs"
    job = start_job("dpo_loop", *overrides, f"start.pairs={given}")
    assert job.ended(400) == 0, job.output
    run = tmp_path / "own"

    theirs, ours = (Table(folder, Pair).read() for folder in (given, run / "round-000" / "pairs"))
    assert sorted((one.case_id, one.prompt, one.chosen, one.rejected, one.margin) for one in ours) == sorted(
        (one.case_id, one.prompt, one.chosen, one.rejected, one.margin) for one in theirs
    )
    # A reference report stays one.
    references = {one.case_id for one in theirs if one.chosen_candidate_id is None}
    assert {one.case_id for one in ours if one.chosen_candidate_id is None} == references
    candidates = Table(run / "round-000" / "candidates", Candidate).read()
    assert len(candidates) == 2 * len(theirs) - len(references)
    assert {(one.finish_reason, one.token_ids, one.policy_version) for one in candidates} == {("given", (), -1)}
    assert Table(run / "round-000" / "judgements", Judgement).read() == []
    assert Table(run / "round-000" / "left_out", LeftOut).read() == []

    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    first, second = summary["rounds"]
    told = {"file": str(given), "sha256": checksum_of(given), "rows": len(theirs), "left_out": {}, "judge": None}
    assert first["given"] == told and (first["logprob_gap"], first["weights"]) == (None, None)
    # What was learnt from the pairs writes the next round, as always.
    assert "given" not in second and 0 <= second["logprob_gap"]["mean"] < 1e-4 and second["candidates"] == 16 * 6
    earlier = json.loads((smoke.path / "summary.json").read_text(encoding="utf-8"))["rounds"][0]
    assert second["weights"]["version"] == 1 and second["weights"]["checksum"] != earlier["weights"]["checksum"]
    steps = json.loads((run / "round-000" / "metrics.json").read_text(encoding="utf-8"))["learning"]["steps"]
    assert steps and steps[0]["left_out"] == 0
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["data"][f"start.pairs={given}"] == checksum_of(given)
    assert "Given, in the place of samples" in (run / "report.html").read_text(encoding="utf-8")


def test_pairs_of_a_held_out_study_end_the_run_before_it_trains(
    smoke: Any, start_job: Callable[..., Any], tmp_path: Any, overrides: list[str]
) -> None:
    held_out = next(one.study_id for one in Table(smoke.path / "studies", Study).read() if one.split == "heldout")
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"study_id": held_out, "chosen": "Clear.", "rejected": "Cyst."}), encoding="utf-8")
    job = start_job("dpo_loop", *overrides, f"start.pairs={file}")
    assert job.ended(200) == 2
    assert f"error: {file}: 1 rows (such as 1) are of held-out studies ({held_out})" in job.output
    assert not (tmp_path / "own" / "ledger" / "base.json").exists()
