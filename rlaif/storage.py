"""Where data lie: a path of this machine, or an `s3://bucket/key` address of S3-compatible storage, through pyarrow.

An address may end in options: `s3://bucket/prefix?endpoint_override=127.0.0.1:9000&scheme=http&region=eu-west-1`.
Credentials come from the environment or the AWS configuration of the machine that reads, never from the address.
"""

import errno
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import parse_qsl

import pyarrow.fs as arrow_fs

Result = TypeVar("Result")

S3 = "s3://"
_OPTIONS = ("endpoint_override", "scheme", "region", "anonymous")
_CONNECT_TIMEOUT_S, _REQUEST_TIMEOUT_S = 10.0, 60.0
_RETRY_AFTER_S = (0.5, 2.0, 8.0)
# What network file systems answer while a server is away, and what a machine answers that has run out of something:
# they say nothing of the file itself.
_AWAY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EHOSTDOWN, errno.ECONNRESET}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT}
MAX_COPY_BYTES = 16 * 2**30


class StorageUnavailable(RuntimeError):
    """Storage that does not answer, after retries: the message says which, and what to check."""


class StorageAddressError(ValueError):
    """An address that cannot be used: the message says why, and how it should look."""


def is_remote(location: str) -> bool:
    """Whether a location is an address of S3-compatible storage."""
    return location.startswith(S3)


def below(location: str, relative: str) -> str:
    """The location of something below a folder; the options of an address stay at its end."""
    if not is_remote(location):
        return str(Path(location) / relative)
    address, mark, options = location.partition("?")
    return f"{address.rstrip('/')}/{relative}{mark}{options}" if relative else location


def file_name(location: str) -> str:
    """The last part of a location's path."""
    return PurePosixPath(location.partition("?")[0] if is_remote(location) else location).name


def parent_of(location: str) -> str:
    """The location of the folder that a location lies in."""
    if not is_remote(location):
        return str(Path(location).parent)
    address, mark, options = location.partition("?")
    return f"{address.rpartition('/')[0]}{mark}{options}"


def filesystem_of(location: str) -> tuple[arrow_fs.FileSystem, str]:
    """The file system of an `s3://` address and the path there, `bucket/key`; raises StorageAddressError."""
    address, _, options = location.removeprefix(S3).partition("?")
    if not is_remote(location) or not address.partition("/")[0]:
        raise StorageAddressError(f"{location!r} is no address of the form s3://bucket/prefix")
    if "@" in address.partition("/")[0]:
        raise StorageAddressError("an s3:// address bears no credentials: give them in the environment of the readers")
    if ".." in PurePosixPath(address).parts:
        raise StorageAddressError(f"{location!r} holds '..': give the address itself")
    return _s3(options), address.rstrip("/")


@cache
def _s3(options: str) -> arrow_fs.S3FileSystem:
    given = dict(parse_qsl(options, keep_blank_values=True))
    unknown = sorted(given.keys() - set(_OPTIONS))
    if unknown:
        raise StorageAddressError(
            f"an s3:// address takes the options {', '.join(_OPTIONS)}, not {', '.join(unknown)}; credentials come "
            "from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or the AWS configuration"
        )
    return arrow_fs.S3FileSystem(
        endpoint_override=given.get("endpoint_override"),
        scheme=given.get("scheme", "https"),
        region=given.get("region"),
        anonymous=given.get("anonymous", "").lower() in ("1", "true", "yes"),
        connect_timeout=_CONNECT_TIMEOUT_S,
        request_timeout=_REQUEST_TIMEOUT_S,
        retry_strategy=arrow_fs.AwsStandardS3RetryStrategy(max_attempts=3),
    )


