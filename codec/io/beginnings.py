"""How files begin, so that none that is joined to another is missed."""

from __future__ import annotations

import re
from collections.abc import Callable

from codec.io import mpeg
from codec.io.views import Searched

LONGEST = 32
"""Bytes by which the beginning of a file is known, at most."""
# Eight bytes or so, which no audio has by accident.
_BEGINNINGS = re.compile(
    rb"(?:RIFF|RIFX|RF64|BW64).{4}WAVE|RIFF.{4}AVI\x20|riff\x2e\x91\xcf\x11"
    rb"|FORM.{4}(?:AIF[FC]|8SVX|16SV)|caff\0\x01\0\0|\.snd\0\0.{6}\0\0\0[\x01-\x1b]|fLaC[\0\x80]\0\0\x22|OggS\0\x02\0{8}"
    rb"|\0\0\0[\x08-\x80]ftyp(?:M4[ABPV]|isom|iso\d|mp4\d|dash|qt|3g[p2])|\x1a\x45\xdf\xa3.{1,8}\x42\x86\x81\x01|FLV\x01[\x01\x04\x05]\0\0\0\x09"
    rb"|\x30\x26\xb2\x75\x8e\x66\xcf\x11|wvpk.{4}[\x02-\x10]\x04.{6}\0{4}|TTA1[\x01\x02]\0"
    rb"|Creative Voice File\x1a|#!AMR(?:-WB)?\n",
    re.DOTALL,
)


def has_beginning(data: Searched, position: int) -> bool:
    """Whether there is what files of some kind begin with."""
    return _BEGINNINGS.match(data.at(position, LONGEST)) is not None


def file_begins(data: Searched, position: int) -> bool:
    """Whether an audio file of any kind begins right there, MPEG audio included."""
    mpeg_begins = mpeg.stream_begins(data, after_tags(data, position))
    return has_beginning(data, position) or mpeg_begins


def next_file(
    data: Searched,
    begin: int,
    end: int,
    is_wanted: Callable[[bytes], bool],
    *,
    find_mpeg: bool = False,
) -> int | None:
    """Where the next file begins between two places; None if there is none.

    Which are wanted is told by their first eight bytes; MPEG audio is searched for on request.
    """
    found = data.matches(_BEGINNINGS, begin, LONGEST)
    first = next((place for place in found if is_wanted(data.at(place, 8))), end)
    if find_mpeg:  # what looks like a single frame may be accident
        first = min(first, mpeg.next_stream(data, begin, end, least=2) or end)
    return first if first < end else None


def after_tags(data: Searched, begin: int = 0) -> int:
    """Where the ID3v2 tags that begin there end."""
    while data.at(begin, 3) == b"ID3":
        head = data.at(begin, 10).ljust(10, b"\0")
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte & 0x7F
        begin += 10 + size + (10 if head[5] & 0x10 else 0)
    return begin
