"""From a command line to a job: Hydra composes, Pydantic checks, and every expected error ends in a clear line."""

import errno
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from rlaif.config import Config, ConfigurationError, load_config
from rlaif.config_faults import keys_of_other_kinds, known_keys, nearest
from rlaif.models.settings import PolicyError, read_settings
from rlaif.policy_choice import PolicyChoice

PROJECT = Path(__file__).resolve().parent.parent
CONFIGS = PROJECT / "configs"
# The exit status of a job that ends with an error of ours, in a line that says what to do.
REFUSED = 2
FULL_DISK = (
    "the disk is full: make room there, then give the same command again, which goes on from what is durable; "
    "run.root and cache.root say where a run writes"
)


def launch(job: Callable[[Config], None], *, run_name: str | None = None, alignment: str | None = None) -> None:
    """Runs a job with the configuration of the command line; expected errors exit with status 2 and one line each.

    `run_name` is the run's name where the command line gives none, `alignment` what a loop aligns by.
    """
    sys.argv[1:] = checked_overrides(sys.argv[1:])

    def main(composed: DictConfig) -> None:
        try:
            # As they were typed: read one by one, their interpolations would be resolved against Hydra's own settings.
            _check_name(composed, HydraConfig.get().runtime.choices["policy"])
            overrides: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
            values = sized(composed, overrides)
            if run_name is not None and not any(one.lstrip("+").startswith("run.name=") for one in overrides):
                values["run"]["name"] = run_name
            if alignment is not None and values["run"].setdefault("alignment", alignment) != alignment:
                given = values["run"]["alignment"]
                raise ConfigurationError(
                    f"run.alignment={given}, and jobs/{alignment}_loop.py aligns by {alignment}: take the other loop, "
                    "or leave out what sets it (run.alignment, or experiment=ppo)"
                )
            job(load_config(values, PROJECT))
        except MissingMandatoryValue as error:
            fail(f"{error.full_key} is missing: set {error.full_key}=…")
        except OmegaConfBaseException as error:
            fail(f"{error.full_key or 'configuration'}: {_first_line(error)}; set it on the command line")
        except (ValueError, LookupError, RuntimeError, OSError) as error:
            cause = _cause(error)
            if not _expected(cause):
                raise
            fail(f"{cause}; {FULL_DISK}" if _disk_full(cause) else str(cause))

    hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")(main)()


