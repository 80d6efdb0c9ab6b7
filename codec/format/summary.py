"""`StreamSummary`: what a stream holds, counted in the same way by who writes and who reads it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

from codec.format.container import Coding, Gap, Header, Packet
from codec.format.timeline import Timeline, resampled_length

_COUNTS = (
    *("num_packets", "num_frames", "num_lost", "num_dependent"),
    *("num_bytes", "num_unread", "num_payload_bytes"),
)
"""Attributes of a `StreamSummary` that are added up."""


@dataclass
class StreamSummary:
    """What a stream holds, found without decoding it.

    Attributes:
        header: header of the stream.
        num_packets: number of undamaged packets.
        num_frames: number of frames in them.
        num_lost: number of packets that are damaged or missing, as far as can be told.
        num_dependent: number of undamaged packets that cannot be decoded without those.
        num_bytes: size of the whole stream.
        num_unread: number of bytes beside it that belong to no stream.
        num_samples: samples per channel at the original rate; None if the stream has no end.
        num_last_frames: number of frames in the last packet.
        num_payload_bytes: size of the codes in undamaged packets.
        num_streams: number of streams in the file; their numbers are added up.
        earlier_damage: what is wrong with one of several streams, beside lost packets.
        unread_reason: why the first of the bytes that belong to no stream cannot be read.
        bits_per_frame: how many packets have how many bits for a frame of all channels, rounded.
    """

    header: Header
    num_packets: int = 0
    num_frames: int = 0
    num_lost: int = 0
    num_dependent: int = 0
    num_bytes: int = 0
    num_unread: int = 0
    num_samples: int | None = None
    num_last_frames: int = 0
    num_payload_bytes: int = 0
    num_streams: int = 1
    earlier_damage: str | None = None
    unread_reason: str = ""
    bits_per_frame: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.num_bytes = self.num_bytes or self.header.size
        self._timeline = Timeline(self.header)
        self._in_chain = False  # whether packets arrived that the next one may depend on
        self._joined_seconds = 0.0  # of several streams

    def count(self, item: Packet | Gap) -> None:
        """Take the next packet or gap of the stream into account; its bytes are not counted."""
        if isinstance(item, Gap):
            if item.is_silence:
                self.num_frames += self._timeline.num_frames(item)
            else:
                self.num_lost += item.num_packets
                self._in_chain = False
            return
        self._in_chain = self._in_chain or item.coding != Coding.CHAINED
        self.num_dependent += not self._in_chain
        self.num_packets += 1
        self.num_frames += item.num_frames
        self.num_samples = item.num_samples
        self.num_last_frames = item.num_frames
        self.num_payload_bytes += len(item.payload)
        if item.num_frames:
            self.bits_per_frame[round(8 * len(item.payload) / item.num_frames)] += 1

    def count_unread(self, num_bytes: int, reason: str) -> None:
        """Take bytes before or after the stream into account that belong to none."""
        if num_bytes:
            self.num_unread += num_bytes
            self.unread_reason = self.unread_reason or reason

    @property
    def duration_seconds(self) -> float:
        """Length of the audio; without an end that of all frames that a decoder plays."""
        header = self.header
        if self.num_samples is not None:
            return self.num_samples / header.original_sample_rate
        if self.num_streams > 1:
            return self._joined_seconds
        num_frames = self.num_frames + self.num_lost * header.frames_per_packet
        return max(0.0, self._timeline.seconds(num_frames))

    @property
    def bitrate(self) -> float | None:
        """Bits per second and channel of all bytes; None without audio."""
        seconds = self.duration_seconds * self.header.channels
        return 8 * self.num_bytes / seconds if seconds else None

    @property
    def payload_bitrate(self) -> Fraction:
        """Bits per second and channel of the codes that arrived."""
        header = self.header
        if not header.context or not self.num_frames:
            return header.plain_bitrate()
        seconds = Fraction(self.num_frames * header.hop_length, header.sample_rate)
        return 8 * self.num_payload_bytes / (seconds * header.channels)

    def bits_distribution(self) -> list[int]:
        """Bits of a frame: least, quartiles and most among packets; empty without packets."""
        bits = sorted(self.bits_per_frame.elements())
        return [bits[(len(bits) - 1) * quarter // 4] for quarter in range(5)] if bits else []

    def damage(self) -> str | None:
        """One line about what is wrong with the stream; None if nothing is."""
        found = [", and ".join(filter(None, (self._problem(), self._losses())))]
        if self.num_unread:
            found.append(f"{self.num_unread} bytes belong to no stream: {self.unread_reason}")
        return "; ".join(filter(None, found)) or None

    def append(self, other: StreamSummary) -> None:
        """Take the next stream of the same file into account."""
        self.earlier_damage = self._problem() or other._problem()
        self.unread_reason = self.unread_reason or other.unread_reason
        self._joined_seconds = self.duration_seconds + other.duration_seconds
        if self.num_samples is not None and other.num_samples is not None:
            rates = other.header.original_sample_rate, self.header.original_sample_rate
            self.num_samples += resampled_length(other.num_samples, *rates)
        else:
            self.num_samples = None
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.num_last_frames = other.num_last_frames
        self.bits_per_frame += other.bits_per_frame
        self.num_streams += other.num_streams

    def _losses(self) -> str | None:
        """How many packets are lost, in all streams together."""
        lost, dependent = self.num_lost, self.num_dependent
        if not lost:
            return f"{dependent} packets depend on missing ones" if dependent else None
        more = f", {dependent} more depend on them" if dependent else ""
        return f"{lost} packets are damaged or missing{more}"

    def _problem(self) -> str | None:
        """What is wrong beside lost packets."""
        if self.earlier_damage or self.num_streams > 1:
            return self.earlier_damage  # each was checked before it was appended
        if self.num_samples is None:
            return "the stream has no last packet: it was cut short"
        if self.num_lost:
            return None  # without those, lengths tell nothing
        expected = self._timeline.frame_counts(self.num_samples)
        num_samples = self.num_samples + self.header.skip
        if self.num_frames not in expected:
            return f"the stream has {self.num_frames} frames but its last packet says {expected[0]}"
        before_last = (self.num_frames - self.num_last_frames) * self.header.hop_length
        if len(expected) == 1 and before_last > self._timeline.model_length(num_samples):
            return f"the last packet says {self.num_samples} samples, but more came before it"
        return None
