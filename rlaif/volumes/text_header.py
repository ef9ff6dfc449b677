"""The text headers of NRRD and MHA files, which stand before the voxels: read in bounded bytes."""

import re
from pathlib import Path

from rlaif.volumes.volume import VolumeError

MAX_HEADER_BYTES = 64 * 2**10


def read_head(path: Path) -> bytes:
    """The part of a file that its header must lie in."""
    with path.open("rb") as file:
        return file.read(MAX_HEADER_BYTES)


def numbers(name: str, text: str, count: int) -> list[float]:
    """The `count` numbers of a header's field; VolumeError where they are others, or none."""
    try:
        values = [float(part) for part in re.split(r"[\s,]+", text.strip())]
    except ValueError as error:
        raise VolumeError(f"the header's {name} {text[:60]!r} are no numbers; convert the file again") from error
    if len(values) != count:
        raise VolumeError(f"the header's {name} {text[:60]!r} are {len(values)} numbers where {count} are expected")
    return values


def lengths(name: str, text: str, count: int) -> tuple[int, ...]:
    """The voxels along each of `count` axes, without axes of one voxel behind the third."""
    values = numbers(name, text, count)
    if not all(value.is_integer() for value in values):
        raise VolumeError(f"the header's {name} {text[:60]!r} are no whole numbers; convert the file again")
    while len(values) > 3 and values[-1] == 1:
        values.pop()
    return tuple(int(value) for value in values)


def axes_count(name: str, text: str) -> int:
    """The number of axes that a header announces; VolumeError unless a volume can have it."""
    if text not in ("2", "3", "4"):
        raise VolumeError(f"the header's {name} is {text[:20]!r} where a CT has 3 axes; give one volume for each file")
    return int(text)
