"""Huge pages for weights: a step of one frame, which reads all of them once, takes less time.

A decoder reads 20 MB of weights for 20 ms of audio. In pages of 4 kB that are 5,000 look-ups of an
address, more than the processor remembers; in pages of 2 MB they are ten. Linux gives those to who
asks, as NumPy does for its large arrays, and onnxruntime does not.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Block: TypeAlias = tuple[int, int]
"""First address, and the one after the last."""

MADV_HUGEPAGE = 14  # of Linux, see madvise(2)
LEAST_SIZE = 1 << 22
"""Smaller blocks of memory hold few weights."""


@contextmanager
def huge_pages() -> Iterator[None]:
    """Ask for huge pages for what is allocated meanwhile, if this is Linux.

    The kernel moves the memory to them in the background, which takes up to a minute.
    """
    before = set(_blocks())
    yield
    new = [block for block in _blocks() if block not in before]
    if new:
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for begin, end in new:
            madvise(begin, end - begin, MADV_HUGEPAGE)  # a kernel without them refuses


def _blocks() -> Iterator[Block]:
    """Large blocks of memory of this process that it may write and that are of no file."""
    if sys.platform != "linux":
        return
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, _, _, _, *name = line.split()
        begin, end = (int(each, 16) for each in addresses.split("-"))
        if rights == "rw-p" and name in ([], ["[heap]"]) and end - begin >= LEAST_SIZE:
            yield begin, end
