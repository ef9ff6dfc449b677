"""Overrides of a job's command line: which keys they set, which a job hands on to its runs, and values as overrides."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from rlaif.config import ConfigurationError


def hydra_text(value: Any) -> str:
    """A value as Hydra's grammar reads it back; raises ConfigurationError for a text that it cannot hold."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {hydra_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(hydra_text(inner) for inner in value) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if any(mark in value for mark in ("\n", "\r", "${")):
        raise ConfigurationError(f"{value!r} cannot be handed on to a run: no line ends and no ${{")
    # Within Hydra's quotes only a quote is escaped, and backslashes before one.
    quoted = re.sub(r"(\\*)(\"|$)", lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    return f'"{quoted}"'


def kept_overrides(overrides: Sequence[str], section: str, sets: Mapping[str, str], job: str) -> list[str]:
    """Those of a job's overrides that its runs get too: all but `run.name`, and the `section` that is the job's own.

    Raises ConfigurationError for what `job` sets in each run itself: `sets` has patterns of such keys, each with what
    to do instead.
    """
    kept = []
    for override in overrides:
        keys = _keys_of(override)
        if keys[0] == "run.name" or keys[0].partition(".")[0] == section:
            continue
        for key in keys:
            told = next((told for pattern, told in sets.items() if re.fullmatch(pattern, key)), None)
            if told is not None:
                raise ConfigurationError(f"{override.lstrip('+')}: {job} sets {key} in each of its runs; {told}")
        kept.append(override)
    return kept


def _keys_of(override: str) -> list[str]:
    """The dotted keys that an override sets, those of a mapping included; an option of the command line is its own."""
    if override.startswith("-"):
        return [override]
    parsed = OverridesParser.create().parse_override(override)
    value: Any = parsed.value()
    within = value if isinstance(value, dict) else {}
    return [parsed.key_or_group, *(f"{parsed.key_or_group}.{name}" for name in within)]
