"""Real processes killed with SIGKILL while they write a run folder: nothing doubled, lost or torn."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlaif.ledger import RunFolder
from rlaif.records import Dropped

# Imports once, then forks a writer for each line that it reads: `busy` writes until it is killed,
# `steps N` goes through one fixed scenario and kills itself before the Nth change to the disk.
NURSERY = r"""
import os, random, signal, sys, tempfile
from pathlib import Path
from rlaif.ledger import RunFolder
from rlaif.records import Dropped

root, acknowledged = Path(sys.argv[1]), sys.argv[2]


def acknowledge(file, *words):
    os.write(file, (" ".join(words) + "\n").encode())


def add(run, file, table, first, count):
    names = [f"case-{number}" for number in range(first, first + count)]
    run.journal(table).started(names)
    run.append(table, Dropped, [Dropped(name, 0, "x" * 200) for name in names])
    acknowledge(file, *names)


def busy(file):
    with RunFolder.open(root, "run", {"run": {"rounds": 1}}) as run:
        kept = run.arrow("dropped", Dropped, ["case_id"])["case_id"].to_pylist()
        number = max((int(name.split("-")[1]) for name in kept), default=-1) + 1
        choose = random.Random(number)
        while True:
            count = choose.randint(1, 5)
            add(run, file, "dropped", number, count)
            number += count
            if choose.random() < 0.3:
                run.compact("dropped", Dropped, "case_id")


def change(run, file, text):
    with run.folder("round-000/checkpoint") as folder:
        for name in ("a", "b"):
            (folder / name).write_text(text)
    acknowledge(file, "checkpoint=" + text)


def scenario(file):
    with RunFolder.open(root, "run", {"run": {"rounds": 1}}) as run:
        add(run, file, "dropped", 0, 3)
        add(run, file, "dropped", 3, 2)
        run.compact("dropped", Dropped, "case_id")
        add(run, file, "dropped", 5, 1)
        add(run, file, "dropped", 6, 1)
        run.compact("dropped", Dropped, "case_id")
        change(run, file, "one")
        change(run, file, "two")
        run.finish("round-000/sample", rows=7)
        acknowledge(file, "finished")


def kill_before(change_number):
    seen = 0

    def watch(event, arguments):
        nonlocal seen
        writes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate") or (
            event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR) and not str(arguments[0]).endswith(".lock")
        )
        seen += bool(writes)
        if writes and seen == change_number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


# The first write imports what Arrow imports late; the writers then start in milliseconds.
with tempfile.TemporaryDirectory() as elsewhere, RunFolder.open(Path(elsewhere), "run", {}) as run:
    run.append("dropped", Dropped, [Dropped("case-0", 0, "")])
    run.compact("dropped", Dropped, "case_id")

for line in sys.stdin:
    words = line.split()
    child = os.fork()
    if child == 0:
        file = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if words[0] == "steps":
            kill_before(int(words[1]))
            scenario(file)
        else:
            busy(file)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.acknowledged = root / "acknowledged"
        command = [sys.executable, "-c", NURSERY, str(root / "runs"), str(self.acknowledged)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, order: str) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return self._number()

    def ended(self) -> int:
        return self._number()

    def words(self) -> list[str]:
        if not self.acknowledged.exists():
            return []
        return self.acknowledged.read_text(encoding="utf-8").split()

    def _number(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    one = Nursery(tmp_path)
    yield one
    assert one.process.stdin is not None and one.process.stdout is not None
    one.process.stdin.close()
    one.process.wait(timeout=20)
    one.process.stdout.close()


def reopen(root: Path) -> RunFolder:
    return RunFolder.open(root / "runs", "run", {"run": {"rounds": 1}})


def leftovers(path: Path) -> list[str]:
    return [str(one) for one in path.rglob("*") if one.name.startswith(".rlaif-")]


def test_twenty_five_kills_at_random_moments_lose_and_double_nothing(nursery: Nursery) -> None:
    choose = random.Random(7)
    compacted = 0
    for kill in range(25):
        child, told = nursery.start("busy"), len(nursery.words())
        while kill % 5 and len(nursery.words()) == told:
            time.sleep(0.002)
        # On a busy machine no writer would come to a compaction by itself.
        deadline = time.monotonic() + 60
        while kill == 5 and not list(nursery.root.rglob("part-000.parquet")):
            assert time.monotonic() < deadline, "no writer compacted its table"
            time.sleep(0.002)
        time.sleep(choose.uniform(0.0, 0.04))
        os.kill(child, signal.SIGKILL)
        assert nursery.ended() == -signal.SIGKILL
        with reopen(nursery.root) as run:
            assert run.attempt >= kill
            names = [row.case_id for row in run.read("dropped", Dropped)]
            assert len(names) == len(set(names))
            assert set(nursery.words()) <= set(names), "rows that were acknowledged are missing"
            assert set(names) <= run.journal("dropped").ids(), "rows were written before their journal"
            assert {row.reason for row in run.iterate("dropped", Dropped)} <= {"x" * 200}
            assert leftovers(run.path) == []
            compacted += (run.path / "dropped" / "part-000.parquet").exists()
    assert len(nursery.words()) >= 20 and compacted > 5, "the writers were killed before they did anything"


def test_a_kill_before_each_change_to_the_disk_loses_and_doubles_nothing(nursery: Nursery) -> None:
    changes = 0
    ended = -signal.SIGKILL
    while ended == -signal.SIGKILL:
        changes += 1
        nursery.acknowledged.unlink(missing_ok=True)
        (nursery.root / "runs").exists() and (nursery.root / "runs").rename(nursery.root / f"runs-{changes}")
        nursery.start(f"steps {changes}")
        ended = nursery.ended()
        words = set(nursery.words())
        with reopen(nursery.root) as run:
            names = [row.case_id for row in run.read("dropped", Dropped)]
            assert len(names) == len(set(names)), f"rows doubled by a kill before change {changes}"
            assert {word for word in words if word.startswith("case-")} <= set(names)
            checkpoint = run.path / "round-000" / "checkpoint"
            held = (
                {name: (checkpoint / name).read_text(encoding="utf-8") for name in ("a", "b")}
                if checkpoint.exists()
                else {}
            )
            assert held in ({}, {"a": "one", "b": "one"}, {"a": "two", "b": "two"})
            assert "checkpoint=one" not in words or held
            assert "checkpoint=two" not in words or held["a"] == "two"
            assert run.done("round-000/sample") or "finished" not in words
            assert not run.done("round-000/sample") or run.facts("round-000/sample") == {"rows": 7}
            assert leftovers(run.path) == []
            assert run.compact("dropped", Dropped, "case_id") == len(names)
            assert [row.case_id for row in run.read("dropped", Dropped)] == names
    assert ended == 0
    assert changes > 30 and "finished" in words
