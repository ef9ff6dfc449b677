"""The configuration that a run was started with, and which differences mean another run."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from rlaif.files import Guard, RunError, replacing

CONFIG_FILE = "config.yaml"
_CONFIG_BYTES = 16 * 2**20
_SECRET = re.compile(r"(^|_)(api_?key|password|passwd|secret|access_token|auth_token)$", re.IGNORECASE)
# Where the run stands and what it runs on do not change its results; nor do the address, the pace and the price of a
# judge's model, nor how many actors ask it.
_JUDGE = (
    "actors|max_actors|cpus|gpus|batch|calls|timeout_s|base_url|allowed_hosts|environment_proxy|key_variable|concurrency|"
    "requests_per_minute|tokens_per_minute|attempts|request_timeout_s|usd_per_million_prompt_tokens|"
    "usd_per_million_completion_tokens|max_cost_usd|threads|gpu_memory|kv_cache_gib"
)
_FREE = re.compile(
    r"run\.(dry|root|max_bad_fraction)|(cluster|trackers|serve)(\..+)?|sampler\.max_actors|"
    rf"(judge|(heldout|score)\.judges\.\d+)(\.members\.\d+)?\.({_JUDGE})"
)
_GROWING = "run.rounds"
_ABSENT = "(absent)"

logger = logging.getLogger(__name__)


class ConfigurationDiffers(RunError):
    """A run of this name exists with another configuration; `keys` are the dotted keys that differ."""

    def __init__(self, folder: Path, differing: dict[str, tuple[Any, Any]]) -> None:
        self.keys = sorted(differing)
        loop = differing.get("run.alignment", (_ABSENT,))[0]
        if loop != _ABSENT:
            super().__init__(
                f"{folder} is a run of jobs/{loop}_loop.py: go on with that job, or choose another run.name "
                "(run.alignment differs)"
            )
            return
        lines = [f"  {key}: {differing[key][0]!r} in the run, {differing[key][1]!r} now" for key in self.keys]
        super().__init__(
            f"{folder} was started with another configuration:\n" + "\n".join(lines) + "\n"
            f"choose another run.name, or go on with the run's own values (its {CONFIG_FILE}); "
            f"only {_GROWING} upward, cluster, trackers, run.max_bad_fraction, and address, pace and price of a judge "
            "may change"
        )


def plain_configuration(configuration: dict[str, Any]) -> dict[str, Any]:
    """The configuration as YAML gives it back: paths as strings, tuples as lists.

    Raises RunError for other objects, and for a secret among the values.
    """

    def path_text(value: Any) -> str:
        if isinstance(value, Path):
            return str(value)
        raise RunError(
            f"the configuration holds {value!r}, which is no plain value; give numbers, text, lists, mappings"
        )

    plain: dict[str, Any] = json.loads(json.dumps(configuration, default=path_text))
    _refuse_secrets(plain)
    return plain


def settle_configuration(folder: Path, wanted: dict[str, Any], guard: Guard) -> None:
    """Write a run's configuration the first time, and hold the next ones against it.

    Raises ConfigurationDiffers for differences that mean another run, and RunError for a damaged file.
    """
    path = folder / CONFIG_FILE
    if path.exists():
        kept = read_configuration(folder)
        if kept == wanted:
            return
        differing = {
            key: values for key, values in differences(kept, wanted).items() if _means_another_run(key, *values)
        }
        if differing:
            raise ConfigurationDiffers(folder, differing)
        logger.info("%s: the configuration changed where it may; %s is written anew", folder, CONFIG_FILE)
    with replacing(path, guard) as file:
        file.write(yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True).encode())


def read_configuration(folder: Path) -> dict[str, Any]:
    """The configuration that a run folder holds; raises RunError where its file is absent or damaged."""
    path = folder / CONFIG_FILE
    try:
        if path.stat().st_size > _CONFIG_BYTES:
            raise RunError(f"{path} is larger than {_CONFIG_BYTES} bytes, which no configuration is; restore it")
        kept = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{folder} is no run folder: it has no {CONFIG_FILE}; name one, such as runs/demo") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not YAML ({error}); restore it, or name another run") from error
    if not isinstance(kept, dict):
        raise RunError(
            f"{path} is not a mapping of configuration keys, so the folder is no run of a loop; restore it, or name "
            "another run"
        )
    return kept


def loop_configuration(run: Path) -> dict[str, Any]:
    """The configuration of a loop's run; raises RunError as `read_configuration`, and for another job's folder."""
    kept = read_configuration(run)
    # Jobs over several runs, and those without a policy, have folders with a configuration too.
    if not {"policy", "learner"} <= kept.keys():
        raise RunError(f"{run} is no run of a loop, by its {CONFIG_FILE}: name one of jobs/dpo_loop.py or ppo_loop.py")
    return kept


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The configuration's values by dotted key; lists of plain values and empty mappings are values."""
    if isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        value = {str(number): inner for number, inner in enumerate(value)}
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def differences(kept: dict[str, Any], wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The dotted keys that differ, with the values in the first and in the second configuration."""
    before, now = dict(_flat(kept)), dict(_flat(wanted))
    values = {key: (before.get(key, _ABSENT), now.get(key, _ABSENT)) for key in before.keys() | now.keys()}
    return {key: (old, new) for key, (old, new) in values.items() if old != new}


def _means_another_run(key: str, old: Any, new: Any) -> bool:
    grows = key == _GROWING and isinstance(old, int) and isinstance(new, int) and new >= old
    return not grows and not _FREE.fullmatch(key)


def _refuse_secrets(configuration: dict[str, Any]) -> None:
    for key, value in _flat(configuration):
        if _SECRET.search(key.rsplit(".", 1)[-1]) and value:
            raise RunError(
                f"the configuration key {key} holds a secret, and the configuration is written to the run folder; "
                "give it in the environment instead (OPENAI_API_KEY, or a file named by OPENAI_API_KEY_FILE)"
            )
