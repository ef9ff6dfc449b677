"""Region masks from a segmenter's output: label maps, and folders with one mask for each structure."""

import re
from collections.abc import Mapping

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.reports_csv import read_rows
from rlaif.datasets.reports_json import read_json
from rlaif.datasets.settings import FolderSettings
from rlaif.datasets.study_table import VOLUME_ENDINGS, DatasetError, is_volume, stem_of
from rlaif.volumes.region_labels import TOTALSEGMENTATOR, Key, Segmenter, UnknownStructures, by_region

MAX_LABEL = 2**15 - 1
_ENDINGS = ", ".join(VOLUME_ENDINGS)
_NUMBER = re.compile(r"\d{1,5}")


class Segmentations:
    """The segmentations of a folder's studies, as its settings describe them.

    Raises DatasetError for label names that cannot be read, or whose region is not known.
    """

    def __init__(self, folder: DataFolder, segmenter: Segmenter, settings: FolderSettings) -> None:
        self._folder, self._segmenter, self._settings = folder, segmenter, settings
        labels: dict[int, str] = {}
        if settings.label_names is not None:
            labels = _label_names(folder, settings.label_names)
        elif segmenter == "totalsegmentator":
            labels = dict(enumerate(TOTALSEGMENTATOR, start=1))
        self._labels = self._by_region(labels, settings.label_names or segmenter)

    def regions(self, written: str) -> dict[str, tuple[str, ...]] | None:
        """The masks of each region of the study whose row names this segmentation, as the study's record has them.

        None where the row names none, and where what it names is absent and may be (`missing_volumes=skip`). Raises
        DatasetError where that may not be, where there are no masks, or where what they show is not known.
        """
        if not written:
            return None
        if self._folder.is_folder(written):
            files = {file: stem_of(file) for file in self._folder.files_below(written) if is_volume(file)}
            if not files:
                raise DatasetError(f"the segmentation folder {written} holds no masks ({_ENDINGS})")
            masks = self._by_region(files, written)
            return {region: tuple(map(self._folder.locate, found)) for region, found in masks.items()}
        if not self._folder.is_file(written):
            if self._settings.missing_volumes == "skip":
                return None
            raise DatasetError(f"the segmentation {written} does not exist below the data folder")
        if not is_volume(written):
            raise DatasetError(f"the segmentation {written} is no label map ({_ENDINGS})")
        if not self._labels:
            raise DatasetError(
                f"what the numbers of the label map {written} mean is not known: name a file in data.label_names"
            )
        location = self._folder.locate(written)
        return {region: (f"{location}#{','.join(map(str, found))}",) for region, found in self._labels.items()}

    def _by_region(self, structures: Mapping[Key, str], place: str) -> dict[str, tuple[Key, ...]]:
        try:
            return by_region(structures, self._segmenter, self._settings.structures)
        except UnknownStructures as error:
            reason = f"segmentation {place}: {error}; give each a region, or null, in data.structures"
            raise DatasetError(reason) from error


def _label_names(folder: DataFolder, file: str) -> dict[int, str]:
    """The name of each label number, from a CSV or JSON file of the folder; number 0, the background, is left out."""
    if file.lower().endswith(".json"):
        entries = [(str(number), name) for number, name in read_json(folder, file).items()]
    else:
        entries = [(row["number"].strip(), row["name"]) for _, row in read_rows(folder, file, ("number", "name"))]
    names: dict[int, str] = {}
    for number, name in entries:
        if not isinstance(name, str) or not name.strip() or not _NUMBER.fullmatch(number) or int(number) > MAX_LABEL:
            raise DatasetError(
                f"{file}: {number[:20]!r} with the name {str(name)[:40]!r} is no label number from 1 to {MAX_LABEL} "
                "with the name of a structure"
            )
        if int(number) in names:
            raise DatasetError(f"{file}: label {int(number)} has two names")
        names[int(number)] = name
    names.pop(0, None)
    if not names:
        raise DatasetError(f"{file} names no labels")
    return names
