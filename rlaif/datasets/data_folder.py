"""The folder of a data set, on this machine or in S3-compatible storage: nothing is read from outside of it."""

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pyarrow.fs as arrow_fs

from rlaif.datasets.study_table import DatasetError
from rlaif.storage import below, file_name, filesystem_of, is_remote, with_retries


class DataFolder:
    """A data set's folder; everything in it is named by a plain path relative to it, with `/` between its parts.

    Raises DatasetError where the folder is not there, and in every method for absolute paths, for `..`, and for
    links that lead out of it. Raises StorageUnavailable where remote storage does not answer.
    """

    def __init__(self, location: str | Path) -> None:
        self.location = str(location)
        self.remote = is_remote(self.location)
        # Once: a data set with masks asks for a quarter of a million locations.
        self._resolved = None if self.remote else Path(self.location).resolve()
        if not self.is_folder(""):
            raise DatasetError(f"data folder {self} does not exist; set data.path to the data set's folder")

    def __str__(self) -> str:
        return self.location

    @property
    def name(self) -> str:
        """The folder's own name."""
        return file_name(self.location) if self.remote else Path(self.location).resolve().name

    def locate(self, relative: str) -> str:
        """The full location of something in the folder, whether or not it is there."""
        parts = PurePosixPath(relative).parts
        if relative and (not parts or parts[0] == "/" or ".." in parts or "\x00" in relative or "\\" in relative):
            raise DatasetError(f"path {relative!r} is not a plain path below the data folder")
        location = below(self.location, relative)
        if self._resolved is not None and not Path(location).resolve().is_relative_to(self._resolved):
            raise DatasetError(f"path {relative!r} leads out of the data folder through a link; copy the file into it")
        return location

    def is_file(self, relative: str) -> bool:
        """Whether a file of that name is there."""
        if not self.remote:
            return Path(self.locate(relative)).is_file()
        return self._type(relative) == arrow_fs.FileType.File

    def is_folder(self, relative: str) -> bool:
        """Whether a folder of that name is there."""
        if not self.remote:
            return Path(self.locate(relative)).is_dir()
        return self._type(relative) == arrow_fs.FileType.Directory

    def open(self, relative: str) -> BinaryIO:
        """A file to read bytes from; raises FileNotFoundError."""
        location = self.locate(relative)
        if not self.remote:
            return Path(location).open("rb")
        filesystem, path = filesystem_of(location)
        stream = with_retries(lambda: filesystem.open_input_file(path), location)
        return io.BufferedReader(stream)

    def size(self, relative: str) -> int:
        """The bytes of a file; raises FileNotFoundError."""
        location = self.locate(relative)
        if not self.remote:
            return Path(location).stat().st_size
        filesystem, path = filesystem_of(location)
        (info,) = with_retries(lambda: filesystem.get_file_info([path]), location)
        if info.type != arrow_fs.FileType.File:
            raise FileNotFoundError(errno.ENOENT, "does not exist", location)
        return int(info.size)

    def files_below(self, relative: str = "") -> list[str]:
        """The files of a folder and of all below it, relative to the data folder, sorted; none where it is absent.

        Links to folders are not followed. One listing, so that 50,000 volumes need no 50,000 questions.
        """
        location = self.locate(relative)
        if self.remote:
            if not self.is_folder(relative):
                return []
            filesystem, root = filesystem_of(self.location)
            selector = arrow_fs.FileSelector(filesystem_of(location)[1], recursive=True)
            infos = with_retries(lambda: filesystem.get_file_info(selector), location)
            return sorted(
                one.path.removeprefix(root).lstrip("/") for one in infos if one.type == arrow_fs.FileType.File
            )
        return sorted(self._walk(Path(location)))

    def _walk(self, folder: Path) -> Iterator[str]:
        root = Path(self.location)
        for here, _, names in os.walk(folder, followlinks=False):
            relative = Path(here).relative_to(root)
            yield from ((relative / name).as_posix() for name in names)

    def _type(self, relative: str) -> arrow_fs.FileType:
        location = self.locate(relative)
        filesystem, path = filesystem_of(location)
        (info,) = with_retries(lambda: filesystem.get_file_info([path]), location)
        return info.type
