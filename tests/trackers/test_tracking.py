"""Trackers that fail, hang, are not installed or come later: the run goes on, and they catch up."""

import errno
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rlaif.files import RunError
from rlaif.ledger import RunFolder
from rlaif.run_configuration import read_configuration
from rlaif.trackers import mlflow_run, tracking
from rlaif.trackers import told as memory
from rlaif.trackers.own_process import TrackerFailed, run_apart
from rlaif.trackers.scalars import Row, rows_of
from rlaif.trackers.settings import MlflowSettings, TrackerSettings, WandbSettings
from rlaif.trackers.told import TRACKERS_FILE, settle
from rlaif.trackers.tracking import TrackerMissing, check_trackers, track

MLFLOW = TrackerSettings(tensorboard=False, mlflow=MlflowSettings())
WANDB = TrackerSettings(tensorboard=False, wandb=WandbSettings())


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What trackers were told, in the place of their own processes."""
    calls: list[Mapping[str, Any]] = []

    def keep(module: str, told: Mapping[str, Any], environment: Mapping[str, str], **limits: Any) -> None:
        calls.append({"module": module, "environment": dict(environment), **limits, **told})

    monkeypatch.setattr(tracking, "run_apart", keep)
    return calls


def gone(*_: Any, **__: Any) -> None:
    raise TrackerFailed("no route to host\nat all")


def test_a_tracker_that_is_gone_is_named_once_and_catches_up(
    run: RunFolder,
    begun: Callable[[], RunFolder],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tracking, "run_apart", gone)
    track(run, MLFLOW, resamples=100)
    track(run, MLFLOW, resamples=100)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("warning: trackers.mlflow is not told of run (") and "no route to host" in line
    assert run.read_json(TRACKERS_FILE)["failures"]["mlflow"]["reason"] == "no route to host\nat all"
    run.close()
    with begun() as resumed:
        track(resumed, MLFLOW, resamples=100)
        assert len(capsys.readouterr().out.splitlines()) == 1
        stages: list[str] = []
        monkeypatch.setattr(tracking, "run_apart", lambda _, told, *__, **___: stages.extend(told["stages"]))
        track(resumed, MLFLOW, resamples=100)
        assert capsys.readouterr().out == "trackers.mlflow has been told all of run\n" and len(stages) == 9
        assert resumed.read_json(TRACKERS_FILE)["failures"] == {}


def test_nobody_is_asked_between_stages_but_at_the_end(
    run: RunFolder, told: list[Mapping[str, Any]], next_round: Callable[[RunFolder], None]
) -> None:
    for _ in range(2):
        track(run, MLFLOW, resamples=100, anew=False)
    assert len(told) == 1 and told[0]["finished_ms"] is None
    assert told[0]["uri"] == f"sqlite:///{run.path.parent}/mlflow.db"
    next_round(run)
    track(run, MLFLOW, resamples=100, anew=False)
    track(run, MLFLOW, resamples=100)
    assert len(told) == 3 and told[2]["finished_ms"] == told[1]["finished_ms"] > 1.7e12
    assert told[2]["id"] == told[0]["id"] and told[2]["stages"][:9] == told[0]["stages"]
    assert json.loads(json.dumps(told[2], allow_nan=False)) == told[2]


def test_keys_go_to_their_own_server_alone(run: RunFolder, told: list[Mapping[str, Any]]) -> None:
    keys = {"WANDB_API_KEY": "w", "MLFLOW_TRACKING_TOKEN": "m"}
    local = TrackerSettings(mlflow=MlflowSettings(), wandb=WandbSettings())
    track(run, local, lambda _: keys, resamples=100)
    assert not [one for one in told if one["keys"]]
    told.clear()
    server = {"uri": "https://a.example"}
    online = {"mode": "online", "base_url": "https://a.example"}
    track(
        run,
        TrackerSettings.model_validate({"mlflow": server, "wandb": online, "allowed_hosts": ["a.example"]}),
        lambda _: keys,
        resamples=100,
    )
    assert [one["keys"] for one in told] == [{"MLFLOW_TRACKING_TOKEN": "m"}, {"WANDB_API_KEY": "w"}]
    assert "w" not in (run.path / TRACKERS_FILE).read_text().split('"')
    assert [one["environment"]["DO_NOT_TRACK"] for one in told] == ["1", "1"]


def test_the_order_of_stages_is_kept_whatever_their_times_say(
    run: RunFolder, next_round: Callable[[RunFolder], None]
) -> None:
    first, fresh = settle(run)
    assert fresh and first.stages[0] == "studies" and first.stages[-1] == "heldout-judging/round-000"
    next_round(run)
    mark = run.read_json("ledger/round-001/pairs.json")
    run.write_json("ledger/round-001/pairs.json", {**mark, "finished_at": "2001-01-01T00:00:00+00:00"})
    last, fresh = settle(run)
    assert fresh and last.stages[: len(first.stages)] == first.stages and last.id == first.id
    assert last.stages[len(first.stages)] == "round-001/pairs"
    assert settle(run) == (last, False)


@pytest.mark.parametrize("content", ["{", "[]", '{"id": "x", "stages": [], "failures": {}}', '{"id": 3}'])
def test_a_damaged_memory_is_named(run: RunFolder, content: str) -> None:
    (run.path / TRACKERS_FILE).write_text(content)
    with pytest.raises(RunError, match=r"trackers\.json is damaged"):
        track(run, MLFLOW, resamples=100)


@pytest.mark.parametrize(("extra", "lacking"), [("mlflow", "alembic"), ("wandb", "wandb")])
def test_a_package_that_is_not_installed(extra: str, lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == lacking else found(name))
    check_trackers(TrackerSettings())
    message = rf"trackers\.{extra} needs {lacking}, .* pip install 'rlaif-ct\[{extra}\]', or set trackers\.{extra}=null"
    with pytest.raises(TrackerMissing, match=message):
        check_trackers(TrackerSettings.model_validate({extra: {}}))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a module of some lines that a process of its own can run."""

    def make(code: str) -> str:
        (tmp_path / "stand_in.py").write_text(code)
        return "stand_in"

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return make