def sized(composed: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration's plain values, with those of the policy's size: above the policy's defaults, below an
    experiment's and the user's own. Of a policy folder's size only the sampler's values are taken: it writes as it did
    in the run that made it. Hydra must be initialised with the configuration's folder.

    Raises ConfigurationError for a size that the policy has not, and for a part of another kind than the size's that
    still has the size's values.
    """
    name, size = composed.policy.name, composed.policy.size
    if name == "folder":
        # What is wrong with the folder is told where the configuration is checked.
        with suppress(PolicyError):
            made = read_settings(Path(composed.policy.path).expanduser().absolute())
            if (CONFIGS / "size" / made.name / f"{made.size}.yaml").is_file():
                composed.sampler = hydra.compose("config", [*overrides, f"size={made.name}/{made.size}"]).sampler
    folder = CONFIGS / "size" / name
    if folder.is_dir():
        sizes = sorted(path.stem for path in folder.glob("*.yaml"))
        if size not in sizes:
            raise ConfigurationError(f"policy={name} has no size {size}; there are {', '.join(sizes)}")
        composed = hydra.compose("config", [*overrides, f"size={name}/{size}"])
    values: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    for part in ("encoder", "connector"):
        given = values["policy"].get(part)
        if folder.is_dir() and (keys := keys_of_other_kinds(PolicyChoice, part, given)):
            own = hydra.compose("config", [f"policy={name}", f"size={name}/{size}"])
            kind = OmegaConf.select(own, f"policy.{part}.kind")
            if kind not in (None, given["kind"]):
                raise ConfigurationError(
                    f"policy.{part}.kind={given['kind']} has no {', '.join(keys)}: the values of policy={name} "
                    f"policy.size={size} belong to kind {kind}; for another kind replace the whole section with "
                    f"policy.{part}=null 'policy.{part}={{kind: {given['kind']}, ...}}'"
                )
    return dict(values)


def _check_name(composed: DictConfig, chosen: str) -> None:
    if composed.policy.name != chosen:
        raise ConfigurationError(
            f"policy.name={composed.policy.name} is not the chosen policy={chosen}, by whose name its sizes are found: "
            "leave policy.name out, and set policy=POLICY for another one, or run.name for a name of your own"
        )


def checked_overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments for Hydra, with overrides that also reach settings which the YAML files leave at their defaults.

    Exits with one line for an override that names nothing, with the nearest name that exists.
    """
    return [argument if argument.startswith("-") else _checked(argument) for argument in arguments]


def _checked(argument: str) -> str:
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException as error:
        fail(f"cannot read the override {argument!r}: {_first_line(error)}")
    key = override.key_or_group
    if key.split("/")[0] == "size":
        fail(f"{argument}: a size goes with its policy: set policy=POLICY policy.size=SIZE, such as policy.size=tiny")
    if (CONFIGS / key).is_dir():
        names = sorted(path.stem for path in (CONFIGS / key).glob("*.yaml"))
        for choice in _choices(override):
            if choice not in names and not (choice is None and key == "experiment"):
                near = nearest(str(choice), names)
                fail(f"{key}={choice} does not exist" + _hint(near) + f"; there are {', '.join(names)}")
    elif not key.startswith("hydra"):
        if key not in known_keys(Config):
            groups = (path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != "size")
            near = nearest(key, [*known_keys(Config), *groups])
            fail(f"unknown key {key}" + _hint(near))
        if key in Config.model_fields and not isinstance(override.value(), dict):
            first = next(known for known in known_keys(Config) if known.startswith(f"{key}."))
            fail(f"{key} is a section: set one of its keys, such as {first}")
        if override.type == OverrideType.CHANGE:
            return f"++{argument}"
    return argument


def _choices(override: Any) -> list[Any]:
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.value()]


def _hint(near: str | None) -> str:
    return f"; did you mean {near}?" if near else ""


def _cause(error: BaseException) -> BaseException:
    """The error that an actor raised, out of what Ray wraps around it."""
    while isinstance(inner := getattr(error, "cause", None), BaseException):
        error = inner
    return error


def _expected(error: BaseException) -> bool:
    """Whether an error is one of ours, or an operating system's word on a file: its message says what to do."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("rlaif", "actors")


def _disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def run_loop_apart(loop: str, name: str, overrides: Sequence[str]) -> None:
    """Runs jobs/LOOP.py to its end in a process of its own: a run like any other, which the same command goes on with.

    Ends this job where that one fails.
    """
    finished = subprocess.run([sys.executable, str(PROJECT / "jobs" / f"{loop}.py"), *overrides], check=False)
    if finished.returncode == REFUSED:
        # What is to be changed, the run has said: the same command would be refused again.
        fail(f"the run {name} ended with status {REFUSED}: see its error above")
    if finished.returncode:
        fail(
            f"the run {name} ended with status {finished.returncode}: the same command goes on from there; a run that "
            "stopped for reasons of its own says so above"
        )


def refuse_sweep(arguments: Sequence[str]) -> None:
    """Exits with one line for a sweep, which a job that starts runs itself would hand on to each of them."""
    for argument in arguments:
        if argument == "-m" or argument.startswith("--m") or argument.lstrip("+").startswith("hydra.mode="):
            fail(f"{argument}: this job makes its runs itself, and each of them would be a sweep again: leave it out")


def fail(message: str) -> NoReturn:
    """Prints an error and ends the process with status 2."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(REFUSED)
