"""Where a loop tells the trackers what it has done, with the keys that they need."""

import os
from pathlib import Path

from actors.api_key import checked, read_owned
from rlaif.config import Config
from rlaif.ledger import RunFolder
from rlaif.trackers.settings import TrackerSettings
from rlaif.trackers.tracking import MLFLOW_KEYS, WANDB_KEYS, TrackerMissing, check_trackers, track


def track_stages(run: RunFolder, config: Config, *, anew: bool = False) -> None:
    """Tells the configured trackers of the stages that have finished; a tracker that is gone does not stop the run.

    With `anew` they are asked although nothing is new, such as one that was not there before.
    """
    keys = tracker_keys(config.trackers)
    track(run, config.trackers, keys, resamples=config.heldout.resamples, anew=anew)


def check_tracking(config: Config) -> None:
    """Raises TrackerMissing where a tracker's package or key is not there, and JudgeMisconfigured for a bad key."""
    check_trackers(config.trackers)
    wandb = config.trackers.wandb
    if wandb is not None and wandb.mode == "online" and not set(WANDB_KEYS) & tracker_keys(config.trackers).keys():
        raise TrackerMissing(
            "trackers.wandb.mode=online has no key: put WANDB_API_KEY into the environment where the job runs, or "
            "WANDB_API_KEY_FILE with the path of a file of mode 0600"
        )


def tracker_keys(settings: TrackerSettings) -> dict[str, str]:
    """The keys of the trackers that leave this machine, each from its variable or from the file that VARIABLE_FILE
    names.
    """
    wanted = (*MLFLOW_KEYS, *WANDB_KEYS) if settings.addresses else ()
    keys = {}
    for variable in wanted:
        if key := os.environ.get(variable, "").strip():
            keys[variable] = checked(key, variable).revealed()
        elif path := os.environ.get(f"{variable}_FILE", ""):
            source = f"{variable}_FILE"
            keys[variable] = checked(read_owned(Path(path), source), source).revealed()
    return keys
