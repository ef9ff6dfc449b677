"""What every data set adapter returns, and the checks that all of them share."""

import re
from dataclasses import dataclass
from pathlib import Path

from rlaif.records import Quarantined, Study

READ_STAGE = "dataset"
_SAFE_ID = re.compile(r"[\w][\w .+=@#-]{0,199}")


class DatasetError(ValueError):
    """A data set whose layout or tables cannot be used: the message says what, where and what to do."""


@dataclass(frozen=True)
class StudyTable:
    """The studies of a data set, and those left out with their reasons.

    `readable` counts the good studies before the settings' limits and numbers took their part.
    """

    studies: list[Study]
    quarantined: list[Quarantined]
    readable: int


def within(root: Path, relative: str) -> Path:
    """The path `relative` names below `root`.

    Raises DatasetError for absolute paths, for `..`, and for links that lead out of the root.
    """
    parts = Path(relative).parts
    if not parts or Path(relative).is_absolute() or ".." in parts or "\x00" in relative or "\\" in relative:
        raise DatasetError(f"path {relative!r} is not a plain path below the data folder")
    path = root / relative
    if not path.resolve().is_relative_to(root.resolve()):
        raise DatasetError(f"path {relative!r} leads out of the data folder through a link; copy the file into it")
    return path


def check_id(kind: str, value: str) -> None:
    """Raise DatasetError unless `value` can serve as an id and as a part of file names."""
    if not _SAFE_ID.fullmatch(value) or ".." in value:
        raise DatasetError(
            f"{kind} {value[:80]!r} must be 1 to 200 letters, digits, spaces or . + = @ # - _, "
            "begin with a letter, digit or _, and hold no '..'"
        )


def data_folder(path: Path) -> Path:
    """The existing folder of a data set; DatasetError where it is not there."""
    if not path.is_dir():
        raise DatasetError(f"data folder {path} does not exist; set data.path to the data set's folder")
    return path
