"""Files and folders written so that a kill at any moment leaves the old one or the new one, never a torn one.

What is being written stands beside its target under a name that begins with `.rlaif-`, is made
durable, and is renamed into place. `recover` puts right what a killed process left behind.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

Guard = Callable[[], AbstractContextManager[None]]

_BUILDING = ".rlaif-new-"
_READY = ".rlaif-ready."
_REPLACED = ".rlaif-old-"


class RunError(RuntimeError):
    """Something about a run folder that its user has to know: what, where, and what to do."""


def private_folder(path: Path) -> Path:
    """Make a folder, or take an existing one, that only its owner can read; returns `path`.

    Raises RunError where the folder belongs to somebody else or is a file.
    """
    make_folder(path, mode=0o700)
    if path.stat().st_mode & 0o077:
        try:
            path.chmod(0o700)
        except PermissionError as error:
            raise RunError(
                f"{path} holds report text and must be readable by its owner only, but it belongs to another user "
                "and its permissions cannot be changed; choose a folder of your own"
            ) from error
    return path


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder and the missing ones above it, durably; raises RunError where a file is in the way."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RunError(f"cannot make the folder {path}: a file of that name is in the way; move it") from error
    for folder in reversed(missing):
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(target: Path, guard: Guard = nullcontext) -> Iterator[BinaryIO]:
    """A file to write into, which takes `target`'s place when the block ends without an error.

    The content is durable before the name is; the rename happens inside `guard()`, which may
    raise to refuse it. The file is readable by its owner only.
    """
    make_folder(target.parent)
    temporary = _beside(target, _BUILDING)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with guard():
            os.replace(temporary, target)
            sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: Path, guard: Guard = nullcontext) -> Iterator[Path]:
    """An empty folder to fill, which takes `target`'s place when the block ends without an error.

    An existing target is put aside first. A kill between the two renames is put right by
    `recover`, which goes forward: what was complete takes its place.
    """
    make_folder(target.parent)
    building = _beside(target, _BUILDING)
    building.mkdir(mode=0o700)
    ready = target.with_name(_READY + target.name)
    replaced: list[Path] = []
    try:
        yield building
        _sync_tree(building)
        with guard():
            if ready.exists():
                replaced += _settle(ready)
            os.rename(building, ready)
            sync_folder(target.parent)
            replaced += _settle(ready)
    finally:
        for folder in (building, *replaced):
            shutil.rmtree(folder, ignore_errors=True)


def remove_folder(target: Path, guard: Guard = nullcontext) -> None:
    """Remove a folder such that a kill leaves the whole of it or nothing under its name."""
    with guard():
        replaced = _beside(target, _REPLACED)
        os.rename(target, replaced)
        sync_folder(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def recover(root: Path, nested: str) -> None:
    """Put right what killed processes left under `root`: complete folders go into place, the rest is removed.

    Folders below `root` that hold a file named `nested` are somebody else's and left alone.
    """
    for here, folders, files in os.walk(root):
        if nested in files and Path(here) != root:
            folders.clear()
            continue
        for name in files:
            if name.startswith(_BUILDING):
                (Path(here) / name).unlink(missing_ok=True)
        leftovers = [name for name in folders if name.startswith((_READY, _BUILDING, _REPLACED))]
        for name in sorted(leftovers, reverse=True):
            path = Path(here) / name
            for folder in _settle(path) if name.startswith(_READY) else [path]:
                shutil.rmtree(folder, ignore_errors=True)
        folders[:] = [name for name in folders if name not in leftovers]


def checksum_of(path: Path) -> str:
    """The SHA-256 of a file, or of a folder's files with their names in sorted order, in hexadecimal.

    Raises FileNotFoundError where there is nothing, and ValueError for a folder with a linked
    folder inside, whose content would otherwise go unseen.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files: list[Path] = []
    for here, folders, names in os.walk(path):
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        if links:
            raise ValueError(f"cannot checksum {path}: {Path(here) / links[0]} is a link to a folder; copy it instead")
        files += [Path(here) / name for name in names]
    total = hashlib.sha256()
    for relative, one in sorted((file.relative_to(path).as_posix(), file) for file in files):
        total.update(f"{relative}\0{checksum_of(one)}\n".encode())
    return total.hexdigest()


def _beside(target: Path, prefix: str) -> Path:
    return target.with_name(f"{prefix}{secrets.token_hex(6)}.{target.name}")


def _settle(ready: Path) -> list[Path]:
    """Rename a complete folder to its target; returns what stood there, put aside, for removal."""
    target = ready.with_name(ready.name.removeprefix(_READY))
    replaced = []
    if target.exists():
        replaced.append(_beside(target, _REPLACED))
        os.rename(target, replaced[0])
    os.rename(ready, target)
    sync_folder(target.parent)
    return replaced


def _sync_tree(root: Path) -> None:
    for here, _, files in os.walk(root, topdown=False):
        for name in files:
            descriptor = os.open(Path(here) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(here))
