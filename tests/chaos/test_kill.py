"""The main job killed with SIGKILL, at every stage boundary and at random moments, and started again."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rlaif.records import Candidate, Dropped, HeldoutReport, Ingested, Judgement, Pair, Study
from rlaif.tables import Table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
STAGES = (
    "studies",
    "start",
    "ingest",
    "base",
    "heldout/base",
    "round-000/sample",
    "round-000/pairs",
    "round-000/learn",
    "heldout/round-000",
    "summary",
)
ALIGN, HELDOUT = 8, 4
SIZE = (f"data.align={ALIGN}", f"data.heldout={HELDOUT}", "heldout.resamples=200", "learner.gap_candidates=8")
# Small batches, so that a round's rows come in several segments.
FINE = ("judge.batch=12", "ingest.batch=32")
NEXT = 300.0
"""Seconds in which a job comes from one moment to the next, however busy the machine is."""


@dataclass
class Kept:
    """What a run's folder holds that no later attempt may change, lose or double."""

    marks: dict[str, str] = field(default_factory=dict)
    rows: dict[str, dict[Any, Any]] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Path, cache: Path) -> "Kept":
        kept = cls()
        for path in (run / "ledger").rglob("*.json"):
            kept.marks[path.relative_to(run / "ledger").with_suffix("").as_posix()] = path.read_text(encoding="utf-8")
        for folder in sorted([*run.glob("round-*"), run]):
            at = folder.name if folder != run else ""
            for table, record, key, value in (
                ("candidates", Candidate, "candidate_id", "sampled_at"),
                ("judgements", Judgement, "candidate_id", "latency_s"),
                ("pairs", Pair, "case_id", "rejected"),
                ("dropped", Dropped, "case_id", "reason"),
                ("studies", Study, "study_id", "volume"),
                ("features", Ingested, "study_id", "feature_key"),
            ):
                kept._keep(f"{at}/{table}", Table[Any](folder / table, record), (key,), value)
        for folder in run.glob("heldout/*"):
            table = Table[Any](folder, HeldoutReport)
            kept._keep(f"heldout/{folder.name}", table, ("case_id", "control"), "text")
        finished = [cache / "start", cache / "base", cache / "phantom"]
        finished += [run / "base"] if "base" in kept.marks else []
        finished += [run / name / "checkpoint" for name in ("round-000", "round-001") if f"{name}/learn" in kept.marks]
        kept.files = {
            str(path): path.stat().st_mtime_ns
            for folder in finished
            for path in folder.rglob("*")
            if path.is_file() and path.suffix in (".safetensors", ".json", ".gz") and "/." not in str(path)
        }
        return kept

    def _keep(self, name: str, table: Table[Any], key: tuple[str, ...], value: str) -> None:
        rows = table.read()
        keyed = {tuple(getattr(row, part) for part in key): getattr(row, value) for row in rows}
        assert len(keyed) == len(rows), f"{name} has rows twice"
        self.rows[name] = keyed

    def stands_in(self, later: "Kept") -> None:
        """Asserts that all of it is in a later state, unchanged."""
        assert self.marks.items() <= later.marks.items()
        assert self.files.items() <= later.files.items()
        for name, rows in self.rows.items():
            assert rows.items() <= later.rows[name].items(), f"rows of {name} were made again or are gone"


