"""What an audio file holds up to its end, whatever the lengths in its headers say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from codec.io import flac, mpeg, ogg
from codec.io.beginnings import after_tags, file_begins, has_beginning, next_file
from codec.io.chunks import AU, au_parts, chunked_parts, layout_at
from codec.io.views import Readable, Searched

MAX_CHANGES = 8
"""Changes between kinds of files in one that is joined of many."""


def parts_of(file: Readable, changes: int = 0) -> list[Readable]:
    """What to read one after the other to get all audio of a file.

    That is the file itself where libsndfile would read it to its end; otherwise views of it, with
    true lengths and without what is not audio, one for each of the files that it is joined of.
    ``changes`` counts files of other kinds before it that it is joined to.
    """
    data = Searched(file)
    begin = after_tags(data)
    magic = data.at(begin, 4)
    layout = layout_at(data, begin)
    if layout is not None or magic == AU:
        parts, end = chunked_parts(data, begin, layout) if layout else au_parts(data, begin)
        return [*parts, *_rest(data, end, changes)] if file_begins(data, end) else parts
    if magic == flac.MAGIC:
        return flac.flac_parts(data, begin)
    if magic == ogg.MAGIC:
        return ogg.ogg_parts(data, begin)
    if not (begin or mpeg.mpeg_begins(data, begin)) or mpeg.is_told(data, begin):
        return [file]
    other = next_file(data, begin + 1, data.size, lambda _: True)
    if other is None:
        return mpeg.mpeg_parts(data, begin) or [file]
    own = Searched(data.view(0, other))
    return [*mpeg.mpeg_parts(own, begin), *_rest(data, other, changes)]


def later_parts_of(
    file: Readable, found: Sequence[Readable], end: int | None = None, changes: int = 0
) -> list[Readable]:
    """What follows the parts that `parts_of` has found; the whole file is searched for it.

    If FFmpeg has read it, ``end`` is where its audio ends.
    """
    data = Searched(file)
    begin = after_tags(data)
    magic = data.at(begin, 4)
    later: list[Readable] = []
    joined: Callable[[Searched, int], Iterable[Readable]] | None = None

    def is_other(head: bytes) -> bool:
        return head[:4] != magic

    if magic == flac.MAGIC:
        start = flac.audio_begin(data, begin)
        other = next_file(data, start, data.size, is_other, find_mpeg=True)
        joined = flac.joined_parts
    elif magic == ogg.MAGIC:
        gaps = (next_file(data, *gap, is_other, find_mpeg=True) for gap in ogg.gaps(data, begin))
        other = next((place for place in gaps if place is not None), None)
        joined = ogg.joined_parts
    elif end is not None:  # tables at the end of one may hold the beginning of another kind
        kind = _kind(data.at(begin, 8))
        other = next_file(data, end, data.size, lambda head: _kind(head) == kind)
    elif magic == AU or layout_at(data, begin) is not None or mpeg.mpeg_begins(data, begin):
        return later  # `parts_of` has searched for it
    else:
        other = next_file(data, begin + 1, data.size, lambda _: True)
    if joined is not None and len(found) == 1:
        own = data if other is None else Searched(data.view(0, other))
        later += [*joined(own, begin)][1:]
    return later if other is None else [*later, *_rest(data, other, changes)]


def _kind(head: bytes) -> bytes:
    return head[4:] if head[4:] == b"ftyp" else head[:4]


def _rest(data: Searched, begin: int, changes: int) -> list[Readable]:
    """All parts from a file of another kind on; one that cannot be read if there are too many."""
    if changes == MAX_CHANGES:
        return [data.view(0, 0)]
    view = data.view(begin, data.size)
    parts = parts_of(view, changes + 1)
    return [*parts, *later_parts_of(view, parts, changes=changes + 1)]


def unread_bytes(file: Readable) -> int:
    """Bytes of audio that cannot be read: what is cut short or damaged, where a format tells."""
    data = Searched(file)
    begin = after_tags(data)
    return ogg.unread_bytes(data, begin) if data.at(begin, 4) == ogg.MAGIC else 0


def hidden_parts_of(file: Readable) -> list[Readable]:
    """As `parts_of`, for a file that libsndfile does not recognise: MP3 that begins with junk."""
    data = Searched(file)
    begin = after_tags(data)
    is_other = has_beginning(data, begin) and layout_at(data, begin) is None
    return [] if is_other else mpeg.hidden_mpeg_parts(data)


def without_tags(file: Readable) -> Readable | None:
    """A view of what follows the ID3v2 tags at the beginning of a file; None if it has none."""
    data = Searched(file)
    begin = after_tags(data)
    return data.view(begin, data.size) if 0 < begin < data.size else None
