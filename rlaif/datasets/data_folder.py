"""The folder of a data set, on this machine or in S3-compatible storage: nothing is read from outside of it."""

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn

import pyarrow.fs as arrow_fs

from rlaif.datasets.study_table import DatasetError
from rlaif.storage import below, file_name, filesystem_of, is_remote, with_retries

# What file systems and S3-compatible storage take.
_NAME_BYTES, _PATH_BYTES, _KEY_BYTES = 255, 4095, 1024


class DataFolder:
    """A data set's folder; everything in it is named by a plain path relative to it, with `/` between its parts.

    Raises DatasetError where the folder is not there, and in every method for absolute paths, for `..`, for names that
    no file can bear, for links that lead out of it, and for what may not be read. Raises StorageUnavailable where
    storage does not answer.
    """

    def __init__(self, location: str | Path) -> None:
        self.location = str(location)
        self.remote = is_remote(self.location)
        if self.location.encode("utf-8", "replace").decode() != self.location:
            raise DatasetError(f"data folder {self.location!r}: its name is no UTF-8 text; rename the folder")
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
        path = PurePosixPath(relative)
        if relative and (not path.parts or path.is_absolute() or ".." in path.parts or "\x00" in relative):
            raise DatasetError(f"path {relative!r} is not a plain path below the data folder")
        if "\\" in relative:
            raise DatasetError(
                f"path {relative!r} is not a plain path below the data folder: rename what holds a backslash, or a "
                "byte that is no UTF-8 text"
            )
        # One spelling for one file: what is named twice is then seen.
        location = below(self.location, path.as_posix() if relative else "")
        longest = max((len(part.encode()) for part in path.parts), default=0)
        if longest > _NAME_BYTES or len(location.encode()) > (_KEY_BYTES if self.remote else _PATH_BYTES):
            raise DatasetError(f"path {relative[:80]!r}... is longer than a file's name can be; name the file itself")
        # os.path's, which takes links that lead to themselves.
        if self._resolved is not None and not Path(os.path.realpath(location)).is_relative_to(self._resolved):
            raise DatasetError(f"path {relative!r} leads out of the data folder through a link; copy the file into it")
        return location

    def is_file(self, relative: str) -> bool:
        """Whether a file of that name is there."""
        return self._type(relative) == arrow_fs.FileType.File

    def is_folder(self, relative: str) -> bool:
        """Whether a folder of that name is there."""
        return self._type(relative) == arrow_fs.FileType.Directory

    def open(self, relative: str) -> BinaryIO:
        """A file to read bytes from; raises FileNotFoundError, also for links to nothing and for pipes."""
        location = self.locate(relative)
        if not self.remote:
            self._check_file(relative)
            try:
                return Path(location).open("rb")
            except PermissionError as error:
                raise _unreadable(relative, error) from error
        filesystem, path = filesystem_of(location)
        stream = with_retries(lambda: filesystem.open_input_file(path), location)
        return io.BufferedReader(stream)

    def size(self, relative: str) -> int:
        """The bytes of a file; raises FileNotFoundError."""
        location = self.locate(relative)
        if not self.remote:
            self._check_file(relative)
            return Path(location).stat().st_size
        filesystem, path = filesystem_of(location)
        (info,) = with_retries(lambda: filesystem.get_file_info([path]), location)
        if info.type != arrow_fs.FileType.File:
            raise FileNotFoundError(errno.ENOENT, "does not exist", location)
        return int(info.size)

    def files_below(self, relative: str = "") -> list[str]:
        """The files of a folder and of all below it, relative to the data folder, sorted; none where it is absent.

        Links to folders are not followed, and `.git` is passed over. Names that are no UTF-8 text get their odd bytes
        as `\\xff`, which every other method refuses. One listing, so that 50,000 volumes need no 50,000 questions.
        """
        if not self.is_folder(relative):
            return []
        location = self.locate(relative)
        if self.remote:
            filesystem, root = filesystem_of(self.location)
            selector = arrow_fs.FileSelector(filesystem_of(location)[1], recursive=True)
            infos = with_retries(lambda: filesystem.get_file_info(selector), location)
            return sorted(
                one.path.removeprefix(root).lstrip("/") for one in infos if one.type == arrow_fs.FileType.File
            )
        try:
            return with_retries(lambda: sorted(self._walk(Path(location))), location)
        except OSError as error:
            raise _unreadable(str(error.filename), error) from error

    def _walk(self, folder: Path) -> Iterator[str]:
        root = Path(self.location)
        for here, folders, names in os.walk(folder, followlinks=False, onerror=_stop):
            # git-annex keeps a second listing of every file there.
            folders[:] = [name for name in folders if name != ".git"]
            relative = Path(here).relative_to(root)
            for name in names:
                yield os.fsencode((relative / name).as_posix()).decode("utf-8", "backslashreplace")

    def _check_file(self, relative: str) -> None:
        if not self.is_file(relative):
            raise FileNotFoundError(errno.ENOENT, "is no file that is there", self.locate(relative))

    def _type(self, relative: str) -> arrow_fs.FileType:
        location = self.locate(relative)
        if not self.remote:
            return _local_type(Path(location), relative)
        filesystem, path = filesystem_of(location)
        (info,) = with_retries(lambda: filesystem.get_file_info([path]), location)
        return info.type


def _local_type(path: Path, relative: str) -> arrow_fs.FileType:
    """As pyarrow's, which takes a pipe for a file."""
    try:
        if path.is_dir():
            return arrow_fs.FileType.Directory
        return arrow_fs.FileType.File if path.is_file() else arrow_fs.FileType.NotFound
    except PermissionError as error:
        raise _unreadable(relative, error) from error


def _stop(error: OSError) -> NoReturn:
    """What `os.walk` would pass over: a folder that cannot be listed."""
    raise error


def _unreadable(place: str, error: OSError) -> DatasetError:
    return DatasetError(
        f"{place[:200]!r} cannot be read ({error.strerror}): make it readable, or take it out of the data folder"
    )