def with_retries(action: Callable[[], Result], location: str) -> Result:
    """What `action` gives, tried again with growing pauses while the storage is away.

    Raises StorageUnavailable when it stays away, or at once where this machine has run out of disk, memory or open
    files; and every error that says something of the file itself as it is.
    """
    for pause_s in (*_RETRY_AFTER_S, None):
        try:
            return action()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                raise StorageUnavailable(
                    f"{location} could not be read, because this machine has run out of something ({_reason(error)}): "
                    "free it, then start again; what is done stays done"
                ) from error
            if not _away(error, is_remote(location)):
                raise
            if pause_s is None:
                raise StorageUnavailable(
                    f"{location} could not be read after {len(_RETRY_AFTER_S) + 1} attempts ({_reason(error)}): "
                    "check the storage, its address and the credentials, then start again; what is done stays done"
                ) from error
            time.sleep(pause_s)
    raise AssertionError("the last attempt returns or raises")


def is_infrastructure(error: OSError) -> bool:
    """Whether an error of a local file says something of the storage or the machine, and nothing of the file."""
    return error.errno in _AWAY | _EXHAUSTED


def _away(error: OSError, remote: bool) -> bool:
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return False
    # The client gives network and server faults no number.
    return error.errno in _AWAY or (remote and not isinstance(error, PermissionError))


def _reason(error: OSError) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def local_copy(location: str) -> Iterator[Path]:
    """A local path with the content of a file or folder: itself where it is local, else a copy that ends with the
    context.

    Raises FileNotFoundError where nothing is there, StorageUnavailable, and OSError for more than 16 GiB.
    """
    if not is_remote(location):
        yield Path(location)
        return
    with tempfile.TemporaryDirectory(prefix="rlaif-ct-") as folder:
        target = Path(folder, file_name(location))
        for source, relative, _, _ in with_retries(lambda: _files(location), location):
            file = target / relative if relative else target
            file.parent.mkdir(parents=True, exist_ok=True)
            with_retries(lambda source=source, file=file: _download(location, source, file), location)  # type: ignore[misc]
        yield target


def _download(location: str, source: str, target: Path) -> None:
    filesystem, _ = filesystem_of(location)
    with filesystem.open_input_stream(source, compression=None) as stream, target.open("wb") as file:
        shutil.copyfileobj(stream, file, 2**22)


def file_states(location: str) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change (ns) of a file, or of every file of a folder: what its identity is taken of.

    Raises FileNotFoundError where nothing is there, and StorageUnavailable.
    """
    if is_remote(location):
        found = with_retries(lambda: _files(location), location)
        return [(f"{S3}{source}", size, changed) for source, _, size, changed in found]

    def states() -> list[tuple[str, int, int]]:
        path = Path(location)
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        return [(str(file), (status := file.stat()).st_size, status.st_mtime_ns) for file in files]

    return with_retries(states, location)


def _files(location: str) -> list[tuple[str, str, int, int]]:
    """Each file as (path in the storage, path relative to the location, bytes, time of change in ns), sorted."""
    filesystem, path = filesystem_of(location)
    (info,) = filesystem.get_file_info([path])
    if info.type == arrow_fs.FileType.NotFound:
        raise FileNotFoundError(errno.ENOENT, "does not exist", location)
    infos = [info]
    if info.type == arrow_fs.FileType.Directory:
        infos = [
            one
            for one in filesystem.get_file_info(arrow_fs.FileSelector(path, recursive=True))
            if one.type == arrow_fs.FileType.File
        ]
    # Keys are free text: one that climbs would be written outside of the copy's folder.
    climbing = [one.path for one in infos if ".." in PurePosixPath(one.path).parts]
    if climbing:
        raise PermissionError(errno.EPERM, "holds a key that climbs out of it with '..'", climbing[0])
    total = sum(one.size for one in infos)
    if total > MAX_COPY_BYTES:
        raise IsADirectoryError(errno.EFBIG, f"holds {total} bytes, more than one study has", location)
    return [
        (one.path, one.path.removeprefix(path).lstrip("/"), one.size, one.mtime_ns or 0)
        for one in sorted(infos, key=lambda one: one.path)
    ]
