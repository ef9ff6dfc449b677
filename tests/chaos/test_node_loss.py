"""A node lost in each stage of the loop: the run ends as if it had not been, and says what that cost."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

from rlaif.features import FeatureStore
from rlaif.records import Candidate, HeldoutReport, Ingested, Judgement, Outage, Pair
from rlaif.tables import Table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
PROJECT = Path(__file__).parents[2]
# Lost nodes are noticed in seconds.
NOTICED = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3"}
QUICK = {"RAY_health_check_initial_delay_ms": "500", "RAY_worker_niceness": "0"}
MOMENT_S = 240.0
"""Seconds in which a job comes from one moment to the next, however busy the machine is."""


class Nodes:
    """A head without CPUs, and one node of two that does all the work."""

    def __init__(self, folder: Path) -> None:
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "temp_dir": str(folder)},
        )
        self.node = self.cluster.add_node(num_cpus=2, object_store_memory=512 * 2**20)

    def names(self) -> list[str]:
        """The processes on the node, by Ray's names for what they do."""
        names = []
        for started in self.node.all_processes["raylet"]:
            for process in psutil.Process(started.process.pid).children(recursive=True):
                try:
                    names.append(" ".join(process.cmdline()).strip())
                except psutil.NoSuchProcess:
                    continue
        return names

    def lose(self) -> None:
        """The node is lost with all that stands on it, and another one comes."""
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.node = self.cluster.add_node(num_cpus=2, object_store_memory=512 * 2**20)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    for name, value in (NOTICED | QUICK).items():
        monkeypatch.setenv(name, value)
    with tempfile.TemporaryDirectory(prefix="rlaif-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = Nodes(Path(folder))
        yield made
        made.cluster.shutdown()


def rows(run: Path, table: str, record: Any, key: str, *values: str) -> dict[Any, Any]:
    """A table's values by key; raises where a key stands twice."""
    found = Table[Any](run / table, record).read()
    keyed = {getattr(one, key): tuple(getattr(one, value) for value in values) for one in found}
    assert len(keyed) == len(found), f"{table} has rows twice"
    return keyed


def features(run: Path) -> dict[str, bytes]:
    """The encoder features of every study, whose keys tell one copy of a file from another."""
    (folder,) = (run.parents[1] / "cache/features").iterdir()
    store = FeatureStore(folder)
    keys = rows(run, "features", Ingested, "study_id", "feature_key")
    return {study: store.get(key).image.numpy().tobytes() for study, (key,) in keys.items()}


def written(run: Path) -> dict[str, Any]:
    """What must be the same whatever was lost."""
    held = Table(run / "heldout/round-000", HeldoutReport).read()
    return {
        "features": features(run),
        "base": (run / "base/language_model/model.safetensors").read_bytes(),
        "candidates": rows(run, "round-000/candidates", Candidate, "candidate_id", "text", "seed", "weights_checksum"),
        "judgements": rows(run, "round-000/judgements", Judgement, "candidate_id", "score", "failure"),
        "pairs": rows(run, "round-000/pairs", Pair, "pair_id", "chosen", "rejected", "chosen_score"),
        "checkpoint": (run / "round-000/checkpoint/language_model/model.safetensors").read_bytes(),
        "heldout": {(one.case_id, one.control): (one.text, one.metrics) for one in held},
    }


def test_a_run_whose_node_is_lost_in_every_stage_ends_as_one_that_kept_it(
    nodes: Nodes, smoke: Any, tmp_path: Path
) -> None:
    log, run = tmp_path / "job.log", tmp_path / "runs" / "smoke"
    overrides = [
        "experiment=smoke",
        f"run.root={tmp_path / 'runs'}",
        f"cache.root={tmp_path / 'cache'}",
        "run.rounds=1",
        "cluster.placement=apart",
        "sampler.restarts=9",
        "learner.restarts=9",
    ]
    with log.open("w") as output:
        job = subprocess.Popen(
            [sys.executable, str(PROJECT / "jobs" / "dpo_loop.py"), *overrides],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=PROJECT,
            env=os.environ | {"RAY_ADDRESS": nodes.cluster.address},
        )

    def told() -> str:
        return log.read_text(encoding="utf-8", errors="replace")

    def busy(name: str) -> bool:
        return any(name in one for one in nodes.names())

    def lose_when(moment: Any, what: str) -> None:
        deadline = time.monotonic() + MOMENT_S
        while not moment():
            assert job.poll() is None, told()[-3000:]
            assert time.monotonic() < deadline, f"{what} took more than {MOMENT_S:.0f} s: {told()[-2000:]}"
            time.sleep(0.02)
        nodes.lose()

    try:
        lose_when(lambda: "vision encoder:" in told(), "the encoder's training")
        lose_when(lambda: busy("MapBatches(Encode)") or busy("MapWorker"), "the ingest")
        lose_when(lambda: "supervised fine-tuning:" in told(), "the fine-tuning")
        lose_when(lambda: any((run / "round-000" / "candidates").glob("segment-*")), "the sampling")
        lose_when(lambda: "round-000 learn" in told(), "the learning")
        lose_when(lambda: (run / "ledger/round-000/learn.json").is_file(), "the weight update")
        lose_when(lambda: "held-out, round-000:" in told(), "the evaluation")
        assert job.wait(timeout=MOMENT_S) == 0, told()[-3000:]
    finally:
        if job.poll() is None:
            job.terminate()
            job.wait(timeout=60)

    mine, undisturbed = written(run), written(smoke.path)
    assert [name for name, value in undisturbed.items() if mine[name] != value] == []

    outages = Table(run / "outages", Outage).read()
    assert sum(one.what == "node" for one in outages) == 7
    assert {"encoder", "sampler", "learners"} <= {one.what for one in outages}
    assert "Lost on the way, and made good: " in told()
