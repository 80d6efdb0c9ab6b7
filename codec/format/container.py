"""The ``.codes`` stream: `Header`, `Packet`, `PacketWriter`, `PacketReader`.

``docs/format.md`` describes every byte. Nothing here trusts its input.
"""

from __future__ import annotations

import enum
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from codec.arguments import check_flag, check_type, check_whole
from codec.bitrate import ceil_div
from codec.codes import Codebook, Geometry
from codec.config import MAX_CHANNELS_TOGETHER
from codec.errors import FormatError

MAGIC = b"AECD"
START_OF_HEADER = rb"AECD|AEC?\Z|A\Z"
"""A regular expression for the places where a header may start, at the end of bytes too."""
PLAIN_FORMAT, CODED_FORMAT, TABLE_FORMAT = 1, 2, 3
FORMATS = (PLAIN_FORMAT, CODED_FORMAT, TABLE_FORMAT)
SYNC = 0xAE  # starts a packet of format 1, plus one the last packet
SYNC_CODED = 0xA0  # starts one of format 2 or 3, plus one the last packet, plus two per `Coding`
FLAGS = {"chained": 1, "variable": 2, "pauses": 4, "dtx": 8}
"""Attributes of a `Header` that are bits of one of its bytes."""
# Longer packets would make resynchronisation in a damaged file slow, and damage less local.
MAX_PAYLOAD = 2**16
MAX_CHANNELS = 255
MAX_CODEBOOKS = 255
"""Also the most codes of a frame."""
MAX_PACKET_SECONDS = 10
MAX_SKIP_SECONDS = 60
MAX_SEGMENTS = 8
MAX_EARLIER = 512  # bytes that codes of earlier frames, or of comfort noise, take at most: see docs
MAX_FRAMES_PER_BYTE = 128
"""Frames of a channel that a byte of a packet may stand for, in the mean of a file."""
NOISE_SECONDS = 1.0
"""A decoder plays the noise of a packet of comfort noise for so long: two packets after it may be
lost. Then the sender is gone, and the noise fades out."""

_HEADER = struct.Struct("<4sBBBBBBHIII16s")
_MORE = struct.Struct("<8sI")  # of a header of formats 2 and 3
_BOOK = struct.Struct("<BB")  # of format 3, for each codebook: bits of a code, codes per frame
_NO_CONTEXT = bytes(8)
_HEAD = struct.Struct("<BBH")
_CODED_HEAD = struct.Struct("<BHHH")
_CRC = struct.Struct("<I")
_END = struct.Struct("<Q")
END_SIZE = _END.size
"""Bytes that the last packet has beside its head and its payload."""


def longest_packet(bits: int, channels: int) -> int:
    """Most frames of a packet whose payload fits, in any format; 0 if not even one does.

    `Header` refuses a packet of one more. A frame and group of channels has up to so many ``bits``:
    those of its plain codes, or `max_variable_bits`.
    """
    return 8 * (MAX_PAYLOAD - 1) // (channels * bits)


def max_variable_bits(num_codebooks: int, *, pauses: bool = False) -> int:
    """Most bits of a frame and channel where the number of codes varies.

    A code of two digits takes 32 bits at most, the number of codes 16, and a pause 8.
    """
    return 32 * num_codebooks + 16 + 8 * pauses


class Coding(enum.IntEnum):
    """How the codes of a packet of format 2 are written."""

    PLAIN = 0
    """With the same number of bits each, as in format 1."""
    CODED = 1
    """By the context model, which knows nothing of the packets before."""
    CHAINED = 2
    """By the context model, which remembers the packets before."""
    PLAIN_WITH_EARLIER = 3
    """As `PLAIN`, after the first codes of earlier frames (`codec.rate.redundancy`)."""
    CODED_WITH_EARLIER = 4
    """As `CODED`, by a context model that has coded them before in the same packet."""
    COMFORT_NOISE = 5
    """First codes of this frame and of some before it, for the silence that is not sent after it
    (`codec.activity.silence`)."""

    @property
    def has_earlier(self) -> bool:
        """Whether the packet also holds the first codes of earlier frames."""
        return self in (Coding.PLAIN_WITH_EARLIER, Coding.CODED_WITH_EARLIER)


