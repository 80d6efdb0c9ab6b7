"""How long FLAC files are, whatever their headers say, and where further ones are joined to them.

Encoders that write to a pipe cannot tell the length in the header; the last frame does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from codec.io.views import Readable, Searched

MAGIC = b"fLaC"
# A file begins with its magic and the head of a block of 34 bytes, which may be the last one.
_STARTS = (MAGIC + b"\0\0\0\x22", MAGIC + b"\x80\0\0\x22")
_STREAMINFO = 8
# No frame of what is in use is longer: 8 channels of 65,535 samples in 24 bits take 1.6 MB.
_MAX_FRAME = 1 << 21
_TAIL = 1 << 16
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
# By their codes; other rates are not coded in one number.
_RATES = (88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
_BLOCK_SIZES = (0, 192, 576, 1152, 2304, 4608, 0, 0, *(256 << n for n in range(8)))


def flac_parts(data: Searched, begin: int) -> list[Readable]:
    """The file itself if its header tells its length, or views of all that are joined in it.

    Files of equal length that were joined are told from a single one by `joined_parts` only,
    because that takes reading the whole file. Nothing is returned if the sampling rate changes
    within a file, which libsndfile would not notice.
    """
    if _length(data, begin, data.size) in (None, _told(data, begin)):
        return [data.file]
    parts = list(joined_parts(data, begin))
    return parts if len(parts) > 1 or _has_one_rate(data, begin) else []


def audio_begin(data: Searched, begin: int) -> int:
    """Where the blocks before the audio end, which may hold the beginning of a WAV file."""
    begin += len(MAGIC)
    is_last = False
    while not is_last and len(head := data.at(begin, 4)) == 4:
        is_last = head[0] >= 128
        begin += 4 + int.from_bytes(head[1:])
    return begin


def joined_parts(data: Searched, begin: int) -> Iterator[Readable]:
    """The file from ``begin``, and those that are joined to it."""
    while begin < data.size:
        found = (data.find(start, begin + 1) for start in _STARTS)
        end = min((place for place in found if place >= 0), default=data.size)
        length = _length(data, begin, end)
        changes = {}
        if length not in (None, _told(data, begin)):
            place = begin + _STREAMINFO + 13  # 4 bits of other facts, then the 36 of the length
            first = data.at(place, 1)[0] & 0xF0
            changes[place] = (first << 32 | length).to_bytes(5)
        yield data.view(begin, end, changes)
        begin = end


def _told(data: Searched, begin: int) -> int:
    """Samples according to the header; 0 if it does not say."""
    return int.from_bytes(data.at(begin + _STREAMINFO + 13, 5)) & (1 << 36) - 1


def _has_one_rate(data: Searched, begin: int) -> bool:
    """Whether the last frames have the sampling rate of the header."""
    codes = Counter(frame.rate for frame in _frames(data.at(max(begin, data.size - _TAIL), _TAIL)))
    if not codes:  # damaged: what cannot be read will be said when it is read
        return True
    code = codes.most_common(1)[0][0]
    told = int.from_bytes(data.at(begin + _STREAMINFO + 10, 3)) >> 4
    return not 0 < code <= len(_RATES) or _RATES[code - 1] == told


class _Frame(NamedTuple):
    number: int  # of the frame, or of its first sample
    numbers_samples: bool
    length: int
    rate: int  # code of the sampling rate
    place: int

    def end(self, usual_length: int) -> int:
        """The sample after its last one, if all frames but the last have the usual length."""
        return self.number * (1 if self.numbers_samples else usual_length) + self.length


def _length(data: Searched, begin: int, end: int) -> int | None:
    """Samples according to the last frame before ``end``; None if it does not tell."""
    told = _told(data, begin)
    shortest, longest = (int.from_bytes(data.at(begin + _STREAMINFO + n, 2)) for n in (0, 2))
    size = _TAIL
    while True:
        start = max(begin, end - size)
        tail = data.at(start, end - start)
        frames = list(_frames(tail))
        lengths = Counter(frame.length for frame in frames)
        usual = lengths.most_common(1)[0][0] if len(frames) > 1 else longest
        # A few bytes in some megabytes look like a frame: a second one, or its checksum, decides.
        if told in [frame.end(usual) for frame in frames[-2:]]:
            return told
        for frame in reversed(frames):
            if not _crc(tail[frame.place :], 16, 0x8005):
                # Old encoders number frames that differ in length.
                exact = frame.numbers_samples or shortest == longest
                return frame.end(usual) if exact else None
        if start == begin or size >= _MAX_FRAME:
            return frames[-1].end(usual) if frames else None
        size *= 8


def _frames(data: bytes) -> Iterator[_Frame]:
    places = (match.start() for match in _SYNC.finditer(data))
    frames = (_frame(data[place : place + 16].ljust(16, b"\0"), place) for place in places)
    return filter(None, frames)


def _frame(head: bytes, place: int) -> _Frame | None:
    """The frame whose first 16 bytes these are; None if they are not such."""
    block, rate = head[2] >> 4, head[2] & 15
    ones = f"{head[4]:08b}0".index("0")  # a number as in UTF-8
    reserved = head[3] & 1 or head[3] >> 4 > 10 or head[3] >> 1 & 7 == 3
    if reserved or block == 0 or rate == 15 or ones in (1, 8):
        return None
    end = 5 + max(0, ones - 1)
    number = head[4] & (0x7F >> ones)
    for byte in head[5:end]:
        number = number << 6 | byte & 0x3F
    length = _BLOCK_SIZES[block]
    if block in (6, 7):
        length = int.from_bytes(head[end : end + block - 5]) + 1
        end += block - 5
    end += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if _crc(head[: end + 1], 8, 0x07):
        return None
    return _Frame(number, bool(head[1] & 1), length, rate, place)


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    """Remainder of a cyclic code, most significant bit first: 0 if the data end in their own."""
    table, shift, mask = _crc_table(bits, polynomial), bits - 8, (1 << bits) - 1
    crc = 0
    for byte in data:
        crc = (crc << 8 & mask) ^ table[crc >> shift ^ byte]
    return crc


@cache
def _crc_table(bits: int, polynomial: int) -> tuple[int, ...]:
    table = [byte << bits - 8 for byte in range(256)]
    for _ in range(8):
        table = [crc << 1 ^ (polynomial | 1 << bits) * (crc >> bits - 1) for crc in table]
    return tuple(table)
