"""A run of Weights & Biases: `python -m rlaif.trackers.wandb_run` writes all of it, or online what is not there yet.

The rows of a run are numbered in the order in which its stages are told. Online, rows that the server has are left
out by that number.
"""

from collections.abc import Mapping
from typing import Any

from rlaif.trackers.own_process import told_here
from rlaif.trackers.scalars import axis_of

ENVIRONMENT = {
    "WANDB_ERROR_REPORTING": "false",
    "DO_NOT_TRACK": "1",
    "WANDB_SILENT": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
}
"""Nothing is sent to the makers beside the run itself."""


def rows_to_log(stages: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The rows in their order, each with the step of its axis as `step/AXIS` and the time at which its stage ended."""
    rows = []
    for stage in stages:
        for row in stage["rows"]:
            axes = {f"step/{axis_of(name)}": row["step"] for name in row["values"]}
            if axes:
                rows.append({**axes, **row["values"], "_timestamp": stage["at_ms"] / 1000})
    return rows


def write(told: Mapping[str, Any]) -> None:
    """Writes the run below the folder `told["folder"]`, and online to the server; what wandb raises goes up."""
    import wandb

    online = told["mode"] == "online"
    settings = wandb.Settings(
        base_url=told["base_url"],
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_save_requirements=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        host="rlaif",
        init_timeout=told["timeout_s"],
        finish_timeout=told["timeout_s"],
        finish_timeout_raises=True,
    )
    run = wandb.init(
        dir=told["folder"],
        project=told["project"],
        entity=told["entity"],
        id=told["id"],
        name=told["name"],
        config=dict(told["settings"]),
        mode=told["mode"],
        resume="allow" if online else None,
        settings=settings,
    )
    rows = rows_to_log(told["stages"])
    names = dict.fromkeys(name for row in rows for name in row if not name.startswith(("step/", "_")))
    for name in names:
        run.define_metric(name, step_metric=f"step/{axis_of(name)}")
    for number, row in enumerate(rows):
        # What the server has of an earlier time it does not take again.
        if number >= run.step:
            run.log(row, step=number)
    run.finish()


if __name__ == "__main__":
    write(told_here())
