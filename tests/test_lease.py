import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rlaif import lease as leases
from rlaif.files import RunError
from rlaif.lease import Lease, LeaseHeld, LeaseLost
from rlaif.ledger import RunFolder
from rlaif.records import Dropped

ROW = Dropped("case-1", 0, "too few")

HOLD = """
import sys, time
from pathlib import Path
from rlaif.lease import Lease
lease = Lease.take(Path(sys.argv[1]))
print(lease.attempt, flush=True)
time.sleep(60)
"""

CONTEND = """
import os, sys, time
from pathlib import Path
from rlaif.lease import Lease, LeaseHeld
start, told = os.pipe(), os.pipe()
for _ in range(6):
    if os.fork() == 0:
        os.close(start[1])
        os.read(start[0], 1)
        try:
            Lease.take(Path(sys.argv[1]))
            os.write(told[1], b"T")
            time.sleep(60)
        except LeaseHeld:
            os.write(told[1], b"H")
        os._exit(0)
os.close(start[1])
answers = b""
while len(answers) < 6:
    answers += os.read(told[0], 6)
print(answers.decode(), flush=True)
os.kill(0, 9)
"""


def edit(folder: Path, age: float = 0.0, **changes: object) -> None:
    path = folder / "lease.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}))
    os.utime(path, (time.time() - age, time.time() - age))


def test_attempts_count_up_and_a_released_lease_is_free(tmp_path: Path) -> None:
    for attempt in (1, 2, 3):
        lease = Lease.take(tmp_path)
        assert lease.attempt == attempt
        lease.release()
        lease.release()
    assert json.loads((tmp_path / "lease.json").read_text(encoding="utf-8"))["released"] is True


def test_one_of_six_processes_takes_the_lease(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", CONTEND, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    assert sorted(process.stdout.strip()) == list("HHHHHT"), process.stderr
    lease = Lease.take(tmp_path)
    assert lease.attempt == 2
    lease.release()


def test_a_running_holder_is_named_and_a_killed_one_is_replaced(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "1\n"
    with pytest.raises(LeaseHeld, match=rf"pid {holder.pid} on host .*attempt 1.*choose another run\.name"):
        Lease.take(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    lease = Lease.take(tmp_path)  # the killed process is not even reaped yet
    assert lease.attempt == 2
    lease.release()
    holder.wait()
    holder.stdout.close()


def test_a_holder_that_is_being_killed_is_waited_for(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "1\n"
    killing = threading.Timer(0.3, holder.kill)
    killing.start()
    lease = Lease.take(tmp_path)
    assert lease.attempt == 2
    lease.release()
    killing.join()
    holder.wait()
    holder.stdout.close()


def test_the_same_process_cannot_take_it_twice(tmp_path: Path) -> None:
    lease = Lease.take(tmp_path)
    with pytest.raises(LeaseHeld, match="this very process"):
        Lease.take(tmp_path)
    lease.release()


def test_a_later_process_with_the_holders_pid_is_not_the_holder(tmp_path: Path) -> None:
    first = Lease.take(tmp_path)
    edit(tmp_path, started=1.0)
    second = Lease.take(tmp_path)
    assert second.attempt == 2
    first.release()
    assert json.loads((tmp_path / "lease.json").read_text(encoding="utf-8"))["released"] is False
    second.release()


def test_a_holder_elsewhere_is_alive_while_its_heartbeat_moves(tmp_path: Path) -> None:
    Lease.take(tmp_path).release()
    edit(tmp_path, host="elsewhere", released=False, heartbeat="first")
    timer = threading.Timer(0.3, edit, (tmp_path,), {"heartbeat": "second"})
    timer.start()
    with pytest.raises(LeaseHeld, match="on host elsewhere"):
        Lease.take(tmp_path)
    timer.join()


def test_a_holder_elsewhere_is_dead_when_its_heartbeat_is_a_minute_old(tmp_path: Path) -> None:
    Lease.take(tmp_path).release()
    edit(tmp_path, age=61, host="elsewhere", released=False)
    lease = Lease.take(tmp_path)
    assert lease.attempt == 2
    lease.release()


def test_a_holder_elsewhere_that_stays_silent_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "STALE_SECONDS", 1.0)
    Lease.take(tmp_path).release()
    edit(tmp_path, host="elsewhere", released=False)
    began = time.monotonic()
    lease = Lease.take(tmp_path)
    assert lease.attempt == 2 and 0.9 < time.monotonic() - began < 5
    lease.release()


def test_the_heartbeat_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    lease = Lease.take(tmp_path)
    beats = set()
    for _ in range(20):
        beats.add(json.loads((tmp_path / "lease.json").read_text(encoding="utf-8"))["heartbeat"])
        time.sleep(0.02)
    lease.release()
    assert len(beats) > 2


def test_every_write_of_an_older_attempt_is_refused(tmp_path: Path) -> None:
    old = RunFolder.open(tmp_path, "run", {})
    old.append("round-000/dropped", Dropped, [ROW])
    journal = old.journal("round-000/judge")
    edit(old.path, age=61, host="elsewhere")  # as seen from another host, after the holder's network went away
    new = RunFolder.open(tmp_path, "run", {})
    assert (old.attempt, new.attempt) == (1, 2)
    before = sorted(old.path.rglob("*"))

    def fill_folder() -> None:
        with old.folder("round-000/checkpoint") as folder:
            (folder / "weights").write_text("old")

    writes = [
        lambda: old.append("round-000/dropped", Dropped, [Dropped("case-2", 0, "late")]),
        lambda: old.append("round-000/other", Dropped, [ROW]),
        lambda: old.compact("round-000/dropped", Dropped, "case_id"),
        lambda: old.replace("round-000/dropped", Dropped, []),
        lambda: old.finish("round-000/sample"),
        lambda: old.write_json("summary.json", {}),
        lambda: old.write_text("report.html", ""),
        lambda: journal.started(["call-1"]),
        fill_folder,
    ]
    for write in writes:
        with pytest.raises(LeaseLost, match=r"attempt 2 \(pid \d+ on .*\) took this run over from attempt 1"):
            write()
    files = [path for path in sorted(old.path.rglob("*")) if path.is_file()]
    assert files == [path for path in before if path.is_file()]
    assert new.read("round-000/dropped", Dropped) == [ROW]
    old.close()
    new.append("round-000/dropped", Dropped, [Dropped("case-2", 0, "new")])
    new.close()


def test_a_closed_run_folder_and_a_vanished_lease_refuse_writes(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, "run", {})
    run.close()
    with pytest.raises(LeaseLost, match="was closed"):
        run.write_json("summary.json", {})
    run = RunFolder.open(tmp_path, "run", {})
    (run.path / "lease.json").unlink()
    with pytest.raises(LeaseLost, match="is gone"):
        run.write_json("summary.json", {})
    run.close()


def test_a_damaged_lease_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text('{"attempt": 1}')
    with pytest.raises(RunError, match=r"is not a lease.*remove it"):
        Lease.take(tmp_path)
