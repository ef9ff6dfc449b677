"""TensorBoard's event files, one for each finished stage of a run, without TensorFlow or torch."""

import shutil
from pathlib import Path

from rlaif.ledger import RunFolder
from rlaif.trackers.told import Stage, Tracked, stage_of

FOLDER = "tensorboard"


def write_event_files(run: RunFolder, tracked: Tracked, *, resamples: int) -> None:
    """Writes the stages that have no file yet, all of them whole or none; those that have one stay as they are.

    The files' names go up, since TensorBoard follows a run to files of higher names only.
    """
    names = [file_name(number, stage) for number, stage in enumerate(tracked.stages)]
    folder = run.path / FOLDER
    if not names or (folder.is_dir() and {path.name for path in folder.iterdir()} == set(names)):
        return
    with run.folder(FOLDER) as target:
        for name, stage in zip(names, tracked.stages, strict=True):
            if (folder / name).is_file():
                shutil.copy2(folder / name, target / name)
            else:
                _write(target / name, stage_of(run, stage, resamples=resamples))


def file_name(number: int, stage: str) -> str:
    """The event file of a stage that is told as the `number`-th."""
    return f"events.out.tfevents.{number:06d}.{stage.replace('/', '.')}"


def _write(path: Path, stage: Stage) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    at = stage.at.timestamp()
    with path.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=at, file_version="brain.Event:2").SerializeToString())
        for row in stage.rows:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in row.values.items()]
            if values:
                writer.write(Event(wall_time=at, step=row.step, summary=Summary(value=values)).SerializeToString())
