"""TensorBoard's files, read back by TensorBoard's own reader."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlaif.ledger import LeaseLost, RunFolder
from rlaif.trackers.settings import TrackerSettings
from rlaif.trackers.told import ended
from rlaif.trackers.tracking import track


def read(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Every tag with its (step, value) points, in the order in which they stand."""
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def tell(run: RunFolder) -> None:
    track(run, TrackerSettings(), resamples=100)


def test_a_run_that_goes_on_and_is_told_again_has_every_point_once(
    run: RunFolder, begun: Callable[[], RunFolder], next_round: Callable[[RunFolder], None]
) -> None:
    tell(run)
    files = {path.name: path.read_bytes() for path in (run.path / "tensorboard").iterdir()}
    assert sorted(files)[0] == "events.out.tfevents.000000.studies"
    tell(run)
    run.close()
    with begun() as resumed:
        tell(resumed)
        assert {path.name: path.read_bytes() for path in (run.path / "tensorboard").iterdir()} == files
        next_round(resumed)
        tell(resumed)
        tell(resumed)
    after = {path.name: path.read_bytes() for path in (run.path / "tensorboard").iterdir()}
    assert files.items() < after.items() and len(after) == 14
    # TensorBoard follows a run to files of higher names.
    assert sorted(after)[: len(files)] == sorted(files)

    points = read(run.path)
    assert points["sft/loss"] == [(0, 4.0), (1, 3.0)]
    assert points["dpo/loss"] == [(0, 0.75), (1, 0.5), (2, 0.25)]
    assert points["dpo/margin"] == [(0, 1.5), (1, 1.0), (2, 0.5)]
    assert points["seconds/learn"] == [(0, 8.0), (1, 8.0)]
    assert points["judging/rules/failures/no_reference"] == [(0, 1.0), (1, 1.0)]
    assert points["heldout/rules_score/mean"] == [
        (0, pytest.approx(0.3)),
        (1, pytest.approx(0.5)),
        (2, pytest.approx(0.7)),
    ]
    assert points["heldout/rules_score/low"][2] == (2, pytest.approx(0.6))
    assert points["gain/rules_score/mean"] == [(1, pytest.approx(0.2)), (2, pytest.approx(0.4))]
    assert points["heldout/gpt4_score/mean"] == [(0, pytest.approx(1.6)), (1, 2.0), (2, pytest.approx(2.4))]


def test_files_that_were_removed_come_back_with_the_times_of_their_stages(run: RunFolder) -> None:
    tell(run)
    files = {path.name: path.read_bytes() for path in (run.path / "tensorboard").iterdir()}
    for path in (run.path / "tensorboard").iterdir():
        path.unlink()
    tell(run)
    assert {path.name: path.read_bytes() for path in (run.path / "tensorboard").iterdir()} == files
    accumulator = EventAccumulator(str(run.path / "tensorboard"))
    accumulator.Reload()
    assert accumulator.Scalars("dpo/loss")[0].wall_time == ended(run, "round-000/learn").timestamp()


def test_an_older_attempt_writes_nothing(run: RunFolder, begun: Callable[[], RunFolder]) -> None:
    tell(run)
    run.close()
    with begun(), pytest.raises(LeaseLost):
        run.finish("round-000/pairs", seconds=2.0)
    (run.path / "tensorboard" / "events.out.tfevents.000000.studies").unlink()
    with begun(), pytest.raises(LeaseLost):
        tell(run)
    assert not (run.path / "tensorboard" / "events.out.tfevents.000000.studies").exists()


def test_nothing_is_written_where_no_tracker_is_on(run: RunFolder) -> None:
    before = sorted(run.path.iterdir())
    track(run, TrackerSettings(tensorboard=False), resamples=100)
    assert sorted(run.path.iterdir()) == before


def test_neither_the_package_nor_its_checks_load_torch_or_a_tracker(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from rlaif.trackers import tracking\n"
        "from rlaif.trackers.settings import MlflowSettings, TrackerSettings, WandbSettings\n"
        "tracking.check_trackers(TrackerSettings(mlflow=MlflowSettings(), wandb=WandbSettings()))\n"
        "print(sorted({'torch', 'tensorboard', 'mlflow', 'wandb', 'sqlalchemy', 'ray'} & sys.modules.keys()))\n"
        "from tensorboard.summary.writer.record_writer import RecordWriter\n"
        "print('torch' in sys.modules or 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
