"""An offline run of Weights & Biases, read back from the file that its client wrote."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from rlaif.ledger import RunFolder
from rlaif.trackers.settings import TrackerSettings, WandbSettings
from rlaif.trackers.told import ended, settle
from rlaif.trackers.tracking import track
from rlaif.trackers.wandb_run import rows_to_log

SETTINGS = TrackerSettings(tensorboard=False, wandb=WandbSettings(project="ct"), timeout_s=200.0)
BLOCK = 32 * 1024


def records(file: Path) -> Iterator[Record]:
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log format in blocks of 32 KiB."""
    content, at, whole = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        part = content[at + 7 : at + 7 + size]
        at += 7 + size
        # 1: whole, 2: first, 3: middle, 4: last part of a record.
        whole = part if kind in (1, 2) else whole + part
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(whole)
            yield record


def history(file: Path) -> list[dict[str, Any]]:
    rows = [record.history for record in records(file) if record.WhichOneof("record_type") == "history"]
    return [{item.key or item.nested_key[0]: json.loads(item.value_json) for item in row.item} for row in rows]


def points(rows: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    axis = "step/alignment" if name.startswith("dpo") else "step/version"
    return [(row[axis], row[name]) for row in rows if name in row]


@pytest.mark.slow
def test_an_offline_run_is_written_anew_as_a_whole(run: RunFolder, next_round: Callable[[RunFolder], None]) -> None:
    tracked, _ = settle(run)
    earlier = run.path / "wandb" / "offline-run-20250102_030405-1"
    earlier.mkdir(parents=True)
    next_round(run)
    track(run, SETTINGS, resamples=100)
    (written,) = (run.path / "wandb").iterdir()
    # The same run, wherever it is synced to.
    last = written / f"run-{tracked.id}.wandb"
    assert written != earlier
    rows = history(last)
    assert points(rows, "dpo/loss") == [(0, 0.75), (1, 0.5), (2, 0.25)]
    assert points(rows, "heldout/rules_score/mean") == [
        (0, pytest.approx(0.3)),
        (1, pytest.approx(0.5)),
        (2, pytest.approx(0.7)),
    ]
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    ends = [ended(run, f"round-{number:03d}/learn").timestamp() for number in (0, 0, 1)]
    assert [row["_timestamp"] for row in rows if "dpo/loss" in row] == pytest.approx(ends, abs=1e-3)
    begun = next(record.run for record in records(last) if record.WhichOneof("record_type") == "run")
    assert begun.project == "ct" and begun.display_name == "run" and begun.host == "rlaif"
    assert {item.key: json.loads(item.value_json) for item in begun.config.update}["policy.size"] == "tiny"
    axes = {
        record.metric.name: record.metric.step_metric
        for record in records(last)
        if record.WhichOneof("record_type") == "metric"
    }
    assert axes["dpo/loss"] == "step/alignment" and axes["seconds/sample"] == "step/round"


def test_rows_have_the_steps_of_their_axes_and_empty_ones_are_none() -> None:
    rows = [{"step": 3, "values": {"dpo/loss": 0.5, "dpo/lr": 1.0}}, {"step": 4, "values": {}}]
    late = [{"step": 1, "values": {"seconds/learn": 2.0}}]
    assert rows_to_log([{"at_ms": 1500, "rows": rows}, {"at_ms": 2000, "rows": late}]) == [
        {"step/alignment": 3, "dpo/loss": 0.5, "dpo/lr": 1.0, "_timestamp": 1.5},
        {"step/round": 1, "seconds/learn": 2.0, "_timestamp": 2.0},
    ]