@dataclass
class Chain:
    """One run that is killed and started again; checks after every kill that nothing durable was touched."""

    start: Callable[..., Any]
    head: Any
    run: Path
    cache: Path
    overrides: tuple[str, ...]
    kept: Kept = field(default_factory=Kept)
    actors: set[int] = field(default_factory=set)

    def begin(self) -> Any:
        return self.start("dpo_loop", *self.overrides)

    def kill(self, job: Any) -> Kept:
        """Kills the job at once and looks at what it left."""
        self.actors |= self.head.actors().keys()
        os.kill(job.process.pid, signal.SIGKILL)
        assert job.ended(10) == -signal.SIGKILL
        return self._look()

    def finish(self, job: Any) -> Kept:
        """Waits for the job's regular end."""
        assert job.ended(NEXT) == 0, job.output[-3000:]
        return self._look()

    def _look(self) -> Kept:
        now = Kept.of(self.run, self.cache)
        self.kept.stands_in(now)
        self.kept = now
        return now

    def mark(self, stage: str) -> Path:
        return self.run / "ledger" / f"{stage}.json"

    def holder(self) -> int:
        """The process that the run's lease names."""
        return int(json.loads((self.run / "lease.json").read_text(encoding="utf-8"))["pid"])

    def actors_left(self) -> set[int]:
        """Actors of killed jobs that still live."""
        return self.actors & self.head.actors().keys()

    def summary(self) -> dict[str, Any]:
        """What the run says of itself."""
        found: dict[str, Any] = json.loads((self.run / "summary.json").read_text(encoding="utf-8"))
        return found

    def whole(self, rounds: int) -> None:
        """Asserts that the tables are complete and that the summary counts them."""
        summary = self.summary()
        assert summary["status"] == "finished" and len(summary["rounds"]) == rounds
        rows = self.kept.rows
        align = [key[0] for key in rows["/studies"] if str(key[0]).startswith("train_") and _number(key[0]) > 96]
        for number, told in enumerate(summary["rounds"]):
            name = f"round-{number:03d}"
            expected = {(f"{case}.{number}.{index}",) for case in align for index in range(6)}
            assert rows[f"{name}/candidates"].keys() == rows[f"{name}/judgements"].keys() == expected
            assert told["candidates"] == told["judgements"] == 6 * ALIGN
            assert told["pairs"] == len(rows[f"{name}/pairs"])
            assert len(rows[f"{name}/pairs"]) + len(rows[f"{name}/dropped"]) == ALIGN
        for name in ("base", *(f"round-{number:03d}" for number in range(rounds))):
            assert len(rows[f"heldout/{name}"]) == 2 * HELDOUT
        assert (self.run / "report.html").is_file()
        assert [path for path in self.run.rglob("*") if path.name.startswith((".rlaif-", "segment-"))] == []


def _number(study_id: str) -> int:
    return int(study_id.split("_")[1])


@pytest.fixture
def chain(start_job: Callable[..., Any], ray_head: Any, tmp_path: Path) -> Chain:
    roots = (f"run.root={tmp_path / 'runs'}", f"cache.root={tmp_path / 'cache'}")
    overrides = ("experiment=smoke", *roots, "run.rounds=1", *SIZE, *FINE)
    return Chain(start_job, ray_head, tmp_path / "runs" / "smoke", tmp_path / "cache", overrides)


def wait_for(true: Callable[[], bool], job: Any) -> None:
    deadline = time.monotonic() + NEXT
    while not true():
        assert job.process.poll() is None, job.output[-3000:]
        assert time.monotonic() < deadline, job.output[-3000:]
        time.sleep(0.002)


def test_a_run_killed_at_every_stage_boundary_ends_as_if_it_had_not_been(chain: Chain) -> None:
    for number, stage in enumerate(STAGES):
        job = chain.begin()
        wait_for(chain.mark(stage).is_file, job)
        assert chain.actors_left() == set(), "actors of an earlier attempt outlived it"
        kept = chain.kill(job)
        assert kept.marks.keys() == set(STAGES[: number + 1])
    assert json.loads(chain.kept.marks["summary"])["attempt"] == len(STAGES)

    # The finished run says its table and touches nothing.
    job = chain.begin()
    chain.finish(job)
    assert "Rules score" in job.output and job.output.rstrip().endswith(f"report: {chain.run / 'report.html'}")
    chain.whole(rounds=1)
    assert chain.kept.rows["round-000/pairs"], "the run should have learnt from pairs"

    # Another configuration is another run; more rounds are the same run, which goes on, one process at a time.
    job = chain.start("dpo_loop", *chain.overrides, "learner.dpo.beta=0.2")
    assert job.ended(NEXT) == 2
    assert "learner.dpo.beta: 0.1 in the run, 0.2 now" in job.output and "Traceback" not in job.output
    del chain.kept.marks["summary"]
    job = chain.start("dpo_loop", *chain.overrides, "run.rounds=2")
    wait_for(lambda: chain.holder() == job.process.pid, job)
    second = chain.start("dpo_loop", *chain.overrides, "run.rounds=2")
    assert second.ended(NEXT) == 2
    assert f"is being written by pid {job.process.pid} on host" in second.output and "Traceback" not in second.output
    chain.finish(job)
    chain.whole(rounds=2)


