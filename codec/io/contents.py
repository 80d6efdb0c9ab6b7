"""What an audio file holds up to its end, whatever the lengths in its headers say."""

from __future__ import annotations

from collections.abc import Sequence

from codec.io import flac, mpeg, ogg
from codec.io.beginnings import after_tags, file_begins, has_beginning, next_file
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
    begin = after_tags(data)
    magic = data.at(begin, 4)
    layout = layout_at(data, begin)
    if layout is not None or magic == AU:
        found = au_parts(data, begin) if layout is None else chunked_parts(data, begin, layout)
        parts, end = found
        return [*parts, *_all_parts_from(data, end)] if file_begins(data, end) else parts
    if magic == flac.MAGIC:
        return flac.flac_parts(data, begin)
    if magic == ogg.MAGIC:
        return ogg.ogg_parts(data, begin)
    if begin or mpeg.mpeg_begins(data, begin):
        return mpeg.mpeg_parts(data, begin) or [file]
    return [file]


def later_parts_of(file: Readable, found: Sequence[Readable], *, by_ffmpeg: bool) -> list[Readable]:
    """What follows the parts that `parts_of` has found; the whole file is searched for it.

    Args:
        file: seekable binary file.
        found: the parts.
        by_ffmpeg: whether FFmpeg has read them and not libsndfile.
    """
    data = Searched(file)
    begin = after_tags(data)
    magic = data.at(begin, 4)
    if not by_ffmpeg and (magic == AU or layout_at(data, begin) is not None):
        return []  # their lengths have told what follows
    joined = {flac.MAGIC: flac.later_flac_parts, ogg.MAGIC: ogg.later_ogg_parts}.get(magic)
    other = next_file(data, begin + 1, magic if joined else b"")
    later: list[Readable] = []
    if joined is not None and len(found) == 1:
        later += joined(data if other is None else Searched(data.view(0, other)), begin)
    return later if other is None else [*later, *_all_parts_from(data, other)]


def _all_parts_from(data: Searched, begin: int) -> list[Readable]:
    view = data.view(begin, data.size)
    parts = parts_of(view)
    return [*parts, *later_parts_of(view, parts, by_ffmpeg=False)]


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
