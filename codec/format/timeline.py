"""`Timeline`: where packets, frames and samples of a stream are, at every sampling rate.

Three rates meet in a file: that of the model, that of the audio before it was encoded
(``original_sample_rate``), and that of decoded audio, which may be another one. A stream may begin
with samples that a decoder drops (``skip``), and end with frames that only complete its last
samples. All of this is counted here and nowhere else.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

from codec.arguments import check_number, check_type
from codec.bitrate import ceil_div
from codec.errors import CodecError
from codec.format.container import Gap, Header, Packet

PREROLL_SECONDS = 2.0
"""Audio before a part that is decoded for it and dropped: more than layers remember."""
POSTROLL_SECONDS = 0.1
"""Audio after a part that is decoded for its last samples: more than the delay of a decoder."""
MAX_SECONDS = 1e9
"""No recording is as long."""

Span: TypeAlias = tuple[float | None, float | None] | None
"""Beginning and end of a part in seconds; None for the beginning or the end of all."""


def resampled_length(num_samples: int, source_rate: int, target_rate: int) -> int:
    """Number of samples that resampling makes of ``num_samples``: no part of the audio is lost.

    Example:
        >>> resampled_length(44_101, 44_100, 24_000)
        24001
    """
    return ceil_div(num_samples * target_rate, source_rate)


class Part(NamedTuple):
    """What is read of a stream to decode a part of it as it is in the whole stream."""

    first_packet: int  # index of the packet with which decoding begins
    skip: int  # samples at the rate of the `Timeline` that are dropped from there on
    num_frames: int | None  # that are needed from the first one of the stream on; None for all


class Timeline:
    """The packets, frames and samples of a stream in time.

    The ``rate`` is that of decoded audio, in Hz; the original one if None.

    Example:
        >>> from codec.codes import Codebook
        >>> header = Header(channels=1, codebooks=(Codebook(1024),) * 12, frames_per_packet=100,
        ...     sample_rate=24_000, original_sample_rate=44_100, hop_length=480,
        ...     fingerprint=bytes(16))
        >>> timeline = Timeline(header, rate=48_000)
        >>> timeline.length(44_100), timeline.model_length(44_100), timeline.frame_counts(44_100)
        (48000, 24000, range(50, 51))
        >>> Timeline(header).part(60 * 44_100, 61 * 44_100)
        Part(first_packet=29, skip=88200, num_frames=3055)
    """

    def __init__(self, header: Header, rate: int | None = None) -> None:
        self.header = header
        self.rate = header.original_sample_rate if rate is None else rate

    @property
    def skip(self) -> int:
        """Samples at `rate` that a decoder drops at the beginning."""
        return self.length(self.header.skip)

    def length(self, num_samples: int) -> int:
        """Samples at `rate` for ``num_samples`` at the original rate."""
        return resampled_length(num_samples, self.header.original_sample_rate, self.rate)

    def model_length(self, num_samples: int) -> int:
        """Samples at the model's rate for ``num_samples`` at the original rate."""
        header = self.header
        return resampled_length(num_samples, header.original_sample_rate, header.sample_rate)

    def output_length(self, num_samples: int) -> int:
        """Samples at `rate` for ``num_samples`` at the model's rate."""
        return resampled_length(num_samples, self.header.sample_rate, self.rate)

    def num_frames(self, item: Packet | Gap) -> int:
        """Frames in a packet, or of the packets that are missing in a gap."""
        if isinstance(item, Packet):
            return item.num_frames
        return item.num_packets * self.header.frames_per_packet

    def seconds(self, frame: int) -> float:
        """When the frame of that index begins in the audio; below 0 if it is dropped."""
        header = self.header
        return header.seconds(frame) - header.skip / header.original_sample_rate

    def frame_counts(self, num_samples: int) -> range:
        """The numbers of frames that an undamaged stream of that length may have.

        In format 2 there may be a second of frames after the end, which complete the last samples.
        """
        header = self.header
        fewest = ceil_div(self.model_length(num_samples + header.skip), header.hop_length)
        more = header.sample_rate // header.hop_length if header.format > 1 else 0
        return range(fewest, fewest + more + 1)

    def decoded_length(self, num_samples: int, num_frames: int) -> int:
        """Samples at the model's rate that are decoded in all, the dropped ones included.

        Frames after the end of format 2 are decoded too, if they were found: the resampler needs
        what is in them.
        """
        header = self.header
        length = self.model_length(num_samples + header.skip)
        whole = num_frames * header.hop_length
        return whole if header.format > 1 and whole >= length + header.hop_length else length

    def part(self, first: int, last: int | None = None, preroll: float = PREROLL_SECONDS) -> Part:
        """What to read for some samples, so that they are as in the whole stream.

        Decoding begins so early that the decoder has the same state as in the whole stream when it
        comes to the first sample, and where a packet begins with a whole sample at `rate`.

        Args:
            first: first sample of the part at `rate`; the first one that is not dropped is 0.
            last: the sample after its last one; None for the end of the stream.
            preroll: seconds before the part that the decoder needs.
        """
        header, skip = self.header, self.skip
        step = header.frames_per_packet * header.hop_length
        packet = 0
        if first:
            begin = (skip + first) * header.sample_rate // self.rate
            begin -= math.ceil(preroll * header.sample_rate)
            grid = header.sample_rate // math.gcd(step * self.rate, header.sample_rate)
            packet = max(0, begin // (step * grid) * grid)
        dropped = skip + first - packet * step * self.rate // header.sample_rate
        if last is None:
            return Part(packet, dropped, None)
        more = math.ceil(POSTROLL_SECONDS * header.sample_rate / header.hop_length)
        samples = (skip + last) * header.sample_rate
        return Part(packet, dropped, ceil_div(samples, self.rate * header.hop_length) + more)


def check_span(span: Span) -> tuple[float, float | None]:
    """The beginning and the end of a part in seconds, checked; the end is None for that of all.

    Raises:
        CodecError: one of them is no time, or nothing can lie between them.
    """
    if span is None:
        return 0.0, None
    check_type("span", span, (tuple, list))
    if len(span) != 2:
        raise CodecError(f"span has {len(span)} values: give (start, end) in seconds")
    start = check_number("start", 0 if span[0] is None else span[0], 0, MAX_SECONDS)
    end = None if span[1] is None else check_number("end", span[1], 0, MAX_SECONDS)
    if end is not None and start >= end:
        raise CodecError(
            f"nothing lies between {start:g} and {end:g} seconds: give an earlier start or a later "
            "end"
        )
    return start, end