@dataclass(frozen=True)
class Header(Geometry):
    """What a decoder must know before the first packet.

    A stream has format 1, in which all codes are plain, or format 2, in which a context model may
    code them. Both are for codebooks of one size, with one code per frame each, and for channels
    that are coded on their own. Format 3 has a table of the codebooks for all others.

    Attributes:
        channels: number of channels.
        codebooks: those of a frame of a group of channels, the coarsest first.
        frames_per_packet: number of frames in every packet but the last.
        sample_rate: sampling rate of the model, in samples per second.
        original_sample_rate: sampling rate of the audio before encoding and after decoding.
        hop_length: samples per frame at the model's rate.
        fingerprint: 16 bytes that identify the model.
        context: 8 bytes that identify the context model; empty if there is none.
        skip: samples per channel at the original rate that a decoder drops at the beginning: they
            only bring its state to where it was in a longer stream.
        format: 1 or 2; raised to 2 where another attribute needs it. It is 3 where the geometry
            of the codes needs it, and only there.
        chained: whether packets may depend on those before them.
        variable: whether frames may have fewer codes than ``num_codebooks``.
        segments: number of parts of a coded packet that are decoded side by side.
        pauses: whether frames may have no codes at all, see `codec.activity.pauses`.
        dtx: whether packets of silence are left out after one of comfort noise, see
            `codec.activity.silence`.
        channels_coded_together: number of channels of a group, which share their codes.

    Raises:
        FormatError: a value is out of range.

    Example:
        >>> header = Header(channels=1, codebooks=(Codebook(1024),) * 12, frames_per_packet=100,
        ...     sample_rate=24_000, original_sample_rate=44_100, hop_length=480,
        ...     fingerprint=bytes(16))
        >>> header.plain_bitrate()
        Fraction(6000, 1)
        >>> Header.from_bytes(header.to_bytes()) == header
        True
    """

    channels: int
    codebooks: tuple[Codebook, ...]
    frames_per_packet: int
    sample_rate: int
    original_sample_rate: int
    hop_length: int
    fingerprint: bytes
    context: bytes = b""
    skip: int = 0
    format: int = PLAIN_FORMAT
    chained: bool = False
    variable: bool = False
    segments: int = 1
    pauses: bool = False
    dtx: bool = False
    channels_coded_together: int = 1

    SIZE = _HEADER.size + _CRC.size
    """Bytes of a header of format 1, and the fewest of any header."""
    SIZE_KNOWN = 8
    """Bytes of a header that tell its size."""

    def __post_init__(self) -> None:
        if not isinstance(self.fingerprint, bytes) or len(self.fingerprint) != 16:
            raise FormatError("a model fingerprint has 16 bytes")
        if not isinstance(self.context, bytes) or len(self.context) not in (0, len(_NO_CONTEXT)):
            raise FormatError(f"the identity of a context model has {len(_NO_CONTEXT)} bytes")
        for name in FLAGS:
            flag = check_flag(f"the header's {name}", getattr(self, name), FormatError)
            object.__setattr__(self, name, flag)
        object.__setattr__(self, "codebooks", _checked_codebooks(self.codebooks))
        for name, low, high in (
            ("format", 1, TABLE_FORMAT),
            ("channels", 1, MAX_CHANNELS),
            ("frames_per_packet", 1, 0xFFFF),
            ("sample_rate", 1, 1_000_000),
            ("original_sample_rate", 1, 192_000),
            ("hop_length", 1, 2**16),
            ("segments", 1, MAX_SEGMENTS),
            ("channels_coded_together", 1, MAX_CHANNELS_TOGETHER),
            ("skip", 0, 2**32 - 1),
        ):
            value = check_whole(f"the header's {name}", getattr(self, name), low, high, FormatError)
            object.__setattr__(self, name, value)
        needed = CODED_FORMAT if self.context or self.skip or self.dtx else PLAIN_FORMAT
        found = max(min(self.format, CODED_FORMAT), needed)
        object.__setattr__(self, "format", found if self.has_simple_codes else TABLE_FORMAT)
        self._check_fits_together()

    def _check_fits_together(self) -> None:
        """Refuse what is in range by itself, and impossible with the rest."""
        if self.channels_coded_together > self.channels:
            raise FormatError(
                f"header says {self.channels_coded_together} channels coded together, but "
                f"{self.channels} in all"
            )
        if self.context and self.format == TABLE_FORMAT:
            raise FormatError(
                "a stream with a context model has codebooks of one size, with one code per frame "
                "each, and channels that are coded on their own"
            )
        if self.skip > MAX_SKIP_SECONDS * self.original_sample_rate:
            raise FormatError(
                f"header says skip {self.skip}: it may be {MAX_SKIP_SECONDS} seconds at most"
            )
        if (self.chained or self.variable) and not self.context:
            raise FormatError("a stream without a context model is neither chained nor variable")
        if self.segments > 1 and (self.chained or not self.context):
            raise FormatError("only coded packets that are not chained have segments")
        if self.pauses and (self.chained or not self.variable):
            raise FormatError("only variable streams that are not chained have pauses")
        if self.dtx and not self.can_have_earlier:
            raise FormatError(
                "only streams in packets of one frame, not chained, without pauses and segments, "
                "leave out silence"
            )
        if self.frames_per_packet * self.hop_length > MAX_PACKET_SECONDS * self.sample_rate:
            raise FormatError(
                f"header says packets of {self.frames_per_packet} frames: they may last "
                f"{MAX_PACKET_SECONDS} seconds at most, use fewer frames per packet"
            )
        size = self.max_payload(self.frames_per_packet)
        if size > MAX_PAYLOAD - (self.format != PLAIN_FORMAT):
            raise FormatError(
                f"header says packets of {size} bytes, the limit is {MAX_PAYLOAD}: "
                "use fewer frames per packet"
            )

    @property
    def size(self) -> int:
        """Bytes of this header."""
        return _header_size(self.format, self.num_codebooks)

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks."""
        return len(self.codebooks)

    @property
    def sequence_count(self) -> int:
        """Number of sequence numbers, after which they begin again at 0."""
        return 2**8 if self.format == PLAIN_FORMAT else 2**16

    @property
    def head_size(self) -> int:
        """Bytes of a packet before its payload."""
        return (_HEAD if self.format == PLAIN_FORMAT else _CODED_HEAD).size + _CRC.size

    @property
    def num_silent(self) -> int:
        """Most packets in a row that may be left out after one of comfort noise."""
        return round(NOISE_SECONDS * self.sample_rate / self.hop_length) if self.dtx else 0

    @property
    def can_have_earlier(self) -> bool:
        """Whether packets may also hold the first codes of earlier frames."""
        single = self.format != PLAIN_FORMAT and self.frames_per_packet == self.segments == 1
        return single and not (self.chained or self.pauses)

    def payload_size(self, num_frames: int) -> int:
        """Bytes of the plain codes of ``num_frames`` frames, of all codebooks."""
        return ceil_div(num_frames * self.num_groups(self.channels) * sum(self.bits), 8)

    @property
    def max_earlier(self) -> int:
        """Most bytes that codes of earlier frames may add to a payload."""
        most = max(each.per_frame for each in self.codebooks)
        return MAX_EARLIER * most * self.num_groups(self.channels)

    def max_payload(self, num_frames: int) -> int:
        """Most bytes that the codes of ``num_frames`` frames may take.

        Coded packets are not longer than plain ones, but cannot be plain where the number of codes
        varies.
        """
        if self.variable:
            most = max_variable_bits(self.num_codebooks, pauses=self.pauses)
            return num_frames * self.channels * most // 8
        return self.payload_size(num_frames)

    def seconds(self, num_frames: int) -> float:
        """Duration of that many frames."""
        return num_frames * self.hop_length / self.sample_rate

    def least_payload(self, num_frames: int) -> int:
        """Fewest bytes in which encoders code ``num_frames`` frames: see `MAX_FRAMES_PER_BYTE`."""
        return max(0, -(-num_frames * self.channels // MAX_FRAMES_PER_BYTE) - self.head_size)

    def to_bytes(self) -> bytes:
        """The `size` bytes at the beginning of a stream."""
        has_table = self.format == TABLE_FORMAT
        head = _HEADER.pack(
            MAGIC,
            self.format << 4,
            sum(bit for name, bit in FLAGS.items() if getattr(self, name)),
            self.channels,
            self.num_codebooks,
            self.channels_coded_together if has_table else self.codebooks[0].bits,
            self.segments if self.context else 0,
            self.frames_per_packet,
            self.sample_rate,
            self.original_sample_rate,
            self.hop_length,
            self.fingerprint,
        )
        if self.format != PLAIN_FORMAT:
            head += _MORE.pack(self.context or _NO_CONTEXT, self.skip)
        if has_table:
            head += b"".join(_BOOK.pack(each.bits, each.per_frame) for each in self.codebooks)
        return head + _CRC.pack(zlib.crc32(head))

    @classmethod
    def size_of(cls, data: bytes) -> int:
        """Bytes of the header that begins with ``data``, of which `SIZE_KNOWN` tell."""
        known = data[: cls.SIZE_KNOWN].ljust(cls.SIZE_KNOWN, b"\0")
        return _header_size(known[4] >> 4, known[7])

    @classmethod
    def starts(cls, data: bytes) -> bool:
        """Whether ``data`` begins with a header whose checksum is right."""
        end = cls.size_of(data) - _CRC.size
        if data[: len(MAGIC)] != MAGIC or len(data) < end + _CRC.size:
            return False
        (crc,) = _CRC.unpack_from(data, end)
        return zlib.crc32(data[:end]) == int(crc)

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Read a header from the first bytes of a stream, as many as `size_of` says or more.

        Raises:
            FormatError: not a stream, a newer major version, cut short, or damaged.
        """
        data = _bytes_of(data)
        if data[:4] != MAGIC[: len(data)] or not data:
            raise FormatError("not a .codes stream: it does not start with 'AECD'")
        size = cls.size_of(data)
        if len(data) < size:
            raise FormatError(f"the stream ends inside its header, after {len(data)} bytes")
        head, (crc,) = data[: size - _CRC.size], _CRC.unpack_from(data, size - _CRC.size)
        _, version, flags, channels, count, fact, segments, *rest = _HEADER.unpack_from(head)
        values: tuple[int, int, int, int, bytes] = tuple(rest)
        version, minor = version >> 4, version & 15
        # Before the checksum: where that of another version is, is unknown.
        if version not in FORMATS:
            raise FormatError(
                f"the stream has format {version}.{minor}, this version of aecodec "
                f"reads formats {FORMATS[0]} to {FORMATS[-1]}: upgrade aecodec"
            )
        if (found := zlib.crc32(head)) != crc:
            raise FormatError(
                f"the header is damaged: its checksum is {found:08x}, it says {crc:08x}"
            )
        context, skip = b"", 0
        if version != PLAIN_FORMAT:
            context, skip = _MORE.unpack_from(head, _HEADER.size)
            context = context.strip(b"\0") and context
        known = sum(FLAGS.values()) if context else FLAGS["dtx"] * (version != PLAIN_FORMAT)
        if flags & ~known:
            raise FormatError(f"the header has flags {flags:#x} that this version does not know")
        table, together = [(fact, 1)] * count, 1
        if version == TABLE_FORMAT:
            table, together = list(_BOOK.iter_unpack(head[_HEADER.size + _MORE.size :])), fact
        codebooks = tuple(Codebook(1 << min(bits, 17), codes) for bits, codes in table)
        found_flags: dict[str, Any] = {name: bool(flags & bit) for name, bit in FLAGS.items()}
        header = cls(
            channels,
            codebooks,
            *values,
            context=context,
            skip=skip,
            format=version,
            segments=max(1, segments) if context else 1,
            channels_coded_together=together,
            **found_flags,
        )
        if version == TABLE_FORMAT and (segments or header.format != TABLE_FORMAT):
            raise FormatError("the header has format 3 without need, or fields that are not known")
        return header


