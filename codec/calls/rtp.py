"""Packets as payload of RTP (RFC 3550): `RtpPacketizer` and `RtpDepacketizer`.

``docs/rtp.md`` describes every byte. All numbers in RTP are big-endian.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence

from codec.arguments import check_type, check_whole
from codec.errors import FormatError
from codec.format.container import PLAIN_FORMAT, Coding, Header, Packet

VERSION = 2
PAYLOAD_TYPE = 97
"""The first of the dynamic payload types that is usually free."""

PROBATION = 3
"""Packets in sequence after which another source is followed."""

_RTP = struct.Struct(">BBHII")
_SIZE = struct.Struct(">H")
_LAST = struct.Struct(">HQ")  # frames and samples, in the last packet of a stream
_MORE, _IS_LAST = 0x80, 0x40  # bits of the byte before each packet; the lowest three are its Coding
_CODING = 0x07
_WRAP = 2**32


class RtpPacketizer:
    """Makes RTP packets of the packets of a stream.

    Args:
        header: header of the stream.
        payload_type: payload type that was agreed on, 0 to 127.
        ssrc: identity of the source, sequence number and timestamp of the first RTP packet; random
            where None, as RFC 3550 wants them.
        sequence: see ``ssrc``.
        timestamp: see ``ssrc``.

    Raises:
        FormatError: a number is out of range.

    Example:
        >>> import numpy as np
        >>> from codec import Constant, StreamEncoder
        >>> encoder = StreamEncoder(rate=Constant(6, plain=True))
        >>> packets = encoder.push(np.zeros((1, 1_000), np.float32))
        >>> data = RtpPacketizer(encoder.header).packetize(packets)
        >>> len(data), RtpDepacketizer(encoder.header).depacketize(data) == packets
        (32, True)
    """

    def __init__(
        self,
        header: Header,
        *,
        payload_type: int = PAYLOAD_TYPE,
        ssrc: int | None = None,
        sequence: int | None = None,
        timestamp: int | None = None,
    ) -> None:
        check_type("header", header, Header, FormatError)
        payload_type = check_whole("payload_type", payload_type, 0, 127, FormatError)
        self._header, self._payload_type = header, payload_type
        self._ssrc = _number("ssrc", ssrc, 32)
        self._sequence = _number("sequence", sequence, 16)
        self._timestamp = _number("timestamp", timestamp, 32)
        self._next: int | None = None  # sequence number of the next packet of the stream
        self._is_silent = False  # whether the last packet was one of comfort noise

    def packetize(self, packets: Sequence[Packet], *, marker: bool | None = None) -> bytes:
        """One RTP packet with packets that follow one another.

        Args:
            packets: at least one; of more, all but the last may be 65 535 bytes long.
            marker: whether sound begins here after silence that was not sent; by default, in the
                first RTP packet, after comfort noise and after packets that were left out.

        Raises:
            FormatError: no packets, packets that do not follow one another, or too long ones.
        """
        check_type("packets", packets, (list, tuple), FormatError)
        for packet in packets:
            check_type("packet", packet, Packet, FormatError)
        if not packets:
            raise FormatError("an RTP packet needs at least one packet of the stream")
        count, first = self._header.sequence_count, packets[0].sequence
        if any((p.sequence - first) % count != n for n, p in enumerate(packets)):
            raise FormatError("the packets in an RTP packet must follow one another")
        skipped = 0 if self._next is None else (first - self._next) % count
        begins = self._next is None or skipped > 0 or self._is_silent
        begins = begins and packets[0].coding != Coding.COMFORT_NOISE
        samples = self._header.frames_per_packet * self._header.hop_length
        self._timestamp = (self._timestamp + skipped * samples) % _WRAP
        kind = self._payload_type | (0x80 if (begins if marker is None else marker) else 0)
        sequence = self._sequence % 2**16
        data = _RTP.pack(VERSION << 6, kind, sequence, self._timestamp, self._ssrc)
        for number, packet in enumerate(packets, 1):
            data += _entry(packet, more=number < len(packets))
        self._sequence += 1
        self._timestamp = (self._timestamp + len(packets) * samples) % _WRAP
        self._next = (first + len(packets)) % count
        self._is_silent = packets[-1].coding == Coding.COMFORT_NOISE
        return data


def _number(name: str, value: int | None, bits: int) -> int:
    """The number given, or a random one."""
    number = secrets.randbits(bits) if value is None else value
    return check_whole(name, number, 0, 2**bits - 1, FormatError)


def _entry(packet: Packet, *, more: bool) -> bytes:
    """A packet with the byte before it."""
    body = packet.payload
    if packet.num_samples is not None:
        body = _LAST.pack(packet.num_frames, packet.num_samples) + body
    head = bytes([_MORE * more | _IS_LAST * packet.is_last | (packet.coding or 0)])
    if more:
        if len(body) > 0xFFFF:
            raise FormatError(f"a packet of {len(body)} bytes: send it in an RTP packet of its own")
        head += _SIZE.pack(len(body))
    return head + body


class RtpDepacketizer:
    """Finds the packets of a stream in RTP packets, which may come in any order.

    The number of a packet follows from its timestamp, so that it counts what was not sent, and does
    not wrap while a call lasts. Numbers follow a sender that restarts with another source (SSRC),
    once `PROBATION` of its packets came in sequence, and timestamps that go on by no whole number
    of packets, as those of mixers do.

    Args:
        header: header of the stream.
        payload_type: payload type that was agreed on.

    Example:
        >>> from codec.codes import Codebook
        >>> header = Header(channels=1, codebooks=(Codebook(16),) * 2, frames_per_packet=1,
        ...     sample_rate=24_000, original_sample_rate=24_000, hop_length=480,
        ...     fingerprint=bytes(16))
        >>> packetizer = RtpPacketizer(header)
        >>> together = packetizer.packetize([Packet(7, 1, b"a"), Packet(8, 1, b"b")])
        >>> [packet.payload for packet in RtpDepacketizer(header).depacketize(together)]
        [b'a', b'b']
    """

    def __init__(self, header: Header, *, payload_type: int = PAYLOAD_TYPE) -> None:
        check_type("header", header, Header, FormatError)
        payload_type = check_whole("payload_type", payload_type, 0, 127, FormatError)
        self._header, self._payload_type = header, payload_type
        self._samples = header.frames_per_packet * header.hop_length  # of a packet
        self._ssrc: int | None = None
        self._candidate = (0, 0, 0)  # another source, its next sequence number, packets in sequence
        self._timestamp = 0  # the newest, not wrapped
        self._number = 0  # of the packet that has it

    @property
    def first_timestamp(self) -> int | None:
        """Timestamp of packet 0, not wrapped; None before a packet has arrived."""
        return None if self._ssrc is None else self._timestamp - self._number * self._samples

    def depacketize(self, data: bytes) -> list[Packet]:
        """The packets in an RTP packet, numbered from 0 for the first one that arrives.

        Packets before that one have the last numbers, as if numbers had wrapped.

        Raises:
            FormatError: not an RTP packet, of another source or payload type, or damaged.
        """
        check_type("data", data, (bytes, bytearray, memoryview), FormatError)
        sequence, timestamp, ssrc, payload = self._parse(bytes(data))
        entries = list(self._entries(payload))
        self._follow(sequence, timestamp, ssrc)
        found = []
        for number, (coding, body, is_last) in enumerate(entries, self._find(timestamp)):
            num_frames, num_samples = self._header.frames_per_packet, None
            if is_last:
                num_frames, num_samples = _LAST.unpack_from(body)
                body = body[_LAST.size :]
            number %= self._header.sequence_count
            found.append(Packet(number, num_frames, body, num_samples, coding))
        return found

    def _follow(self, sequence: int, timestamp: int, ssrc: int) -> None:
        """Take the source of a packet for that of the stream, or refuse the packet.

        One that is forged, or comes late from a source that is gone, must not end a stream; and a
        source that has restarted must not be refused for good (RFC 3550, appendix A.1).
        """
        if ssrc != self._ssrc and self._ssrc is not None:
            *candidate, count = self._candidate
            count = count + 1 if candidate == [ssrc, sequence] else 1
            self._candidate = ssrc, (sequence + 1) % 2**16, count
            if count < PROBATION:
                raise FormatError(
                    f"RTP source {ssrc:08x}, the stream is of {self._ssrc:08x}: drop it, "
                    f"{PROBATION} packets in sequence are followed"
                )
            self._timestamp, self._number = timestamp, self._number + 1
        elif self._ssrc is None:
            self._timestamp = timestamp
        self._ssrc, self._candidate = ssrc, (0, 0, 0)

    def _find(self, timestamp: int) -> int:
        """The number of the packet with a timestamp: the nearest one, counted from the newest."""
        ahead = (timestamp - self._timestamp + _WRAP // 2) % _WRAP - _WRAP // 2
        number = self._number + (2 * ahead + self._samples) // (2 * self._samples)
        if ahead > 0:
            self._timestamp, self._number = self._timestamp + ahead, number
        return number

    def _parse(self, data: bytes) -> tuple[int, int, int, bytes]:
        """Sequence number, timestamp, source and payload of an RTP packet."""
        if len(data) < _RTP.size or data[0] >> 6 != VERSION:
            raise FormatError(f"{len(data)} bytes that are not an RTP packet")
        flags, kind, sequence, timestamp, ssrc = _RTP.unpack_from(data)
        if kind & 0x7F != self._payload_type:
            raise FormatError(
                f"RTP payload type {kind & 0x7F}, {self._payload_type} was agreed on: drop it"
            )
        start, end = _RTP.size + 4 * (flags & 0x0F), len(data)
        if flags & 0x10 and len(data) >= start + 4:  # an extension, whose meaning is not ours
            start += 4 + 4 * _SIZE.unpack_from(data, start + 2)[0]
        if flags & 0x20:
            end -= data[-1]
        if start >= end:
            raise FormatError("an RTP packet without payload")
        return sequence, timestamp, ssrc, data[start:end]

    def _entries(self, payload: bytes) -> list[tuple[Coding | None, bytes, bool]]:
        """How each packet is written, its bytes, and whether it is the last of the stream."""
        plain = self._header.format == PLAIN_FORMAT
        known = {0} if plain else set(Coding)
        found, position, more = [], 0, True
        while more:
            if position >= len(payload):
                raise FormatError("an RTP payload ends where another packet should begin")
            head = payload[position]
            more, is_last, kind = bool(head & _MORE), bool(head & _IS_LAST), head & _CODING
            if kind not in known or head & ~(_MORE | _IS_LAST | _CODING):
                raise FormatError(f"an RTP payload with a packet of unknown kind {head:#04x}")
            start, end = position + 1, len(payload)
            if more:
                if start + _SIZE.size > end:
                    raise FormatError("an RTP payload ends inside the size of a packet")
                (size,) = _SIZE.unpack_from(payload, start)
                start += _SIZE.size
                end = start + size
            body = payload[start:end]
            if end > len(payload) or (is_last and len(body) < _LAST.size):
                raise FormatError("an RTP payload ends inside a packet")
            found.append((None if plain else Coding(kind), body, is_last))
            position = end
        return found
