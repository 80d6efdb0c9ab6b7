"""Find the frames of MPEG audio (MP3), whatever its headers say and whatever lies between them."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from codec.io.views import FileView, Readable, Searched

# Bitrates in kbit/s by version (MPEG-1 or later ones) and layer.
_BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)
_SYNC = re.compile(rb"\xff[\xe2-\xff][\x10-\xef]")
_SEEMING = 64
"""How many times longer a file seems: bitrates differ less."""
_TAG = 128
"""Bytes of an ID3v1 tag at the end of a file."""
# So many frames in a row are no accident, unless the file ends before.
_IN_A_ROW = 3
# libsndfile may find nothing in fewer frames, if an encoder's delay is to be dropped from them.
_FEW = 4
MAX_JUNK = 1 << 20
"""Bytes before the first frame in which it is looked for."""


class _Header(NamedTuple):
    """What the four bytes before a frame say."""

    length: int  # bytes of the frame, these included
    samples: int
    format: tuple[int, int, int, bool]  # version, layer, rate and mono: the same in a stream
    info: int  # place of the mark of an Xing or Info frame, from the beginning of the frame


@lru_cache(maxsize=4096)
def _header(data: bytes) -> _Header | None:
    """The header of a frame; None if these four bytes are none, or their bitrate is free."""
    if len(data) < 4 or data[0] != 0xFF or data[1] < 0xE0:
        return None
    version, layer = data[1] >> 3 & 3, 4 - (data[1] >> 1 & 3)
    bitrate, rate = data[2] >> 4, data[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    first, mono = version == 3, data[3] >> 6 == 3
    sample_rate = _RATES[rate] >> (0 if first else 1 if version == 2 else 2)
    samples = 384 if layer == 1 else 576 if layer == 3 and not first else 1152
    slot = 4 if layer == 1 else 1
    bits = samples * 1000 * _BITRATES[first, layer][bitrate - 1]
    length = (bits // (8 * slot * sample_rate) + (data[2] >> 1 & 1)) * slot
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Header(length, samples, (version, layer, rate, mono), 4 + side)


@dataclass
class _Stream:
    """Frames of one format, with what is not audio left out."""

    header: _Header  # of the first frame
    has_info: bool  # whether the first frame is an info frame, which is not counted
    runs: list[tuple[int, int]] = field(default_factory=list)  # offset, size: without a gap
    num_frames: int = 0


def mpeg_begins(data: Searched, begin: int) -> bool:
    """Whether a frame of MPEG audio seems to begin right there."""
    return _header(data.at(begin, 4)) is not None


def mpeg_parts(data: Searched, begin: int) -> list[Readable]:
    """The file itself if its first frame tells the truth, or else views of all streams in it."""
    streams = _streams(data, begin)
    if len(streams) == 1 and _is_plain(data, begin, streams[0]):
        return [data.file]
    return [_view(data, stream) for stream in streams]


def hidden_mpeg_parts(data: Searched) -> list[Readable]:
    """As `mpeg_parts`, for a file that begins with something else, but holds little else."""
    begin = next_stream(data, 0, MAX_JUNK)
    if begin is None:
        return []
    streams = _streams(data, begin)
    runs = [run for stream in streams for run in stream.runs]
    # Other containers hold such frames, too, with a few bytes between each few of them.
    num_frames = sum(stream.num_frames for stream in streams)
    if len(runs) > 1 + num_frames / 50 or 2 * sum(size for _, size in runs) < data.size - begin:
        return []
    return [_view(data, stream) for stream in streams]


def is_told(data: Searched, begin: int) -> bool:
    """Whether an info frame tells the number of frames of all that follows."""
    header = _header(data.at(begin, 4))
    if header is None or not _has_info(data, begin, header):
        return False
    flags, told, size = _numbers(data, begin + header.info)
    rest = data.size - begin
    lengths = {size, size + header.length}  # some writers do not count the info frame
    return told >= _FEW and flags & 2 == 2 and bool(lengths & {rest, rest - _TAG})


def _is_plain(data: Searched, begin: int, stream: _Stream) -> bool:
    """Whether libsndfile finds all frames of the file, and knows how many there are."""
    (start, size), *later = stream.runs
    if not stream.has_info or start != begin or later:
        return False
    _, told, _ = _numbers(data, start + stream.header.info)
    end = start + size
    # libmpg123 skips tags in APE's format, and gives up after 1 KiB of anything else.
    ends = data.size - end < 1000 or data.at(end, 8) == b"APETAGEX"
    return ends and told == stream.num_frames >= _FEW


def _has_info(data: Searched, begin: int, header: _Header) -> bool:
    """Whether the frame that begins there tells a number of frames and is no audio."""
    mark = begin + header.info
    return data.at(mark, 4) in (b"Xing", b"Info") and _numbers(data, mark)[0] & 1 == 1


def _numbers(data: Searched, mark: int) -> list[int]:
    """Flags, number of frames and number of bytes in an info frame."""
    content = data.at(mark + 4, 12)
    return [int.from_bytes(content[place : place + 4]) for place in (0, 4, 8)]


def stream_begins(data: Searched, begin: int, least: int = 1) -> bool:
    """Whether several frames of one format begin there, or ``least`` that end with the file."""
    found = None
    for count in range(1, _IN_A_ROW + 1):
        header = _header(data.at(begin, 4))
        if header is None or found not in (None, header.format):
            return False
        found = header.format
        begin += header.length
        if begin >= data.size:
            return begin == data.size and count >= least
    return True


def next_stream(data: Searched, begin: int, end: int | None = None, least: int = 1) -> int | None:
    """Where frames begin next, before ``end``."""
    last = data.size if end is None else end
    places = itertools.takewhile(lambda place: place < last, data.matches(_SYNC, begin, 3))
    return next((place for place in places if stream_begins(data, place, least)), None)


def _streams(data: Searched, begin: int) -> list[_Stream]:
    """All streams in order: one ends where the format changes or the info frame of another is."""
    found: list[_Stream] = []
    while (start := next_stream(data, begin)) is not None:
        first = _header(data.at(start, 4))
        assert first is not None
        has_info = _has_info(data, start, first)
        if not found or has_info or found[-1].header.format != first.format:
            found.append(_Stream(first, has_info))
        begin = _follow(data, start, found[-1])
    return [stream for stream in found if stream.num_frames]


def _follow(data: Searched, start: int, stream: _Stream) -> int:
    """Add the frames from ``start`` to a stream, up to what is none of its frames."""
    position, is_info = start, stream.has_info and not stream.runs
    while (header := _header(data.at(position, 4))) and header.format == stream.header.format:
        if not is_info:
            if position > start and _has_info(data, position, header):
                break
            if position + header.length > data.size:
                position = data.size  # cut short
                break
            stream.num_frames += 1
        is_info = False
        position += header.length
    stream.runs.append((start, min(position, data.size) - start))
    return position


def _view(data: Searched, stream: _Stream) -> FileView:
    """The frames of a stream, with a true length."""
    (begin, size), *later = stream.runs
    if not stream.has_info or stream.num_frames < _FEW:
        info = stream.header.length if stream.has_info else 0
        runs = [(begin + info, size - info), *later]
        return _Frames(data.file, runs, stream.num_frames * stream.header.samples)
    mark = begin + stream.header.info
    flags, told, _ = _numbers(data, mark)
    changes = {mark + 8: stream.num_frames.to_bytes(4)}
    if flags & 2:
        total = sum(size for _, size in stream.runs)
        changes[mark + 12] = min(total, 2**32 - 1).to_bytes(4)
    # Optional fields, then those of LAME's tag: how much to drop at the end has 12 bits.
    place = mark + 12 + sum(size for flag, size in ((2, 4), (4, 100), (8, 4)) if flags & flag) + 22
    if told > stream.num_frames and place + 2 < begin + stream.header.length:
        changes[place] = bytes((data.at(place, 1)[0] & 0xF0, 0))  # that end is not there
    return data.view(begin, begin + size, changes, later)


class _Frames(FileView):
    """Frames without one that tells their number, as a file that seems to be much longer.

    libsndfile guesses the length from the size of the file and that of the first frames, and stops
    there; so it guesses too much, and reads to the end.
    """

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            return super().seek(_SEEMING * self.size + offset)
        return super().seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        # libmpg123 looks for a tag in the last bytes.
        rest = _SEEMING * self.size - self.tell()
        wanted = min(len(buffer), rest)
        if wanted > 0 and rest <= _TAG:
            buffer[:wanted] = bytes(wanted)
            self.seek(wanted, os.SEEK_CUR)
            return wanted
        return super().readinto(buffer)
