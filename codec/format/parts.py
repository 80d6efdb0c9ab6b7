"""Where a part of a stream begins and ends, so that it decodes as it does in the whole stream."""

from __future__ import annotations

import math

from codec.arguments import check_number
from codec.bitrate import ceil_div
from codec.errors import CodecError
from codec.format.container import Header

PREROLL_SECONDS = 2.0
"""Audio before a part that is decoded for it and dropped: more than layers remember."""
MAX_SECONDS = 1e9
"""No recording is as long."""
POSTROLL_SECONDS = 0.1
"""Audio after a part that is decoded for its last samples: more than the delay of a decoder."""


def first_packet(header: Header, first: int, rate: int, preroll: float = PREROLL_SECONDS) -> int:
    """The packet with which a part begins, so that it is as in the whole stream.

    It begins so early that a decoder is as it was in the whole stream when it comes to the part,
    and at a place that is a whole number of samples at ``rate``.

    Args:
        header: of the stream.
        first: first sample of the part at ``rate``, counted from the first frame.
        rate: sampling rate of the decoded audio.
        preroll: seconds before the part that a decoder needs.

    Example:
        >>> from codec.codes import Codebook
        >>> header = Header(channels=1, codebooks=(Codebook(1024),) * 12, frames_per_packet=100,
        ...     sample_rate=24_000, original_sample_rate=44_100, hop_length=480,
        ...     fingerprint=bytes(16))
        >>> first_packet(header, first=60 * 44_100, rate=44_100)
        29
    """
    step = header.frames_per_packet * header.hop_length
    begin = first * header.sample_rate // rate - math.ceil(preroll * header.sample_rate)
    grid = header.sample_rate // math.gcd(step * rate, header.sample_rate)
    return max(0, begin // (step * grid) * grid)


def frames_until(header: Header, last: int, rate: int) -> int:
    """Number of frames from the first one on that are needed for all samples before ``last``.

    Example:
        >>> from codec.codes import Codebook
        >>> header = Header(channels=1, codebooks=(Codebook(1024),) * 12, frames_per_packet=100,
        ...     sample_rate=24_000, original_sample_rate=44_100, hop_length=480,
        ...     fingerprint=bytes(16))
        >>> frames_until(header, last=44_100, rate=44_100)
        55
    """
    more = math.ceil(POSTROLL_SECONDS * header.sample_rate / header.hop_length)
    return ceil_div(last * header.sample_rate, rate * header.hop_length) + more


def check_part(start: float, end: float | None) -> tuple[float, float | None]:
    """Two times in seconds, checked.

    Raises:
        CodecError: one of them is no time, or nothing can lie between them.
    """
    start = check_number("start", start, 0, MAX_SECONDS)
    end = None if end is None else check_number("end", end, 0, MAX_SECONDS)
    if not 0 <= start < (math.inf if end is None else end):
        until = "the end" if end is None else f"{end:g}"
        raise CodecError(
            f"nothing lies between {start:g} and {until} seconds: give an earlier start or a later "
            "end"
        )
    return start, end
