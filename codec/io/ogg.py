"""Find the streams of an Ogg file that follow each other (RFC 3533, section 4: chaining)."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from codec.io.views import Readable, Searched

MAGIC = b"OggS"
_HEAD = 27
_MAX_PAGE = _HEAD + 255 + 255 * 255
_FIRST = 2  # flag of the first page of a stream


def ogg_parts(data: Searched, begin: int) -> list[Readable]:
    """The file itself, or views of all that are joined in it if its last page shows that.

    Files that were joined and have the same number of their stream are told from a single one by
    `joined_parts` only, because that takes reading the whole file.
    """
    tail = data.at(max(begin, data.size - 2 * _MAX_PAGE), 2 * _MAX_PAGE)
    last = tail.rfind(MAGIC)
    first = itertools.takewhile(lambda page: page.is_first, _pages(data, begin))
    streams = {data.at(page.place + 14, 4) for page in first}
    if tail[last + 14 : last + 18] in streams:
        return [data.file]
    return joined_parts(data, begin)


def unread_bytes(data: Searched, begin: int) -> int:
    """Bytes of pages that are cut short or have a wrong checksum: none of their audio is read."""
    pages = list(_pages(data, begin))
    ends = [*(page.place for page in pages[1:]), data.size]
    return sum(
        min(end - page.place, page.size) for page, end in zip(pages, ends) if not page.is_whole
    )


def gaps(data: Searched, begin: int) -> Iterator[tuple[int, int]]:
    """Begin and end of all that lies between pages and after them."""
    for page in _pages(data, begin):
        if page.is_whole:
            if begin < page.place:
                yield begin, page.place
            begin = page.place + page.size
    if begin < data.size:
        yield begin, data.size


def _checksum(page: bytes) -> int:
    """Of a page, most significant bit first; zlib has the same polynomial the other way round."""
    bits = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    return int(f"{zlib.crc32(bits, 2**32 - 1) ^ 2**32 - 1:032b}"[::-1], 2)


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def joined_parts(data: Searched, begin: int) -> list[Readable]:
    """The file from ``begin``, and those that are joined to it."""
    pairs = itertools.pairwise(_pages(data, begin))
    later = (page.place for before, page in pairs if page.is_first and not before.is_first)
    starts = [begin, *later]
    return [data.view(*ends) for ends in zip(starts, [*starts[1:], data.size], strict=True)]


class _Page(NamedTuple):
    place: int
    size: int
    is_first: bool  # whether it begins a stream
    is_whole: bool  # whether it is there to its end and undamaged


def _pages(data: Searched, begin: int) -> Iterator[_Page]:
    while (begin := data.find(MAGIC, begin)) >= 0 and len(data.at(begin, _HEAD)) == _HEAD:
        segments = data.at(begin, _HEAD)[26]
        size = _HEAD + segments + sum(data.at(begin + _HEAD, segments))
        page = data.at(begin, size)
        is_whole = len(page) == size and _checksum(page) == int.from_bytes(page[22:26], "little")
        yield _Page(begin, size, bool(page[5] & _FIRST), is_whole)
        begin += size if is_whole else len(MAGIC)
