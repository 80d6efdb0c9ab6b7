"""Reading a ``.codes`` file or pipe packet by packet, and counting what is found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from codec.errors import CodecError, FormatError
from codec.format.container import MAGIC, Gap, Header, Packet, PacketReader
from codec.format.summary import StreamSummary
from codec.io.pipes import PIPE, standard_input

CHUNK_SIZE = 2**16
# Concealment may last this many times as long as what arrived, and some seconds more.
MAX_CONCEALED = 2
MAX_CONCEALED_SECONDS = 10


def summarize_file(source: Path) -> StreamSummary:
    """Read a file or pipe to its end and check every checksum, without decoding it.

    Args:
        source: path of the file; ``-`` is standard input.

    Raises:
        CodecError: the file cannot be opened.
        FormatError: it is not a stream, or too damaged to be one.
    """
    with open_codes(source) as file:
        streams = read_streams(file)
        summary = next(streams).read_on()
        for stream in streams:
            summary.append(stream.read_on())
    return summary


@dataclass
class StoredStream:
    """A stream in a file.

    Attributes:
        header: its header.
        summary: counts what is read.
        batches: its packets and gaps, by the pieces in which the file gives its bytes.
    """

    header: Header
    summary: StreamSummary
    batches: Iterator[list[Packet | Gap]]

    def read_on(self) -> StreamSummary:
        """Read what is left, for what it counts."""
        for _ in self.batches:
            pass
        return self.summary


def read_streams(file: BinaryIO) -> Iterator[StoredStream]:
    """The streams that a file or pipe holds, one after the other.

    Each must be read to its end before the next one. Bytes after the last stream that are not a
    stream are ignored.

    Raises:
        FormatError: the file does not begin with a stream, or one is too damaged.
    """
    source = _Source(file)
    while True:
        header = Header.from_bytes(source.read_header())
        reader, summary = PacketReader(header), StreamSummary(header)
        yield StoredStream(header, summary, _batches(source, reader, summary))
        source.put_back(reader.rest)
        if not reader.ended or source.peek(len(MAGIC)) != MAGIC:
            return


class _Source:
    """A file or pipe that takes bytes back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._kept = file, b""

    def read1(self, size: int) -> bytes:
        """What is there, up to ``size`` bytes; nothing at the end."""
        kept, self._kept = self._kept, b""
        return kept or self._file.read1(size)  # type: ignore[attr-defined]

    def peek(self, size: int) -> bytes:
        """The next bytes, as many as ``size`` if the file has them."""
        while len(self._kept) < size and (more := self._file.read(size - len(self._kept))):
            self._kept += more
        return self._kept[:size]

    def read_header(self) -> bytes:
        """The bytes of a header, or fewer at the end of the file."""
        size = Header.size_of(self.peek(Header.SIZE))
        head = self.peek(size)
        self._kept = self._kept[size:]
        return head

    def put_back(self, data: bytes) -> None:
        """Let bytes be read again."""
        self._kept = data + self._kept


def read_header(file: BinaryIO) -> Header:
    """The header at the start of a file or pipe."""
    return Header.from_bytes(_Source(file).read_header())


def read_packets(file: BinaryIO, summary: StreamSummary) -> Iterator[Packet | Gap]:
    """Packets and gaps that follow the header.

    Args:
        file: positioned after the header.
        summary: counts what is yielded.

    Raises:
        FormatError: the gaps claim far more audio than arrived.
    """
    for batch in read_batches(file, summary):
        yield from batch


def read_batches(file: BinaryIO, summary: StreamSummary) -> Iterator[list[Packet | Gap]]:
    """`read_packets` by the pieces in which a file or pipe gives its bytes."""
    return _batches(_Source(file), PacketReader(summary.header), summary)


def _batches(
    source: _Source, reader: PacketReader, summary: StreamSummary
) -> Iterator[list[Packet | Gap]]:
    header = reader.header
    frames_per_second = header.sample_rate / header.hop_length
    few = 1 + int(MAX_CONCEALED_SECONDS * frames_per_second / header.frames_per_packet)

    def counted(items: Iterator[Packet | Gap]) -> list[Packet | Gap]:
        found = []
        for item in items:
            summary.count(item)
            if summary.num_lost > few + MAX_CONCEALED * summary.num_packets:
                raise FormatError(
                    f"{summary.num_lost} of {summary.num_lost + summary.num_packets} packets are "
                    "missing: the stream is too damaged"
                )
            found.append(item)
        return found

    while not reader.ended and (data := source.read1(CHUNK_SIZE)):
        summary.num_bytes += len(data)
        yield counted(reader.push(data))
    yield counted(reader.finish())
    if reader.ended:
        summary.num_bytes -= len(reader.rest)


def together(items: Iterable[Packet | Gap], most: int) -> Iterator[list[Packet] | Gap]:
    """Packets that follow one another, ``most`` at a time, and the gaps between them.

    Packets that are given together can be decoded side by side.
    """
    packets: list[Packet] = []
    for item in items:
        if packets and (isinstance(item, Gap) or len(packets) == most):
            yield packets
            packets = []
        if isinstance(item, Gap):
            yield item
        else:
            packets.append(item)
    if packets:
        yield packets


@contextmanager
def open_codes(source: Path) -> Iterator[BinaryIO]:
    """Open a stream for reading; ``-`` is standard input.

    Raises:
        CodecError: it is a folder or cannot be opened.
    """
    if source == PIPE:
        yield standard_input()
        return
    if source.is_dir():
        raise CodecError(f"{source} is a folder: name files, or give --out-dir to take it whole")
    try:
        file = source.open("rb")
    except OSError as error:
        raise CodecError(f"{source} cannot be opened: {error.strerror}; check the path") from error
    with file:
        yield file
