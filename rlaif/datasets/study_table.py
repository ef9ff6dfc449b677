"""What every data set adapter returns, and the checks that all of them share."""

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

from rlaif.records import Quarantined, Study

READ_STAGE = "dataset"
VOLUME_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")
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


def check_id(kind: str, value: str) -> None:
    """Raise DatasetError unless `value` can serve as an id and as a part of file names."""
    if not _SAFE_ID.fullmatch(value) or ".." in value:
        raise DatasetError(
            f"{kind} {value[:80]!r} must be 1 to 200 letters, digits, spaces or . + = @ # - _, "
            "begin with a letter, digit or _, and hold no '..'"
        )


def gather(
    rows: Iterable[Study | Quarantined], empty_reports: Literal["keep", "quarantine"]
) -> tuple[list[Study], list[Quarantined]]:
    """The studies and the quarantined of what an adapter read; of two with one id, or one volume, the first is kept.

    `empty_reports` says what becomes of studies without any text.
    """
    studies: dict[str, Study] = {}
    volumes: dict[str, str] = {}
    quarantined: list[Quarantined] = []
    for one in rows:
        if isinstance(one, Quarantined):
            quarantined.append(one)
        elif one.study_id in studies:
            reason = f"the study id is taken by {studies[one.study_id].volume}; give each study an id of its own"
            quarantined.append(Quarantined(f"{one.study_id}#repeated", str(one.volume), READ_STAGE, reason))
        elif empty_reports == "quarantine" and not (one.findings or one.impression or one.region_reports):
            reason = "the report is empty: neither findings nor impression are given (data.empty_reports=keep takes it)"
            quarantined.append(Quarantined(one.study_id, str(one.volume), READ_STAGE, reason))
        elif one.volume is not None and volumes.setdefault(one.volume, one.study_id) != one.study_id:
            # Under two patients one CT could be both trained on and held out.
            reason = f"this volume is that of {volumes[one.volume]} already; name each volume in one row"
            quarantined.append(Quarantined(one.study_id, one.volume, READ_STAGE, reason))
        else:
            studies[one.study_id] = one
    # A row that was refused may bear the id of one that is kept.
    told = [replace(one, study_id=f"{one.study_id}#refused") if one.study_id in studies else one for one in quarantined]
    return list(studies.values()), told


def unlisted(volumes: Iterable[str], named: Container[str], table: str) -> Iterator[Quarantined]:
    """The volumes that no row of the table names, each as quarantined."""
    for volume in volumes:
        if volume not in named:
            reason = f"no row of {table} names this volume; add one, or set data.unlisted_volumes=skip"
            yield Quarantined(f"{volume}#unlisted", volume, READ_STAGE, reason)


def is_volume(file: str) -> bool:
    """Whether a file's name is that of a volume: NIfTI, NRRD or MHA."""
    return file.lower().endswith(VOLUME_ENDINGS)


def stem_of(file: str) -> str:
    """The name of a volume's file without folder and ending."""
    name = PurePosixPath(file).name
    ending = next((ending for ending in sorted(VOLUME_ENDINGS, key=len, reverse=True) if name.endswith(ending)), "")
    return name.removesuffix(ending)
