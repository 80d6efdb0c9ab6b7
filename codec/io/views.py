"""Parts of open files as files of their own, to repair headers and to skip what is not audio."""

from __future__ import annotations

import io
import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, BinaryIO, TypeAlias

BLOCK = 1 << 18
"""Bytes that are read at once where a file is searched."""


class FileView(io.RawIOBase):
    """Ranges of an open file, and bytes put between them, as one read-only file object.

    Args:
        file: seekable binary file.
        pieces: what follows each other: ``(offset, size)`` in the file, or bytes themselves.
        num_samples: samples per channel, if libsndfile would not find the right number.

    Example:
        >>> FileView(io.BytesIO(b"0123456789"), [(3, 3), b"...", (8, 1)]).read()
        b'345...8'
    """

    def __init__(
        self,
        file: Readable,
        pieces: Sequence[tuple[int, int] | bytes],
        num_samples: int | None = None,
    ) -> None:
        self.num_samples = num_samples
        self._file, self._pieces = file, pieces
        sizes = [len(piece) if isinstance(piece, bytes) else piece[1] for piece in pieces]
        self._starts = [0, *accumulate(sizes)]
        self.size = self._starts[-1]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, with less only at the end: libsndfile takes less for the end."""
        num_read = 0
        while num_read < len(buffer) and (data := self._next(len(buffer) - num_read)):
            buffer[num_read : num_read + len(data)] = data
            num_read += len(data)
            self._position += len(data)
        return num_read

    def _next(self, most: int) -> bytes:
        """What comes next, within one piece; nothing at the end."""
        if self._position >= self.size:
            return b""
        index = bisect_right(self._starts, self._position) - 1
        inner = self._position - self._starts[index]
        most = min(most, self._starts[index + 1] - self._position)
        piece = self._pieces[index]
        if isinstance(piece, bytes):
            return piece[inner : inner + most]
        self._file.seek(piece[0] + inner)
        return self._file.read(most) or b""


Readable: TypeAlias = BinaryIO | FileView
"""A seekable binary file, opened for reading."""


class Searched:
    """Random access to the bytes of a seekable file, for those who look for something in it.

    Example:
        >>> Searched(io.BytesIO(b"0123456789")).at(8, 4)
        b'89'
    """

    def __init__(self, file: Readable) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)  # in bytes
        self._begin, self._block = 0, b""

    def at(self, offset: int, size: int) -> bytes:
        """Bytes from ``offset``: ``size`` of them, fewer at the end of the file."""
        if offset >= self.size:
            return b""
        inner = offset - self._begin
        if inner < 0 or inner + size > len(self._block):
            self.file.seek(offset)
            self._begin, inner = offset, 0
            self._block = self.file.read(max(size, BLOCK)) or b""
        return self._block[inner : inner + size]

    def find(self, wanted: bytes, begin: int) -> int:
        """Place of the first occurrence from ``begin``, or -1."""
        return next(self.matches(re.compile(re.escape(wanted)), begin, len(wanted)), -1)

    def matches(self, pattern: re.Pattern[bytes], begin: int, longest: int) -> Iterator[int]:
        """Places from ``begin`` at which a pattern matches that is not longer than ``longest``."""
        while begin < self.size:
            for match in pattern.finditer(self.at(begin, BLOCK + longest)):
                if match.start() < BLOCK:
                    yield begin + match.start()
            begin += BLOCK

    def view(
        self,
        begin: int,
        end: int,
        changes: Mapping[int, bytes] | None = None,
        then: Sequence[tuple[int, int]] = (),
    ) -> FileView:
        """The file from ``begin`` to ``end``, with other bytes at some places, ``then`` ranges."""
        pieces: list[tuple[int, int] | bytes] = []
        for offset, data in sorted((changes or {}).items()):
            pieces += [(begin, offset - begin), data]
            begin = offset + len(data)
        return FileView(self.file, [*pieces, (begin, max(0, end - begin)), *then])
