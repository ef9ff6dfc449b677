"""From the studies that a data set's tables describe to studies with their volumes, divided by patient."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.layout import VolumeLayout
from rlaif.datasets.splits import check_disjoint, divide, divide_official
from rlaif.datasets.study_table import (
    READ_STAGE,
    DatasetError,
    StudyTable,
    check_id,
    gather,
    is_volume,
    stem_of,
    unlisted,
)
from rlaif.records import Quarantined, Study


@dataclass(frozen=True)
class Described:
    """A study as a table describes it, its volume not yet looked up.

    `place` is where it stands ("reports.csv, line 3"), `volume` a path within the folder or the name of a file, and
    `problem` what else makes the row unusable. With an official split, `study.split` says its side.
    """

    study: Study
    place: str
    volume: str
    problem: str | None = None


class VolumeFiles:
    """The volumes below some folders of a data set, by path and by name.

    A volume of an earlier folder stands in the place of a later folder's of the same name. `wanted` says which files
    are volumes of studies, where a layout has others (masks).
    """

    def __init__(
        self, folder: DataFolder, subfolders: Iterable[str] = ("",), wanted: Callable[[str], bool] = is_volume
    ) -> None:
        self.folder = folder
        self.named: dict[str, list[str]] = {}
        """The paths of the volumes of each name, without its ending."""
        for subfolder in subfolders:
            found: dict[str, list[str]] = {}
            for file in filter(wanted, folder.files_below(subfolder)):
                found.setdefault(stem_of(file), []).append(file)
            self.named = found | self.named
        self.files = frozenset(file for files in self.named.values() for file in files)

    def find(self, written: str) -> str | None:
        """The path of the volume that a table names by path or by name, with or without its ending; None: not there.

        Raises DatasetError where it names none, more than one, or something outside of the folder.
        """
        if not written:
            raise DatasetError("the row names no volume")
        self.folder.locate(written)
        path = PurePosixPath(written).as_posix()
        if path in self.files:
            return path
        named = self.named.get(stem_of(path), []) if "/" not in path else []
        if len(named) > 1:
            raise DatasetError(f"{written} may be {named[0]} or {named[1]}; keep one of them below the data folder")
        return named[0] if named else None


def read_described(
    rows: Iterable[Described],
    volumes: VolumeFiles,
    settings: VolumeLayout,
    tables: str,
    *,
    official: bool,
    order: Callable[[str], tuple[int, str]] | None = None,
) -> StudyTable:
    """The described studies that can be used, and the other rows as quarantined, with volumes that no row names.

    With `official` the split that the rows bear is kept, and only its training part is divided, by `order` of the
    patients' ids or the seed's; raises DatasetError for a patient, or a study, on both sides of it.
    """
    read = list(_with_volumes(rows, volumes, settings, tables))
    if official:
        check_disjoint(one for one in read if isinstance(one, Study))
    studies, quarantined = gather(read, settings.empty_reports)
    heldout = {one.study_id for one in studies if one.split == "heldout"}
    if official:
        ordered = None if order is None else sorted({one.patient_id for one in studies}, key=order)
        placed = divide_official(studies, heldout, settings.split, settings.seed, settings.limit, ordered)
    else:
        placed = divide(studies, settings.split, settings.seed, settings.limit)
    return StudyTable(placed, quarantined, len(studies))


def _with_volumes(
    rows: Iterable[Described],
    volumes: VolumeFiles,
    settings: VolumeLayout,
    tables: str,
) -> Iterator[Study | Quarantined]:
    named: set[str] = set()
    for row in rows:
        # A row that is unusable, or whose volume is, names it all the same.
        named.add(PurePosixPath(row.volume).as_posix())
        study, quarantine_id = row.study, row.place.replace(", ", "#").replace(" ", "-")
        try:
            if row.problem is not None and not row.volume:
                raise DatasetError(row.problem)
            check_id("study_id", study.study_id)
            quarantine_id = study.study_id
            file = volumes.find(row.volume)
            named |= {file} if file is not None else set()
            if row.problem is not None:
                raise DatasetError(row.problem)
            check_id("patient_id", study.patient_id)
            location = None if file is None else volumes.folder.locate(file)
        except DatasetError as error:
            yield Quarantined(quarantine_id, row.volume[:200], READ_STAGE, f"{row.place}: {error}")
            continue
        if location is not None:
            yield replace(study, volume=location)
        elif settings.missing_volumes == "quarantine":
            reason = f"{row.place}: the volume is not on disk below {volumes.folder}"
            yield Quarantined(quarantine_id, row.volume[:200], READ_STAGE, reason)
    if settings.unlisted_volumes == "quarantine":
        yield from unlisted(sorted(volumes.files), named, tables)
