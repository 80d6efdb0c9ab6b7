"""Find the streams of an Ogg file that follow each other (RFC 3533, section 4: chaining)."""

from __future__ import annotations

from collections.abc import Iterator

from codec.io.views import Readable, Searched

MAGIC = b"OggS"
_HEAD = 27
_MAX_PAGE = _HEAD + 255 + 255 * 255
_FIRST = 2  # flag of the first page of a stream


def ogg_parts(data: Searched, begin: int) -> list[Readable]:
    """The file itself, or views of all that are joined in it if its last page shows that.

    Files that were joined and have the same number of their stream are told from a single one by
    `later_ogg_parts` only, because that takes reading the whole file.

    Args:
        data: the file.
        begin: where the first Ogg file begins.
    """
    tail = data.at(max(begin, data.size - 2 * _MAX_PAGE), 2 * _MAX_PAGE)
    last = tail.rfind(MAGIC)
    streams = set()
    for place, flags in _pages(data, begin):
        if not flags & _FIRST:
            break
        streams.add(data.at(place + 14, 4))
    if tail[last + 14 : last + 18] in streams:
        return [data.file]
    return _parts(data, begin)


def later_ogg_parts(data: Searched, begin: int) -> list[Readable]:
    """The files that are joined to the one from ``begin``."""
    return _parts(data, begin)[1:]


def _parts(data: Searched, begin: int) -> list[Readable]:
    starts = [begin]
    before = _FIRST
    for place, flags in _pages(data, begin):
        if flags & _FIRST and not before & _FIRST:
            starts.append(place)
        before = flags
    return [data.view(*ends) for ends in zip(starts, [*starts[1:], data.size], strict=True)]


def _pages(data: Searched, begin: int) -> Iterator[tuple[int, int]]:
    """Place and flags of every page."""
    while True:
        head = data.at(begin, _HEAD)
        if not head.startswith(MAGIC):
            begin = data.find(MAGIC, begin)
            if begin < 0:
                return
            head = data.at(begin, _HEAD)
        if len(head) < _HEAD:
            return
        yield begin, head[5]
        begin += _HEAD + head[26] + sum(data.at(begin + _HEAD, head[26]))
