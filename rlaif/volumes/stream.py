"""The bytes of a volume's file, inflated while they are read and never beyond what the header announces."""

import gzip
import io
import os
import zlib
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib

from rlaif.volumes.volume import VolumeError

Compression = Literal["gzip", "zlib"]
GZIP_MAGIC = b"\x1f\x8b"
# Deflate cannot expand its input further than this.
MAX_EXPANSION = 1032
_DAMAGED = (zlib.error, cast(type[Exception], isal_zlib.error), gzip.BadGzipFile)


class VoxelStream:
    """A file's bytes from `start` on, inflated where `compression` says so; a context manager.

    Every method raises VolumeError for a file that is truncated, or whose compressed data are damaged.
    """

    def __init__(self, path: Path, start: int = 0, compression: Compression | None = None) -> None:
        self._compression = compression
        self._file = path.open("rb")
        self._file.seek(start)
        self._left = os.fstat(self._file.fileno()).st_size - start
        if compression == "gzip":
            self._plain: io.BufferedIOBase | io.RawIOBase = igzip.IGzipFile(fileobj=self._file, mode="rb")
        else:
            self._plain = _ZlibFile(self._file) if compression == "zlib" else self._file

    def __enter__(self) -> "VoxelStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with closing(self._file):
            self._plain.close()

    def check_announced(self, count: int) -> None:
        """Raise VolumeError where `count` bytes cannot be in the file: nothing is allocated for such a claim."""
        most = self._left * (MAX_EXPANSION if self._compression else 1)
        if count > most:
            raise VolumeError(
                f"the header announces {count} bytes where {self._left} are left in the file: "
                "it is truncated, or its header is wrong; copy the file again"
            )

    def fill(self, array: npt.NDArray[np.generic]) -> None:
        """Fill a C-contiguous array with the bytes that come next."""
        view, filled = array.reshape(-1).view(np.uint8).data, 0
        while filled < len(view):
            got = self._read_into(view[filled:])
            if not got:
                raise VolumeError(
                    f"ends {len(view) - filled} bytes before its header says: it is truncated; copy the file again"
                )
            filled += got

    def read(self, count: int) -> bytes:
        """The next `count` bytes, which must be few."""
        block = np.empty(count, np.uint8)
        self.fill(block)
        return block.tobytes()

    def finish(self) -> None:
        """Have the checksum compared: that is done where the end of the compressed data is read."""
        if self._compression:
            self._read_into(memoryview(bytearray(1)))

    def _read_into(self, view: memoryview) -> int:
        try:
            return self._plain.readinto(view) or 0
        except EOFError as error:
            raise VolumeError(f"the {self._compression} stream is truncated; copy the file again") from error
        except _DAMAGED as error:
            raise VolumeError(f"the {self._compression} stream is damaged ({error}); copy the file again") from error


class _ZlibFile(io.RawIOBase):
    """The plain bytes of zlib data, as igzip has them for gzip."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._compressed = file
        self._inflate = isal_zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._inflate.eof:
            compressed = self._inflate.unconsumed_tail or self._compressed.read(2**17)
            plain = self._inflate.decompress(compressed, len(buffer))
            if plain:
                buffer[: len(plain)] = plain
                return len(plain)
            if not compressed and not self._inflate.eof:
                raise EOFError
        return 0
