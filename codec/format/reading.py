"""Reading a ``.codes`` file or pipe packet by packet, and counting what is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from codec.errors import CodecError, FormatError
from codec.format.container import Gap, Header, Packet, PacketReader
from codec.format.summary import StreamSummary
from codec.io.pipes import PIPE, standard_input

CHUNK_SIZE = 2**16
# Concealment may last this many times as long as what arrived, and some seconds more.
MAX_CONCEALED = 2
MAX_CONCEALED_SECONDS = 10


def summarize_file(source: Path) -> StreamSummary:
    """Read a stream to its end and check every checksum, without decoding it.

    Args:
        source: path of the stream; ``-`` is standard input.

    Raises:
        CodecError: the stream cannot be opened.
        FormatError: it is not a stream, or too damaged to be one.
    """
    with open_codes(source) as file:
        summary = StreamSummary(read_header(file))
        for _ in read_packets(file, summary):
            pass
    return summary


def read_header(file: BinaryIO) -> Header:
    """The header at the start of a file or pipe."""
    data = b""
    while (missing := Header.size_of(data) - len(data)) and (more := file.read(missing)):
        data += more
    return Header.from_bytes(data)


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
    header = summary.header
    reader = PacketReader(header)
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

    while not reader.ended and (data := file.read1(CHUNK_SIZE)):  # type: ignore[attr-defined]
        summary.num_bytes += len(data)
        yield counted(reader.push(data))
    yield counted(reader.finish())


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
