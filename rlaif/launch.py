"""From a command line to a job: Hydra composes, Pydantic checks, and every expected error ends in a clear line."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlaif.config import Config, known_keys, load_config, nearest

PROJECT = Path(__file__).resolve().parent.parent
CONFIGS = PROJECT / "configs"


def launch(job: Callable[[Config], None]) -> None:
    """Runs a job with the configuration of the command line; expected errors exit with status 2 and one line each."""
    check_overrides([argument for argument in sys.argv[1:] if not argument.startswith("-")])

    def main(composed: DictConfig) -> None:
        try:
            values: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
            job(load_config(values, PROJECT))
        except OmegaConfBaseException as error:
            fail(f"{error.full_key or 'configuration'}: {_first_line(error)}; set it on the command line")
        except (ValueError, RuntimeError, OSError) as error:
            if not _expected(error):
                raise
            fail(_message(error))

    hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")(main)()


def check_overrides(arguments: list[str]) -> None:
    """Exits with one line for an override that names nothing, with the nearest name that exists."""
    for argument in arguments:
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException as error:
            fail(f"cannot read the override {argument!r}: {_first_line(error)}")
        key = override.key_or_group
        if (CONFIGS / key).is_dir():
            names = sorted(path.stem for path in (CONFIGS / key).glob("*.yaml"))
            for choice in _choices(override):
                if choice not in names and choice is not None:
                    near = nearest(str(choice), names)
                    fail(f"{key}={choice} does not exist" + _hint(near) + f"; there are {', '.join(names)}")
        elif not key.startswith("hydra") and key not in known_keys(Config):
            near = nearest(key, [*known_keys(Config), *(path.name for path in CONFIGS.iterdir() if path.is_dir())])
            fail(f"unknown key {key}" + _hint(near))


def _choices(override: Any) -> list[Any]:
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.value()]


def _hint(near: str | None) -> str:
    return f"; did you mean {near}?" if near else ""


def _expected(error: BaseException) -> bool:
    """Whether an error is one of ours, or an operating system's word on a file: its message says what to do."""
    cause = getattr(error, "cause", None) or error
    return isinstance(cause, OSError) or type(cause).__module__.split(".")[0] in ("rlaif", "actors")


def _message(error: BaseException) -> str:
    return str(getattr(error, "cause", None) or error)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def fail(message: str) -> None:
    """Prints an error and ends the process with status 2."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)
