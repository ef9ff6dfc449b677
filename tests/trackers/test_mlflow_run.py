"""MLflow with its local store, written as a run writes it and read back by MLflow's client."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from mlflow.tracking import MlflowClient

from rlaif.ledger import RunFolder
from rlaif.trackers import mlflow_run, tracking
from rlaif.trackers.settings import MlflowSettings, TrackerSettings
from rlaif.trackers.told import ended
from rlaif.trackers.tracking import track

SETTINGS = TrackerSettings(tensorboard=False, mlflow=MlflowSettings(experiment="ct/first"), timeout_s=200.0)


def runs_of(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("ct/first")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def points(client: MlflowClient, id_: str, name: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in client.get_metric_history(id_, name)]


@pytest.mark.slow
def test_a_run_that_is_told_again_after_kills_has_every_point_once(
    run: RunFolder,
    begun: Callable[[], RunFolder],
    next_round: Callable[[RunFolder], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    track(run, SETTINGS, resamples=100)
    store = run.path.parent / "mlflow.db"
    assert store.stat().st_mode & 0o077 == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{store}")
    (first,) = runs_of(client)
    id_ = first.info.run_id
    assert first.info.run_name == "run" and first.info.status == "RUNNING"
    assert first.data.params["policy.name"] == "rgro" and first.data.params["run.seed"] == "7"
    assert points(client, id_, "dpo/loss") == [(0, 0.75), (1, 0.5)]

    # As after a kill before the stage's tag was set: all of its numbers are sent once more.
    client.delete_tag(id_, "rlaif.stage.round-000/learn")
    run.close()
    # The client that is here already spares the test another process.
    monkeypatch.setattr(tracking, "run_apart", lambda module, told, *_, **__: mlflow_run.write(told))
    with begun() as resumed:
        next_round(resumed)
        track(resumed, SETTINGS, resamples=100)
        done = round(ended(resumed, "summary").timestamp() * 1000)
    (last,) = runs_of(client)
    assert last.info.run_id == id_ and (last.info.status, last.info.end_time) == ("FINISHED", done)
    assert points(client, id_, "dpo/loss") == [(0, 0.75), (1, 0.5), (2, 0.25)]
    assert points(client, id_, "sft/loss") == [(0, 4.0), (1, 3.0)]
    assert points(client, id_, "heldout/rules_score/mean") == [
        (0, pytest.approx(0.3)),
        (1, pytest.approx(0.5)),
        (2, pytest.approx(0.7)),
    ]
    assert points(client, id_, "seconds/sample") == [(0, 4.0), (1, 4.0)]
    assert {key for key in last.data.tags if key.startswith("rlaif.stage.")} >= {"rlaif.stage.round-001/learn"}
    assert not list(Path.cwd().glob("mlruns"))