def _header_size(version: int, num_codebooks: int) -> int:
    """Bytes of a header of a format; those of an unknown one count as format 1."""
    more = _MORE.size if version in (CODED_FORMAT, TABLE_FORMAT) else 0
    table = _BOOK.size * num_codebooks if version == TABLE_FORMAT else 0
    return Header.SIZE + more + table


def _checked_codebooks(codebooks: object) -> tuple[Codebook, ...]:
    """The codebooks of a header; a `FormatError` if a stream cannot hold such."""
    check_type("the header's codebooks", codebooks, tuple, FormatError)
    assert isinstance(codebooks, tuple)
    found = []
    for each in codebooks:
        check_type("the header's codebooks", each, Codebook, FormatError)
        size = check_whole("the size of a codebook", each.size, 2, 2**16, FormatError)
        if size & (size - 1):
            raise FormatError(f"the size of a codebook is {size}: it must be a power of two")
        name, codes = "the number of a codebook's codes per frame", each.per_frame
        found.append(Codebook(size, check_whole(name, codes, 1, MAX_CODEBOOKS, FormatError)))
    number = sum(each.per_frame for each in found)
    check_whole("the header's number of codes per frame", number, 1, MAX_CODEBOOKS, FormatError)
    return tuple(found)


@dataclass(frozen=True)
class Packet:
    """Some frames of codes; the last packet of a stream also says how long the audio was.

    Attributes:
        sequence: number of the packet in its stream, modulo `Header.sequence_count`.
        num_frames: number of frames inside; the last packet may have none.
        payload: their codes (`codec.format.payload`).
        num_samples: in the last packet, samples per channel at the original rate, else None.
        coding: how the codes are written; None in format 1.

    Raises:
        FormatError: a value is out of range.

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
    coding: Coding | None = None

    def __post_init__(self) -> None:
        is_plain, num_samples = self.coding is None, self.num_samples
        if not is_plain:
            check_type("the packet's coding", self.coding, Coding, FormatError)
        check_type("the packet's payload", self.payload, bytes, FormatError)
        for name, value, high in (
            ("the packet's sequence", self.sequence, 0xFF if is_plain else 0xFFFF),
            ("the packet's num_frames", self.num_frames, 0xFFFF),
            ("the packet's num_samples", 0 if num_samples is None else num_samples, 2**64 - 1),
            ("the size of a payload", len(self.payload), MAX_PAYLOAD if is_plain else 0xFFFF),
        ):
            check_whole(name, value, 0, high, FormatError)

    @property
    def is_last(self) -> bool:
        """Whether the stream ends with this packet."""
        return self.num_samples is not None

    @property
    def size(self) -> int:
        """Bytes of the packet."""
        head = _HEAD if self.coding is None else _CODED_HEAD
        return head.size + _CRC.size + len(self.payload) + (_END.size if self.is_last else 0)

    def to_bytes(self) -> bytes:
        """Head, checksum and payload."""
        if self.coding is None:
            head = _HEAD.pack(SYNC + self.is_last, self.sequence, self.num_frames)
        else:
            sync = SYNC_CODED + 2 * self.coding + self.is_last
            head = _CODED_HEAD.pack(sync, self.sequence, self.num_frames, len(self.payload))
        body = self.payload
        if self.num_samples is not None:
            body += _END.pack(self.num_samples)
        return head + _CRC.pack(zlib.crc32(head + body)) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Packet:
        """The packet that ``data`` consists of.

        Raises:
            FormatError: damaged.
        """
        data = _bytes_of(data)
        kind = _KINDS.get(data[0]) if data else None
        struct_of_head = _HEAD if kind and kind[0] is None else _CODED_HEAD
        start = struct_of_head.size + _CRC.size
        if kind is None or len(data) < start:
            raise FormatError(f"{len(data)} bytes that are not a packet")
        head, body = data[: struct_of_head.size], data[start:]
        (crc,) = _CRC.unpack_from(data, struct_of_head.size)
        if (found := zlib.crc32(head + body)) != crc:
            raise FormatError(f"damaged packet: its checksum is {found:08x}, it says {crc:08x}")
        coding, is_last = kind
        _, sequence, num_frames, *sizes = struct_of_head.unpack(head)
        num_samples = None
        if is_last:
            if len(body) < _END.size:
                raise FormatError("the last packet is too short to hold the number of samples")
            (num_samples,) = _END.unpack(body[-_END.size :])
            body = body[: -_END.size]
        if sizes and sizes != [len(body)]:
            raise FormatError(f"damaged packet: {len(body)} bytes, it says {sizes[0]}")
        return cls(sequence, num_frames, body, num_samples, coding)


def _bytes_of(data: object) -> bytes:
    """What was received, in whatever holds bytes; a `FormatError` if it holds none."""
    check_type("data", data, (bytes, bytearray, memoryview), FormatError)
    return bytes(data)  # type: ignore[call-overload, no-any-return]


# Coding, and whether a packet is the last, by the byte that it starts with.
_KINDS: dict[int, tuple[Coding | None, bool]] = {
    (SYNC if coding is None else SYNC_CODED + 2 * coding) + is_last: (coding, is_last)
    for coding in (None, *Coding)
    for is_last in (False, True)
}


@dataclass(frozen=True)
class Gap:
    """A place where packets are damaged or missing.

    Attributes:
        num_packets: number of packets lost, as far as can be told.
        num_bytes: number of bytes skipped to find the next undamaged packet.
        is_silence: whether nothing was lost: the packets are silence that was not sent.

    Example:
        >>> Gap(num_packets=2, num_bytes=46).num_packets
        2
    """

    num_packets: int
    num_bytes: int
    is_silence: bool = False


class PacketWriter:
    """Writes a header and then packets to a file or pipe; never seeks.

    Args:
        file: the file or pipe.
        header: written at once.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> header = Header(channels=1, codebooks=(Codebook(1024),) * 12, frames_per_packet=1,
        ...     sample_rate=24_000, original_sample_rate=24_000, hop_length=480,
        ...     fingerprint=bytes(16))
        >>> writer = PacketWriter(file, header)
        >>> writer.write(Packet(sequence=0, num_frames=1, payload=bytes(15)))
        23
        >>> len(file.getvalue()) == Header.SIZE + 23
        True
    """

    def __init__(self, file: BinaryIO, header: Header) -> None:
        check_type("header", header, Header, FormatError)
        self._file = file
        self._file.write(header.to_bytes())

    def write(self, packet: Packet) -> int:
        """Write a packet, and return its size in bytes."""
        check_type("packet", packet, Packet, FormatError)
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
        interrupted: whether the header of another stream was found before it.

    Example:
        >>> header = Header(channels=1, codebooks=(Codebook(1024),) * 12, frames_per_packet=1,
        ...     sample_rate=24_000, original_sample_rate=24_000, hop_length=480,
        ...     fingerprint=bytes(16))
        >>> data = b"".join(Packet(n, 1, bytes(15)).to_bytes() for n in range(3))
        >>> reader = PacketReader(header)
        >>> found = [*reader.push(data[:23] + data[30:]), *reader.finish()]  # 7 bytes are lost
        >>> [type(item).__name__ for item in found]
        ['Packet', 'Gap', 'Packet']
    """

    def __init__(self, header: Header) -> None:
        check_type("header", header, Header, FormatError)
        self.header = header
        self.ended = self.interrupted = False
        self._plain = header.format == PLAIN_FORMAT
        self._buffer = bytearray()
        self._expected = 0  # sequence number of the next packet, not reduced
        starts = [sync for sync, (coding, _) in _KINDS.items() if (coding is None) == self._plain]
        self._start = re.compile(b"[" + re.escape(bytes(starts)) + b"]|" + START_OF_HEADER)
        self._found_bytes = self._found_packets = 0
        self._skipped = 0
        self._silence = 0  # packets of silence that may be left out after the last one
        self._wasted = 0  # bytes checksummed in vain
        self._pushed = 0

    @property
    def rest(self) -> bytes:
        """Bytes that were pushed and not used: after the end of the stream those that follow it."""
        return bytes(self._buffer)

    @property
    def stopped(self) -> bool:
        """Whether nothing more is read: the stream has ended, or another one begins."""
        return self.ended or self.interrupted

    def push(self, data: bytes) -> list[Packet | Gap]:
        """Packets and gaps that are certain after these bytes; nothing after the last packet.

        Raises:
            FormatError: too many bytes look like packets and are not, as in a stream that was
                forged to waste time.
        """
        data = _bytes_of(data)
        self._buffer += data
        self._pushed += len(data)
        return list(self._scan(at_end=False))

    def finish(self) -> list[Packet | Gap]:
        """Packets and gaps that are left when the bytes have ended."""
        return [*self._scan(at_end=True), *self._gaps(None)]

    def _scan(self, at_end: bool) -> Iterator[Packet | Gap]:
        position, buffer = 0, self._buffer
        while not self.stopped and len(buffer) - position >= self.header.head_size:
            size = self._size_at(position)
            if len(buffer) - position < size and not at_end:
                break
            data = bytes(buffer[position : position + size])
            if Header.starts(data):
                self.interrupted = True
                yield from self._gaps(None)
                break
            packet = self._packet_of(data) if data[:1] not in (b"", MAGIC[:1]) else None
            if packet is None:
                # Damaged: continue at the next byte that could start a packet.
                found = self._start.search(buffer, position + 1)
                start, position = position, found.start() if found else len(buffer)
                self._skipped += position - start
                continue
            yield from self._gaps(packet)
            position += size
            self._expected += 1
            self._found_bytes += size
            self._found_packets += 1
            has_noise = packet.coding == Coding.COMFORT_NOISE
            self._silence = self.header.num_silent if has_noise else 0
            self.ended = packet.is_last
            yield packet
        if at_end and not self.stopped:
            self._skipped += len(buffer) - position
            position = len(buffer)
        del buffer[:position]

    def _size_at(self, position: int) -> int:
        """Size of the packet or header that starts here, 0 if none can."""
        header, buffer = self.header, self._buffer
        if buffer.startswith(MAGIC, position):
            return Header.size_of(bytes(buffer[position : position + Header.SIZE_KNOWN]))
        coding, is_last = _KINDS.get(buffer[position], (None, False))
        if self._plain:
            sync, _, num_frames = _HEAD.unpack_from(buffer, position)
            size = header.payload_size(num_frames)
            is_packet = sync in (SYNC, SYNC + 1)
        else:
            _, _, num_frames, size = _CODED_HEAD.unpack_from(buffer, position)
            is_packet = coding is not None and self._allows(coding, num_frames, size)
        full = header.frames_per_packet
        if not is_packet or num_frames > full or (num_frames < full and not is_last):
            return 0
        return header.head_size + size + (_END.size if is_last else 0)

    def _allows(self, coding: Coding, num_frames: int, size: int) -> bool:
        """Whether a packet of format 2 or 3 may have so many frames in so many bytes."""
        header = self.header
        if coding == Coding.COMFORT_NOISE:
            return header.dtx and size <= header.channels + header.max_earlier
        if header.variable and coding in (Coding.PLAIN, Coding.PLAIN_WITH_EARLIER):
            return False
        if coding.has_earlier and not header.can_have_earlier:
            return False
        most = header.max_payload(num_frames) + coding.has_earlier * header.max_earlier
        return size <= most and (coding != Coding.CHAINED or header.chained)

    def _packet_of(self, data: bytes) -> Packet | None:
        try:
            packet = Packet.from_bytes(data)
        except FormatError:
            self._wasted += len(data)
            if self._wasted > 64 * self._pushed + 2**20:
                raise FormatError("the stream is too damaged to find packets in it") from None
            return None
        return packet

    def _gaps(self, packet: Packet | None) -> Iterator[Gap]:
        """What lies between the last good packet and this one (or the end of the stream).

        After comfort noise, packets that left no trace are silence, as long as noise is played.
        """
        header = self.header
        full = header.head_size + header.payload_size(header.frames_per_packet)
        if not self._plain and self._found_packets:
            full = max(header.head_size, self._found_bytes // self._found_packets)
        if packet is None:
            # The last packet is shorter than others, and holds at least its own head and end.
            lost = -(-max(0, self._skipped - header.head_size - _END.size) // full)
        else:
            # The sequence number gives the count modulo their number, the bytes skipped say which.
            count = header.sequence_count
            lost = (packet.sequence - self._expected) % count
            lost += count * max(0, round((self._skipped / full - lost) / count))
        silence = min(lost, self._silence) if not self._skipped else 0
        skipped, self._skipped = self._skipped, 0
        self._expected += lost
        if silence:
            yield Gap(silence, 0, is_silence=True)
        if lost > silence or skipped:
            yield Gap(lost - silence, skipped)