def test_a_tracker_has_its_own_environment(
    module: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "WANDB_MODE", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    out = tmp_path / "out.json"
    name = module(f"import json, os, sys; json.dump([json.load(sys.stdin), dict(os.environ)], open({str(out)!r}, 'w'))")
    run_apart(name, {"a": 1}, {"OWN": "x"}, keys={"KEY": "k"}, proxy=False, timeout_s=60)
    given, environment = json.loads(out.read_text())
    assert given == {"a": 1, "timeout_s": 60} and environment["PATH"] == os.environ["PATH"]
    assert (environment["OWN"], environment["KEY"]) == ("x", "k")
    assert not {"OPENAI_API_KEY", "WANDB_MODE", "HTTPS_PROXY"} & environment.keys()
    assert out.stat().st_mode & 0o077 == 0
    run_apart(name, {}, {}, keys={}, proxy=True, timeout_s=60)
    assert json.loads(out.read_text())[1]["HTTPS_PROXY"] == "http://127.0.0.1:9"


def test_what_a_tracker_dies_of_is_told_in_a_line(module: Callable[[str], str]) -> None:
    code = (
        "import sys; print('a log line', file=sys.stderr)\nraise ValueError('no such project' + chr(10) + 'see more')"
    )
    with pytest.raises(TrackerFailed, match=r"^ValueError: no such project$"):
        run_apart(module(code), {}, {}, keys={}, proxy=False, timeout_s=60)
    with pytest.raises(TrackerFailed, match="ended with status 3"):
        run_apart(module("import sys; sys.exit(3)"), {}, {}, keys={}, proxy=False, timeout_s=60)


def test_a_key_is_in_no_reason(module: Callable[[str], str]) -> None:
    code = "import os\nraise ValueError(f'{os.environ[\"KEY\"]} was refused by https://u:a%2Fb%2Bc@host')"
    with pytest.raises(TrackerFailed, match=r"^ValueError: \[key\] was refused by https://u:\[key\]@host$"):
        run_apart(module(code), {}, {}, keys={"KEY": "a/b+c"}, proxy=False, timeout_s=60)


def test_a_tracker_ends_itself_where_the_job_that_started_it_is_gone() -> None:
    code = "import time; from rlaif.trackers.own_process import told_here; told_here(); time.sleep(100)"
    done = subprocess.run([sys.executable, "-c", code], input=b'{"timeout_s": 0.5}', timeout=60, check=False)
    assert done.returncode == -signal.SIGALRM


def test_a_tracker_that_hangs_is_ended_with_all_that_it_started(module: Callable[[str], str], tmp_path: Path) -> None:
    begun = tmp_path / "pid"
    code = (
        "import pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '100'])\n"
        f"pathlib.Path({str(begun)!r}).write_text(str(child.pid))\n"
        "time.sleep(100)"
    )
    started = time.monotonic()
    with pytest.raises(TrackerFailed, match=r"not done after trackers\.timeout_s=2"):
        run_apart(module(code), {}, {}, keys={}, proxy=False, timeout_s=2)
    assert time.monotonic() - started < 30
    stat = Path(f"/proc/{begun.read_text()}/stat")
    deadline = time.monotonic() + 10
    while _lives(stat) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(stat)


def _lives(stat: Path) -> bool:
    """Whether a process runs; nobody may have waited for one that has ended."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("settings", [MLFLOW, WANDB])
def test_a_full_disk_is_a_failure_of_the_tracker(
    settings: TrackerSettings,
    run: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    track(run, settings, resamples=100)
    assert "is not told of run" in (told := capsys.readouterr().out) and "No such file or directory" in told


def test_an_offline_run_that_cannot_be_kept_leaves_the_earlier_one(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.path / "wandb" / "offline-run-1").mkdir(parents=True)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tracking, "run_apart", lambda _, told, *__, **___: _made(told["folder"]))
    monkeypatch.setattr(shutil, "move", full)
    track(run, WANDB, resamples=100)
    assert "No space left on device" in capsys.readouterr().out
    assert [path.name for path in (run.path / "wandb").iterdir()] == ["offline-run-1"]


def _made(folder: str) -> None:
    (Path(folder) / "wandb" / "offline-run-2").mkdir(parents=True)


def test_a_run_whose_rounds_were_raised_is_not_finished(
    run: RunFolder, told: list[Mapping[str, Any]], next_round: Callable[[RunFolder], None], tmp_path: Path
) -> None:
    next_round(run)
    run.close()
    kept = read_configuration(run.path)
    with RunFolder.open(tmp_path / "runs", "run", {**kept, "run": {**kept["run"], "rounds": 3}}) as grown:
        track(grown, MLFLOW, resamples=100)
        grown.finish("summary", rounds=3)
        track(grown, MLFLOW, resamples=100)
    assert [one["finished_ms"] is None for one in told] == [True, False]


def test_a_stage_is_read_and_resampled_once(
    run: RunFolder,
    told: list[Mapping[str, Any]],
    next_round: Callable[[RunFolder], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []

    def counted(one: RunFolder, stage: str, *, resamples: int) -> list[Row]:
        read.append(stage)
        return rows_of(one, stage, resamples=resamples)

    monkeypatch.setattr(memory, "rows_of", counted)
    track(run, MLFLOW, resamples=100)
    next_round(run)
    track(run, MLFLOW, resamples=100)
    assert len(read) == len(set(read)) == len(told[-1]["stages"]) == 14


@pytest.mark.slow
def test_a_server_that_does_not_answer_stops_nothing(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(mlflow_run.ENVIRONMENT, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = TrackerSettings.model_validate(
            {"mlflow": {"uri": f"http://127.0.0.1:{silent.getsockname()[1]}"}, "timeout_s": 120}
        )
        track(run, settings, resamples=100)
        silent.settimeout(1)
        connection, _ = silent.accept()
        connection.close()
    assert "warning: trackers.mlflow is not told of run" in (told := capsys.readouterr().out)
    assert "timed out" in told.lower() and len(list((run.path / "tensorboard").iterdir())) == 9
