"""Memory of graphs: requests to Linux that onnxruntime does not make. Elsewhere nothing happens."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

Block: TypeAlias = tuple[int, int]
"""First address, and the one after the last."""

MADV_HUGEPAGE = 14  # see madvise(2)
LEAST_SIZE = 1 << 22
"""Smaller blocks of memory hold few weights."""


def give_back_memory() -> None:
    """Give free memory back to the system: loading a graph takes three times what it keeps."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):  # of the GNU C library
            library.malloc_trim(0)


def ask_for_huge_pages() -> None:
    """Ask for huge pages for what is in memory, so that it can be read in less time.

    A decoder reads 20 MB of weights for 20 ms of sound. In pages of 4 kB that are 5,000 look-ups of
    an address, more than a processor remembers; in pages of 2 MB they are ten. Linux gives those to
    who asks, as NumPy does for its large arrays. It moves the memory in the background within a
    minute or two, and fills gaps, so blocks with large ones, such as stacks, are left alone.
    """
    blocks = list(_blocks())
    if blocks:
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for begin, end in blocks:
            madvise(begin, end - begin, MADV_HUGEPAGE)  # a kernel without them refuses


def _blocks() -> Iterator[Block]:
    """Large blocks of memory of this process that it may write, of no file and mostly in use."""
    if sys.platform != "linux":
        return
    begin = end = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        field, *values = line.split()
        if not field.endswith(":"):  # a new block: addresses, rights, three numbers, a name
            begin, end = (int(each, 16) for each in field.split("-"))
            if values[0] != "rw-p" or values[4:] not in ([], ["[heap]"]):
                begin = end
        elif field == "Rss:":
            size = end - begin
            if size >= LEAST_SIZE and 1024 * int(values[0]) >= size // 2:
                yield begin, end
