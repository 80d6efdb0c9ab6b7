"""What an audio file holds up to its end, whatever the lengths in its headers say."""

from __future__ import annotations

from codec.io import flac, mpeg, ogg
from codec.io.chunks import AU, au_parts, chunked_parts, layout_at
from codec.io.views import Readable, Searched


def parts_of(file: Readable) -> list[Readable]:
    """What to read one after the other to get all audio of a file.

    Args:
        file: seekable binary file.

    Returns:
        The file itself where libsndfile would read it to its end; otherwise views of it, with true
        lengths and without what is not audio, one for each of the files that it is joined of.
    """
    data = Searched(file)
    begin = _after_tags(data)
    if layout := layout_at(data, begin):
        return chunked_parts(data, begin, layout)
    magic = data.at(begin, 4)
    if magic == AU:
        return au_parts(data, begin)
    if magic == flac.MAGIC:
        return flac.flac_parts(data, begin)
    if magic == ogg.MAGIC:
        return ogg.ogg_parts(data, begin)
    if begin or mpeg.mpeg_begins(data, begin):
        return mpeg.mpeg_parts(data, begin) or [file]
    return [file]


def later_parts_of(file: Readable) -> list[Readable]:
    """What follows a file that `parts_of` holds for a single one; it is searched to its end."""
    data = Searched(file)
    begin = _after_tags(data)
    magic = data.at(begin, 4)
    if magic == flac.MAGIC:
        return flac.later_flac_parts(data, begin)
    return ogg.later_ogg_parts(data, begin) if magic == ogg.MAGIC else []


def hidden_parts_of(file: Readable) -> list[Readable]:
    """As `parts_of`, for a file that libsndfile does not recognise: MP3 that begins with junk."""
    return mpeg.hidden_mpeg_parts(Searched(file))


def without_tags(file: Readable) -> Readable | None:
    """A view of what follows the ID3v2 tags at the beginning of a file; None if it has none."""
    data = Searched(file)
    begin = _after_tags(data)
    return data.view(begin, data.size) if 0 < begin < data.size else None


def _after_tags(data: Searched) -> int:
    """Where the ID3v2 tags at the beginning of a file end."""
    begin = 0
    while data.at(begin, 3) == b"ID3":
        head = data.at(begin, 10).ljust(10, b"\0")
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte & 0x7F
        begin += 10 + size + (10 if head[5] & 0x10 else 0)
    return begin
