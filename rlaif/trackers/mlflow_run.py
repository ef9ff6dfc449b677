"""A run in an MLflow store: `python -m rlaif.trackers.mlflow_run` writes what is not there yet.

A stage that is there bears a tag, which is set with its last numbers. A stage that was cut off between is sent again
as it was, key, step and time: what an MLflow database has already it does not take twice.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rlaif.trackers.own_process import told_here

ID_TAG = "rlaif.id"
STAGE_TAG = "rlaif.stage."
# What MLflow takes in one request.
_MOST_METRICS = 1000

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
}
"""Nothing is sent to MLflow's makers, and no server sends us elsewhere."""


def write(told: Mapping[str, Any]) -> None:
    """Writes a run's settings and the stages that the store at `told["uri"]` lacks; what MLflow raises goes up."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=told["uri"])
    experiment = client.get_experiment_by_name(told["experiment"])
    within = experiment.experiment_id if experiment else client.create_experiment(told["experiment"])
    found = client.search_runs([within], f"tags.`{ID_TAG}` = '{told['id']}'", max_results=1)
    if found:
        run = found[0]
    else:
        start = min((stage["at_ms"] for stage in told["stages"]), default=None)
        run = client.create_run(within, start_time=start, tags={ID_TAG: told["id"]}, run_name=told["name"])
    known = run.info.run_id
    # A setting may change once, and MLflow refuses to change a parameter.
    params = [Param(key, str(value)) for key, value in told["settings"].items() if key not in run.data.params]
    client.log_batch(known, params=params)
    for stage in told["stages"]:
        tag = STAGE_TAG + stage["name"]
        if tag in run.data.tags:
            continue
        metrics = [
            Metric(name, value, stage["at_ms"], row["step"])
            for row in stage["rows"]
            for name, value in row["values"].items()
        ]
        for batch in _batches(metrics):
            client.log_batch(known, metrics=batch)
        client.log_batch(known, tags=[RunTag(tag, str(len(metrics)))])
    if told["finished_ms"] is None:
        client.update_run(known, status="RUNNING")
    else:
        client.set_terminated(known, end_time=told["finished_ms"])


def _batches(metrics: list[Any]) -> Iterable[list[Any]]:
    return (metrics[start : start + _MOST_METRICS] for start in range(0, len(metrics), _MOST_METRICS))


if __name__ == "__main__":
    write(told_here())
