"""Values as the overrides of another job's command line."""

import json
import re
from typing import Any

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
