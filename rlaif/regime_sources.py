"""The further sources of `regimes.zero_shot`: each a data set's name, its path, and what else differs."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlaif.config import Config, ConfigurationError, load_config
from rlaif.config_faults import nearest
from rlaif.launch import CONFIGS, PROJECT


def title_of(source: Mapping[str, Any]) -> str:
    """A source as tables and plans call it; two of one kind differ in it."""
    told = ", ".join(f"{key}: {value}" for key, value in source.items() if key != "data")
    return f"{source['data']} ({told})" if told else str(source["data"])


def own_settings(source: Mapping[str, Any]) -> dict[str, Any]:
    """A source's settings of `data`: its own, and where they say nothing of the split, all that may be held out is."""
    own = {key: value for key, value in source.items() if key != "data"}
    # The phantom has numbers of patients in the place of a split.
    return own if source["data"] == "phantom" else {"split": {"sft": 0.0, "align": 0.0, "heldout": 1.0}} | own


def with_source(config: Config, source: Mapping[str, Any]) -> Config:
    """The configuration with a source in the place of its data, and without rounds.

    Raises ConfigurationError for a data set that is not there, and for settings that it has not.
    """
    name, names = source["data"], sorted(path.stem for path in (CONFIGS / "data").glob("*.yaml"))
    if name not in names:
        near = nearest(str(name), names)
        hint = f"; did you mean {near}?" if near else ""
        raise ConfigurationError(f"regimes.zero_shot: data={name} does not exist{hint}; there are {', '.join(names)}")
    values = config.model_dump(mode="json")
    own = OmegaConf.load(CONFIGS / "data" / f"{name}.yaml")
    try:
        data = OmegaConf.merge({"run": {"seed": config.run.seed}, "data": own}, {"data": own_settings(source)}).data
        values["data"] = OmegaConf.to_container(data, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigurationError(
            f"regimes.zero_shot, {title_of(source)}: {str(error).splitlines()[0]}; write {{data: {name}, path: FOLDER, "
            "...}"
        ) from error
    values["run"] |= {"rounds": 0, "start_from": None}
    values["start"] = dict.fromkeys(values["start"])
    try:
        return load_config(values, PROJECT)
    except ConfigurationError as error:
        raise ConfigurationError(f"regimes.zero_shot, {title_of(source)}: {error}") from error
