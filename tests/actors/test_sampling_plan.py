"""Which policy writes a round's candidates, whatever happened in between."""

from pathlib import Path

import pytest

from actors.sampling_plan import needed_checkpoints, planned_version, policy_at
from rlaif.ledger import LeaseLost, RunFolder


def test_a_round_keeps_the_version_that_it_was_begun_with(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "run", {}) as run:
        assert planned_version(run, 2, 1) == 1
    with RunFolder.open(tmp_path, "run", {}) as run:
        assert planned_version(run, 2, 2) == 1
        assert planned_version(run, 3, 3) == 3
        assert run.read_json("round-002/sampling-plan.json") == {"version": 1}


def test_no_version_is_settled_by_an_attempt_that_lost_the_run(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, "run", {})
    run.close()
    with pytest.raises(LeaseLost):
        planned_version(run, 0, 0)
    assert not (run.path / "round-000" / "sampling-plan.json").exists()


def test_versions_are_the_base_and_what_each_round_learnt(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "run", {}) as run:
        assert policy_at(run, tmp_path / "base", 0) == tmp_path / "base"
        assert policy_at(run, tmp_path / "base", 2) == run.path / "round-001" / "checkpoint"


def test_checkpoints_that_a_pending_plan_needs_are_kept(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "run", {}) as run:
        for round_ in range(4):
            with run.folder(f"round-{round_:03d}/checkpoint") as folder:
                (folder / "weights").write_text("")
        planned_version(run, 0, 0)
        planned_version(run, 1, 1)
        run.finish("round-000/learn")
        # Round 1 is not learnt yet, and its candidates are round 0's.
        assert needed_checkpoints(run) == {"round-000"}
        assert run.prune_checkpoints(keep=2, needed=needed_checkpoints(run)) == ["round-001"]
        run.finish("round-001/learn")
        assert needed_checkpoints(run) == set()
        assert run.prune_checkpoints(keep=2, needed=needed_checkpoints(run)) == ["round-000"]
