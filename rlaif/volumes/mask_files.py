"""How a study's record names the masks of its regions: a file, or `file#1,2` for these labels of a label map."""

import re
from collections.abc import Iterable, Mapping

LABELS = re.compile(r"(.+)#(\d{1,5}(?:,\d{1,5})*)")


def mask_files(regions: Mapping[str, Iterable[str]]) -> list[str]:
    """The files of a study's region masks, each once, without their labels."""
    sources = {source for sources in regions.values() for source in sources}
    return sorted({match[1] if (match := LABELS.fullmatch(source)) else source for source in sources})
