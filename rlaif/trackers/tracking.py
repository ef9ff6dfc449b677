"""Telling trackers what a run has done so far; they are told the same however often, and a point never stands twice."""

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlaif.ledger import RunFolder
from rlaif.run_configuration import read_configuration
from rlaif.trackers import mlflow_run, wandb_run
from rlaif.trackers.event_files import write_event_files
from rlaif.trackers.own_process import TrackerFailed, run_apart
from rlaif.trackers.settings import MlflowSettings, TrackerSettings, WandbSettings
from rlaif.trackers.told import Tracked, ended, settings_of, settle, stage_of, write

MLFLOW_FILE = "mlflow.db"
WANDB_FOLDER = "wandb"
WANDB_KEYS = ("WANDB_API_KEY",)
MLFLOW_KEYS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
# By extra: the modules that it has to bring.
_MODULES = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}


class TrackerMissing(RuntimeError):
    """A tracker that the configuration asks for and that cannot be told anything, with what to do."""


def check_trackers(settings: TrackerSettings) -> None:
    """Raises TrackerMissing where a tracker's packages are not installed; loads none of them."""
    for extra, modules in _MODULES.items():
        lacking = [name for name in modules if importlib.util.find_spec(name) is None]
        if getattr(settings, extra) is not None and lacking:
            raise TrackerMissing(
                f"trackers.{extra} needs {', '.join(lacking)}, which is not installed: "
                f"pip install 'rlaif-ct[{extra}]', or set trackers.{extra}=null"
            )


def no_keys(_: str) -> Mapping[str, str]:
    """The keys of a tracker that needs none."""
    return {}


def track(
    run: RunFolder,
    settings: TrackerSettings,
    keys_of: Callable[[str], Mapping[str, str]] = no_keys,
    *,
    resamples: int,
    anew: bool = True,
) -> None:
    """Tells every tracker of the settings what it does not know yet of the run's finished stages.

    `keys_of` gives the secrets of `mlflow` or `wandb` by the environment variable that they stand in, or raises
    TrackerFailed. With `anew` false MLflow and W&B are asked only where a stage has ended since the last call. MLflow
    or W&B that fails is named once in an attempt of the run, and is told at the next call. Raises RunError for a
    damaged run folder.
    """
    apart = {name: one for name in ("mlflow", "wandb") if (one := getattr(settings, name)) is not None}
    if not settings.tensorboard and not apart:
        return
    tracked, fresh = settle(run)
    if settings.tensorboard:
        write_event_files(run, tracked, resamples=resamples)
    if not apart or not (fresh or anew):
        return
    told = _told(run, tracked, resamples)
    for name, one in apart.items():
        try:
            if isinstance(one, MlflowSettings):
                _tell_mlflow(run, settings, one, told, keys_of(name))
            elif isinstance(one, WandbSettings):
                _tell_wandb(run, settings, one, told, keys_of(name))
        except TrackerFailed as error:
            tracked = _failed(run, tracked, name, str(error))
        else:
            tracked = _succeeded(run, tracked, name)


def _told(run: RunFolder, tracked: Tracked, resamples: int) -> dict[str, Any]:
    stages = [stage_of(run, name, resamples=resamples) for name in tracked.stages]
    finished = round(ended(run, "summary").timestamp() * 1000) if _finished(run) else None
    return {
        "id": tracked.id,
        "name": run.path.name,
        "settings": settings_of(run),
        "finished_ms": finished,
        "stages": [
            {
                "name": stage.name,
                "at_ms": round(stage.at.timestamp() * 1000),
                "rows": [{"step": row.step, "values": dict(row.values)} for row in stage.rows],
            }
            for stage in stages
        ],
    }


def _finished(run: RunFolder) -> bool:
    """Whether the run has all of its rounds; one whose run.rounds was raised goes on."""
    wanted: int = read_configuration(run.path)["run"]["rounds"]
    return run.done("summary") and run.facts("summary")["rounds"] >= wanted


def _tell_mlflow(
    run: RunFolder, settings: TrackerSettings, mlflow: MlflowSettings, told: Mapping[str, Any], keys: Mapping[str, str]
) -> None:
    uri = mlflow.uri or f"sqlite:///{run.path.parent / MLFLOW_FILE}"
    sent = {name: key for name, key in keys.items() if name in MLFLOW_KEYS and mlflow.uri is not None}
    run_apart(
        mlflow_run.__name__,
        {**told, "uri": uri, "experiment": mlflow.experiment},
        mlflow_run.ENVIRONMENT,
        keys=sent,
        proxy=settings.environment_proxy,
        timeout_s=settings.timeout_s,
    )


def _tell_wandb(
    run: RunFolder, settings: TrackerSettings, wandb: WandbSettings, told: Mapping[str, Any], keys: Mapping[str, str]
) -> None:
    """Offline the run's folder `wandb` is written anew; online there is only what the client keeps meanwhile."""
    with _scratch() as folder:
        places = {f"WANDB_{place}_DIR": folder for place in ("CONFIG", "CACHE", "DATA", "ARTIFACT")}
        sent = {name: key for name, key in keys.items() if name in WANDB_KEYS and wandb.mode == "online"}
        run_apart(
            wandb_run.__name__,
            {**told, **wandb.model_dump(mode="json"), "folder": folder},
            wandb_run.ENVIRONMENT | places,
            keys=sent,
            proxy=settings.environment_proxy,
            timeout_s=settings.timeout_s,
        )
        if wandb.mode == "offline":
            with run.folder(WANDB_FOLDER) as target:
                for written in Path(folder).glob("wandb/offline-run-*"):
                    _move(written, target / written.name)


@contextmanager
def _scratch() -> Iterator[str]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="rlaif-wandb-", ignore_cleanup_errors=True)
    except OSError as error:
        raise TrackerFailed(f"there is no temporary folder: {error}") from error
    with folder as path:
        yield path


def _move(written: Path, target: Path) -> None:
    try:
        shutil.move(written, target)
    except OSError as error:
        raise TrackerFailed(f"what it wrote cannot be kept in the run folder: {error}") from error


def _failed(run: RunFolder, tracked: Tracked, name: str, reason: str) -> Tracked:
    before = tracked.failures.get(name, {})
    if before.get("attempt") == run.attempt:
        return tracked
    print(
        f"warning: trackers.{name} is not told of {run.path.name} ({json.dumps(reason)}); the run goes on, and it is "
        "told all of it after the next stage, or when the same command is given again",
        flush=True,
    )
    kept = replace(tracked, failures={**tracked.failures, name: {"attempt": run.attempt, "reason": reason}})
    write(run, kept)
    return kept


def _succeeded(run: RunFolder, tracked: Tracked, name: str) -> Tracked:
    if name not in tracked.failures:
        return tracked
    print(f"trackers.{name} has been told all of {run.path.name}", flush=True)
    kept = replace(tracked, failures={other: why for other, why in tracked.failures.items() if other != name})
    write(run, kept)
    return kept
