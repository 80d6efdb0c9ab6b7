"""The ``.codes`` stream: `Header`, `Packet`, `PacketWriter`, `PacketReader`.

``docs/format.md`` describes every byte. Nothing here trusts its input.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from codec.errors import FormatError
from codec.format.bitpack import packed_size

MAGIC = b"AECD"
MAJOR, MINOR = 1, 0
SYNC = 0xAE  # starts a packet
SYNC_END = 0xAF  # starts the last one
# Longer packets would make resynchronisation in a damaged file slow, and damage less local.
MAX_PAYLOAD = 2**16
MAX_CHANNELS = 255
MAX_PACKET_SECONDS = 10

_HEADER = struct.Struct("<4sBBBBBxHIII16s")
_HEAD = struct.Struct("<BBH")
_CRC = struct.Struct("<I")
_END = struct.Struct("<Q")


@dataclass(frozen=True)
class Header:
    """What a decoder must know before the first packet.

    Attributes:
        channels: number of channels, each coded on its own.
        num_codebooks: number of codebooks per frame and channel.
        bits_per_code: bits of one code.
        frames_per_packet: number of frames in every packet but the last.
        sample_rate: sampling rate of the model, in samples per second.
        original_sample_rate: sampling rate of the audio before encoding and after decoding.
        hop_length: samples per frame at the model's rate.
        fingerprint: 16 bytes that identify the model.

    Raises:
        FormatError: a value is out of range.

    Example:
        >>> header = Header(channels=1, num_codebooks=12, bits_per_code=10, frames_per_packet=100,
        ...     sample_rate=24_000, original_sample_rate=44_100, hop_length=480,
        ...     fingerprint=bytes(16))
        >>> header.bitrate, header.num_frames(44_100)
        (Fraction(6000, 1), 50)
        >>> Header.from_bytes(header.to_bytes()) == header
        True
    """

    channels: int
    num_codebooks: int
    bits_per_code: int
    frames_per_packet: int
    sample_rate: int
    original_sample_rate: int
    hop_length: int
    fingerprint: bytes

    SIZE = _HEADER.size + _CRC.size

    def __post_init__(self) -> None:
        for name, high in (
            ("channels", MAX_CHANNELS),
            ("num_codebooks", 255),
            ("bits_per_code", 16),
            ("frames_per_packet", 0xFFFF),
            ("sample_rate", 1_000_000),
            ("original_sample_rate", 192_000),
            ("hop_length", 2**16),
        ):
            value = getattr(self, name)
            if not 1 <= value <= high:
                raise FormatError(f"header says {name} {value}: it must lie in 1..{high}")
        if len(self.fingerprint) != 16:
            raise FormatError("a model fingerprint has 16 bytes")
        if self.frames_per_packet * self.hop_length > MAX_PACKET_SECONDS * self.sample_rate:
            raise FormatError(
                f"header says packets of {self.frames_per_packet} frames: they may last "
                f"{MAX_PACKET_SECONDS} seconds at most, use fewer frames per packet"
            )
        if (size := self.payload_size(self.frames_per_packet)) > MAX_PAYLOAD:
            raise FormatError(
                f"header says packets of {size} bytes, the limit is {MAX_PAYLOAD}: "
                "use fewer frames per packet"
            )

    @property
    def bitrate(self) -> Fraction:
        """Payload bits per second, all channels together."""
        bits = self.channels * self.num_codebooks * self.bits_per_code
        return Fraction(self.sample_rate, self.hop_length) * bits

    def payload_size(self, num_frames: int) -> int:
        """Bytes of the codes of ``num_frames`` frames."""
        return packed_size(self.bits_per_code, num_frames * self.channels * self.num_codebooks)

    def model_samples(self, num_samples: int) -> int:
        """Number of samples at the model's rate for ``num_samples`` at the original rate."""
        return -(-num_samples * self.sample_rate // self.original_sample_rate)

    def num_frames(self, num_samples: int) -> int:
        """Number of frames for ``num_samples`` samples at the original rate."""
        return -(-self.model_samples(num_samples) // self.hop_length)

    def to_bytes(self) -> bytes:
        """The `SIZE` bytes at the beginning of a stream."""
        head = _HEADER.pack(
            MAGIC,
            MAJOR << 4 | MINOR,
            0,
            self.channels,
            self.num_codebooks,
            self.bits_per_code,
            self.frames_per_packet,
            self.sample_rate,
            self.original_sample_rate,
            self.hop_length,
            self.fingerprint,
        )
        return head + _CRC.pack(zlib.crc32(head))

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Read a header from the first `Header.SIZE` bytes.

        Raises:
            FormatError: not a stream, a newer major version, cut short, or damaged.
        """
        if data[:4] != MAGIC[: len(data)] or not data:
            raise FormatError("not a .codes stream: it does not start with 'AECD'")
        if len(data) < cls.SIZE:
            raise FormatError(f"the stream ends inside its header, after {len(data)} bytes")
        head, (crc,) = data[: _HEADER.size], _CRC.unpack_from(data, _HEADER.size)
        if (found := zlib.crc32(head)) != crc:
            raise FormatError(
                f"the header is damaged: its checksum is {found:08x}, it says {crc:08x}"
            )
        _, version, flags, *values = _HEADER.unpack(head)
        if version >> 4 != MAJOR:
            raise FormatError(
                f"the stream has format {version >> 4}.{version & 15}, this version of aecodec "
                f"reads format {MAJOR}.x: upgrade aecodec"
            )
        if flags:
            raise FormatError(f"the header has flags {flags:#x} that this version does not know")
        return cls(*values)


@dataclass(frozen=True)
class Packet:
    """Some frames of codes; the last packet of a stream also says how long the audio was.

    Attributes:
        sequence: number of the packet in its stream, modulo 256.
        num_frames: number of frames inside; the last packet may have none.
        payload: their packed codes (`codec.format.payload`).
        num_samples: in the last packet, samples per channel at the original rate, else None.

    Example:
        >>> packet = Packet(sequence=0, num_frames=1, payload=bytes(15))
        >>> data = packet.to_bytes()
        >>> len(data), Packet.from_bytes(data) == packet, packet.is_last
        (23, True, False)
    """

    sequence: int
    num_frames: int
    payload: bytes
    num_samples: int | None = None

    HEAD_SIZE = _HEAD.size + _CRC.size

    @property
    def is_last(self) -> bool:
        """Whether the stream ends with this packet."""
        return self.num_samples is not None

    def to_bytes(self) -> bytes:
        """Head, checksum and payload."""
        head = _HEAD.pack(SYNC_END if self.is_last else SYNC, self.sequence, self.num_frames)
        body = self.payload
        if self.num_samples is not None:
            body += _END.pack(self.num_samples)
        return head + _CRC.pack(zlib.crc32(body, zlib.crc32(head))) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Packet:
        """The packet that ``data`` consists of.

        Raises:
            FormatError: damaged.
        """
        if len(data) < cls.HEAD_SIZE or data[0] not in (SYNC, SYNC_END):
            raise FormatError(f"{len(data)} bytes that are not a packet")
        head, body = data[: _HEAD.size], data[cls.HEAD_SIZE :]
        (crc,) = _CRC.unpack_from(data, _HEAD.size)
        if (found := zlib.crc32(body, zlib.crc32(head))) != crc:
            raise FormatError(f"damaged packet: its checksum is {found:08x}, it says {crc:08x}")
        sync, sequence, num_frames = _HEAD.unpack(head)
        if sync == SYNC:
            return cls(sequence, num_frames, body)
        if len(body) < _END.size:
            raise FormatError("the last packet is too short to hold the number of samples")
        (num_samples,) = _END.unpack(body[-_END.size :])
        return cls(sequence, num_frames, body[: -_END.size], num_samples)


@dataclass(frozen=True)
class Gap:
    """A place where packets are damaged or missing.

    Attributes:
        num_packets: number of packets lost, as far as can be told.
        num_bytes: number of bytes skipped to find the next undamaged packet.

    Example:
        >>> Gap(num_packets=2, num_bytes=46).num_packets
        2
    """

    num_packets: int
    num_bytes: int


class PacketWriter:
    """Writes a header and then packets to a file or pipe; never seeks.

    Args:
        file: the file or pipe.
        header: written at once.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> header = Header(channels=1, num_codebooks=12, bits_per_code=10, frames_per_packet=1,
        ...     sample_rate=24_000, original_sample_rate=24_000, hop_length=480,
        ...     fingerprint=bytes(16))
        >>> writer = PacketWriter(file, header)
        >>> writer.write(Packet(sequence=0, num_frames=1, payload=bytes(15)))
        23
        >>> len(file.getvalue()) == Header.SIZE + 23
        True
    """

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        self._file.write(header.to_bytes())

    def write(self, packet: Packet) -> int:
        """Write a packet, and return its size in bytes."""
        data = packet.to_bytes()
        self._file.write(data)
        return len(data)


class PacketReader:
    """Finds packets in bytes that arrive in pieces of any size, and gaps between them.

    Args:
        header: header of the stream; its bytes are not part of what is pushed.

    Attributes:
        header: header of the stream.
        ended: whether the last packet of the stream was found.

    Example:
        >>> header = Header(channels=1, num_codebooks=12, bits_per_code=10, frames_per_packet=1,
        ...     sample_rate=24_000, original_sample_rate=24_000, hop_length=480,
        ...     fingerprint=bytes(16))
        >>> data = b"".join(Packet(n, 1, bytes(15)).to_bytes() for n in range(3))
        >>> reader = PacketReader(header)
        >>> found = [*reader.push(data[:23] + data[30:]), *reader.finish()]  # 7 bytes are lost
        >>> [type(item).__name__ for item in found]
        ['Packet', 'Gap', 'Packet']
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self.ended = False
        self._buffer = bytearray()
        self._expected = 0  # sequence number of the next packet, not reduced modulo 256
        self._skipped = 0
        self._wasted = 0  # bytes checksummed in vain
        self._pushed = 0

    def push(self, data: bytes) -> Iterator[Packet | Gap]:
        """Packets and gaps that are certain after these bytes; nothing after the last packet.

        Raises:
            FormatError: too many bytes look like packets and are not, as in a stream that was
                forged to waste time.
        """
        self._buffer += data
        self._pushed += len(data)
        yield from self._scan(at_end=False)

    def finish(self) -> Iterator[Packet | Gap]:
        """Packets and gaps that are left when the bytes have ended."""
        yield from self._scan(at_end=True)
        if self._skipped and not self.ended:
            yield self._gap(None)

    def _scan(self, at_end: bool) -> Iterator[Packet | Gap]:
        position, buffer = 0, self._buffer
        while not self.ended and len(buffer) - position >= Packet.HEAD_SIZE:
            size = self._packet_size(position)
            if size and len(buffer) - position < size and not at_end:
                break
            packet = self._packet_at(position, size) if size else None
            if packet is None:
                # Damaged: continue at the next byte that could start a packet.
                start, position = position, self._next_sync(position + 1)
                self._skipped += position - start
                continue
            gap = self._gap(packet)
            if gap.num_packets or gap.num_bytes:
                yield gap
            position += size
            self._expected += 1
            self.ended = packet.is_last
            yield packet
        if at_end and not self.ended:
            self._skipped += len(buffer) - position
            position = len(buffer)
        del buffer[:position]

    def _next_sync(self, position: int) -> int:
        """Where the next packet could start, at or after ``position``."""
        found = (self._buffer.find(sync, position) for sync in (SYNC, SYNC_END))
        return min((place for place in found if place >= 0), default=len(self._buffer))

    def _packet_size(self, position: int) -> int:
        """Size of the packet that starts here, 0 if none can."""
        sync, _, num_frames = _HEAD.unpack_from(self._buffer, position)
        full = self.header.frames_per_packet
        if sync == SYNC and num_frames == full:
            return Packet.HEAD_SIZE + self.header.payload_size(full)
        if sync == SYNC_END and num_frames <= full:
            return Packet.HEAD_SIZE + self.header.payload_size(num_frames) + _END.size
        return 0

    def _packet_at(self, position: int, size: int) -> Packet | None:
        try:
            packet = Packet.from_bytes(bytes(self._buffer[position : position + size]))
        except FormatError:
            self._wasted += size
            if self._wasted > 64 * self._pushed + 2**20:
                raise FormatError("the stream is too damaged to find packets in it") from None
            return None
        return packet

    def _gap(self, packet: Packet | None) -> Gap:
        """What lies between the last good packet and this one (or the end of the bytes)."""
        full = Packet.HEAD_SIZE + self.header.payload_size(self.header.frames_per_packet)
        if packet is None:
            # The last packet is shorter than others, and holds at least its own head and end.
            lost = -(-max(0, self._skipped - Packet.HEAD_SIZE - _END.size) // full)
        else:
            # The sequence number gives the count modulo 256, the bytes skipped say which.
            lost = (packet.sequence - self._expected) % 256
            lost += 256 * max(0, round((self._skipped / full - lost) / 256))
        gap = Gap(lost, self._skipped)
        self._skipped = 0
        self._expected += lost
        return gap