MOMENTS = (
    ("cache", "phantom/*/*", 1.5),
    ("cache", "start/.rlaif-*", 3.0),
    ("cache", "base/.rlaif-*", 3.0),
    # Segments become one table at the end of a stage, sooner than a busy machine may look at them.
    ("run", "round-000/candidates/*.parquet", 0.5),
    ("run", "round-000/judgements/*.parquet", 0.5),
    ("run", "round-000/.rlaif-*checkpoint", 2.0),
    ("run", "heldout/round-000", 0.2),
)
"""Files or folders that show work in progress, and the most seconds from there to the kill."""


def test_a_run_killed_in_the_middle_of_its_work_ends_whole(chain: Chain) -> None:
    choose = random.Random(11)
    for root, pattern, seconds in MOMENTS:
        job = chain.begin()
        below = chain.cache if root == "cache" else chain.run
        wait_for(lambda below=below, pattern=pattern: any(below.glob(pattern)), job)  # type: ignore[misc]
        time.sleep(choose.uniform(0.0, seconds))
        assert job.process.poll() is None, f"the job ended before it was killed at {pattern}"
        chain.kill(job)
    chain.finish(chain.begin())
    chain.whole(rounds=1)
    repeated = json.loads((chain.run / "summary.json").read_text(encoding="utf-8"))["rounds"][0]["repeated_calls"]
    assert 0 <= repeated <= len(MOMENTS) * 6 * ALIGN


def test_a_run_whose_encoder_trains_goes_on_from_its_ingest(chain: Chain) -> None:
    small = ("data.sft=12", "learner.sft.epochs=1", "run.rounds=0")
    chain.overrides += (*small, "learner.sft.train=[encoder,connector,language_model]")
    job = chain.begin()
    wait_for(chain.mark("ingest").is_file, job)
    kept = chain.kill(job)
    assert "base" not in kept.marks and len(kept.rows["/features"]) == 12 + ALIGN + HELDOUT
    chain.finish(chain.begin())
    # Nothing was read again: the mark is that of the first attempt.
    assert json.loads(chain.kept.marks["ingest"])["attempt"] == 1
    summary = json.loads((chain.run / "summary.json").read_text(encoding="utf-8"))
    assert summary["features"] == "bypassed" and not (chain.cache / "features").exists()
    assert len(chain.kept.rows["heldout/base"]) == 2 * HELDOUT


def test_a_round_written_ahead_and_killed_goes_on_with_the_policy_that_it_was_begun_with(chain: Chain) -> None:
    overrides = (*chain.overrides, "run.rounds=3", "run.staleness=1")
    job = chain.start("dpo_loop", *overrides)
    ahead = chain.run / "round-002" / "candidates"
    wait_for(lambda: ahead.is_dir() and any(ahead.iterdir()), job)
    chain.kill(job)
    assert not chain.mark("round-002/sample").is_file()
    chain.finish(chain.start("dpo_loop", *overrides))
    chain.whole(rounds=3)
    versions = {
        number: {
            one.policy_version for one in Table(chain.run / f"round-{number:03d}" / "candidates", Candidate).read()
        }
        for number in range(3)
    }
    assert versions == {0: {0}, 1: {0}, 2: {1}}
    gaps = [told["logprob_gap"]["mean"] for told in chain.summary()["rounds"]]
    assert max(gaps) < 1e-4, "each round should be compared with the policy that wrote it"
