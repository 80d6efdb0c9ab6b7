"""A file that libsndfile writes to, whose errors are kept: libsndfile does not report them all."""

from __future__ import annotations

import os
from typing import Any

BLOCK = 1 << 24


class CheckedFile:
    """A file object on an open descriptor, with what `soundfile.SoundFile` needs to write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.base = 0  # place in the file that is the beginning for those who write
        self.error: OSError | None = None  # after it, nothing is written

    def write(self, data: bytes) -> int:
        """Write as much as possible, and return the number of bytes."""
        view = memoryview(data)
        try:
            while view and self.error is None:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self.error = error
        return len(data) - len(view)

    def readinto(self, buffer: Any) -> int:
        data = os.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        offset += self.base if whence == os.SEEK_SET else 0
        return os.lseek(self._descriptor, offset, whence) - self.base

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)

    def move(self, begin: int, distance: int) -> None:
        """Move everything from ``begin`` to the end of the file towards the end.

        Raises:
            OSError: the file cannot be read.
        """
        source = os.open(f"/dev/fd/{self._descriptor}", os.O_RDONLY)
        try:
            end = os.fstat(source).st_size
            while end > begin:
                size = min(BLOCK, end - begin)
                end -= size
                os.lseek(source, end, os.SEEK_SET)
                data = os.read(source, size)
                self.seek(end + distance - self.base)
                self.write(data)
        finally:
            os.close(source)
