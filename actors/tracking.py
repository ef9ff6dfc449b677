"""Where a loop tells the trackers what it has done, with the keys that they need."""

import os
from pathlib import Path

from actors.api_key import JudgeMisconfigured, checked, read_owned
from rlaif.config import Config
from rlaif.ledger import RunFolder
from rlaif.trackers.own_process import TrackerFailed
from rlaif.trackers.settings import TrackerSettings
from rlaif.trackers.tracking import MLFLOW_KEYS, WANDB_KEYS, TrackerMissing, check_trackers, track

KEYS = {"mlflow": MLFLOW_KEYS, "wandb": WANDB_KEYS}


def track_stages(run: RunFolder, config: Config, *, anew: bool = False) -> None:
    """Tells the configured trackers of the stages that have finished; a tracker that is gone, or whose key is, does not
    stop the run.

    With `anew` they are asked although nothing is new, such as one that was not there before.
    """

    def keys_of(tracker: str) -> dict[str, str]:
        try:
            return tracker_keys(config.trackers, tracker)
        except JudgeMisconfigured as error:
            raise TrackerFailed(str(error)) from error

    track(run, config.trackers, keys_of, resamples=config.heldout.resamples, anew=anew)


def check_tracking(config: Config) -> None:
    """Raises TrackerMissing where a tracker's package or key is not there, and JudgeMisconfigured for a bad key."""
    check_trackers(config.trackers)
    keys = {tracker: tracker_keys(config.trackers, tracker) for tracker in KEYS}
    wandb = config.trackers.wandb
    if wandb is not None and wandb.mode == "online" and not keys["wandb"]:
        raise TrackerMissing(
            "trackers.wandb.mode=online has no key: put WANDB_API_KEY into the environment where the job runs, or "
            "WANDB_API_KEY_FILE with the path of a file of mode 0600"
        )


def tracker_keys(settings: TrackerSettings, tracker: str) -> dict[str, str]:
    """The keys of `mlflow` or `wandb`, each from its variable or from the file that VARIABLE_FILE names.

    A tracker without an address has none. Raises JudgeMisconfigured for what is no key, or that others may read.
    """
    if not any(setting.startswith(f"{tracker}.") for setting in settings.addresses):
        return {}
    keys = {}
    for variable in KEYS[tracker]:
        if key := os.environ.get(variable, "").strip():
            keys[variable] = checked(key, variable).revealed()
        elif path := os.environ.get(f"{variable}_FILE", ""):
            source = f"{variable}_FILE"
            keys[variable] = checked(read_owned(Path(path), source), source).revealed()
    return keys
