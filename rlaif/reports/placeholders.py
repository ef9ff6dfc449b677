"""Places of visual tokens in a prompt: `<image>` for the whole scan, `<region:NAME>` for one of its regions.

The policy puts the visual tokens there; a region's name never reaches the language model.
"""

import re

IMAGE_TOKEN = "<image>"
PLACEHOLDER = re.compile(r"<image>|<region:([^<>]*)>")


def region_placeholder(region: str) -> str:
    """The place of a region's visual tokens."""
    return f"<region:{region}>"


def slots_of(prompt: str) -> tuple[str | None, ...]:
    """What stands in the places of a prompt, in order: None for the whole scan, else a region's name."""
    return tuple(match[1] for match in PLACEHOLDER.finditer(prompt))
