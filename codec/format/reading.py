"""Reading a ``.codes`` file or pipe packet by packet, and counting what is found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from codec.errors import CodecError, FormatError
from codec.format.container import (
    MAX_FRAMES_PER_BYTE,
    START_OF_HEADER,
    Gap,
    Header,
    Packet,
    PacketReader,
)
from codec.format.summary import StreamSummary
from codec.format.timeline import Timeline
from codec.io.pipes import PIPE, FileLike, check_file, open_pipe

CHUNK_SIZE = 2**16
TOGETHER_SECONDS = 64.0
"""Audio that is decoded side by side, all channels together. It lies in memory."""
# Concealment may last this many times as long as what arrived, and some seconds more.
MAX_CONCEALED = 2
MAX_CONCEALED_SECONDS = 10
MAX_UNTRACED_SECONDS = 20
"""The same for what left no bytes behind, in a whole file and all channels together."""
MAX_SEARCH = 2**28
"""Bytes among which the header of a stream is searched for."""


def summarize_file(source: FileLike) -> StreamSummary:
    """Read a file or pipe to its end and check every checksum, without decoding it.

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

    A batch has so few packets that they can be decoded side by side.
    """

    header: Header
    summary: StreamSummary  # counts what is read
    batches: Iterator[list[Packet | Gap]]  # as they are read

    def read_on(self) -> StreamSummary:
        """Read what is left, for what it counts."""
        for _ in self.batches:
            pass
        return self.summary


def read_streams(file: BinaryIO) -> Iterator[StoredStream]:
    """The streams that a file or pipe holds, one after the other.

    What is left of a stream when the next one is asked for is not given any more. Bytes that belong
    to no stream count as damage of the stream before them, or else of the first one.

    Raises:
        FormatError: the file holds no stream, or one is too damaged.
    """
    source, claims = _Source(file), _Claims()
    unread, problem = source.seek_header()
    if source.header is None:
        raise FormatError(problem)
    while source.header is not None:
        reader, summary = PacketReader(source.header), StreamSummary(source.header)
        summary.count_unread(unread, problem)
        unread = 0
        stream = StoredStream(reader.header, summary, _batches(source, reader, summary, claims))
        yield stream
        stream.read_on()


class _Source:
    """A file or pipe that takes bytes back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._kept = file, bytearray()
        self._read = getattr(file, "read1", file.read)  # what is there, without waiting for more
        self.header: Header | None = None  # that was found last; None if there is no more

    def read1(self, size: int) -> bytes:
        """What is there, up to ``size`` bytes; nothing at the end."""
        kept, self._kept = bytes(self._kept), bytearray()
        return kept or bytes(self._read(size))

    def put_back(self, data: bytes) -> None:
        """Let bytes be read again."""
        self._kept[:0] = data

    def seek_header(self) -> tuple[int, str]:
        """Find the next `header`, behind which reading goes on.

        Returns:
            The number of bytes before it, and why they are no header.
        """
        skipped, problem = 0, ""
        while True:
            head = self._peek(Header.size_of(self._peek(Header.SIZE)))
            try:
                self.header = Header.from_bytes(head)
            except FormatError as error:
                self.header, problem = None, problem or str(error)
            if self.header is not None or not head or skipped > MAX_SEARCH:
                del self._kept[: self.header.size if self.header else 0]
                return skipped, problem
            skipped += self._skip()

    def _peek(self, size: int) -> bytes:
        """The next bytes, as many as ``size`` if the file has them."""
        while len(self._kept) < size and (more := self._file.read(size - len(self._kept))):
            self._kept += more
        return bytes(self._kept[:size])

    def _skip(self) -> int:
        """Skip what is there up to the next place where a header may start, a byte at least."""
        if len(self._kept) <= Header.SIZE:
            self._kept += self._read(CHUNK_SIZE)
        found = _START.search(self._kept, 1)
        end = found.start() if found else len(self._kept)
        del self._kept[:end]
        return end


_START = re.compile(START_OF_HEADER)


class _Claims:
    """How much audio a file claims to hold, which a forged one claims without limit."""

    def __init__(self) -> None:
        self._num_bytes = self._num_frames = 0  # frames of each channel
        self._arrived = self._untraced = 0.0  # seconds of each channel

    def count(self, header: Header, item: Packet | Gap) -> None:
        """Take a packet or gap into account.

        Raises:
            FormatError: it is too much for the bytes of the file.
        """
        frames = Timeline(header).num_frames(item) * header.channels
        size = item.size if isinstance(item, Packet) else item.num_bytes
        if isinstance(item, Packet):
            self._arrived += header.seconds(frames)
        elif not item.is_silence:
            untraced = max(0, frames - MAX_FRAMES_PER_BYTE * size)
            frames -= untraced
            self._untraced += header.seconds(untraced)
        self._num_bytes += size
        self._num_frames += frames
        if self._num_frames > MAX_FRAMES_PER_BYTE * self._num_bytes:
            raise FormatError(
                f"packets of {self._num_bytes} bytes claim {self._num_frames} frames, the limit is "
                f"{MAX_FRAMES_PER_BYTE} for each byte: the file is forged, get it again"
            )
        if self._untraced > MAX_UNTRACED_SECONDS + MAX_CONCEALED * self._arrived:
            raise FormatError(
                f"{self._untraced:.0f} seconds are missing without a trace, all channels together: "
                "the file is too damaged, get it again"
            )


def _batches(
    source: _Source, reader: PacketReader, summary: StreamSummary, claims: _Claims
) -> Iterator[list[Packet | Gap]]:
    header = reader.header
    frames_per_second = header.sample_rate / header.hop_length
    few = 1 + int(MAX_CONCEALED_SECONDS * frames_per_second / header.frames_per_packet)
    most = most_together(header)

    def batches(items: list[Packet | Gap]) -> Iterator[list[Packet | Gap]]:
        for start in range(0, len(items), most):
            batch = items[start : start + most]
            for item in batch:
                summary.count(item)
                claims.count(header, item)
                if summary.num_lost > few + MAX_CONCEALED * summary.num_packets:
                    raise FormatError(
                        f"{summary.num_lost} of {summary.num_lost + summary.num_packets} packets "
                        "are missing: the stream is too damaged"
                    )
            yield batch

    while not reader.stopped and (data := source.read1(CHUNK_SIZE)):
        summary.num_bytes += len(data)
        yield from batches(reader.push(data))
    yield from batches(reader.finish())
    if reader.stopped:
        summary.num_bytes -= len(reader.rest)
        source.put_back(reader.rest)
    summary.count_unread(*source.seek_header())


def most_together(header: Header) -> int:
    """Number of packets that are decoded side by side, `TOGETHER_SECONDS` at most, or one."""
    seconds = header.channels * header.seconds(header.frames_per_packet)
    return max(1, int(TOGETHER_SECONDS / seconds))


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
def open_codes(source: FileLike) -> Iterator[BinaryIO]:
    """Open a stream for reading; a file object stays open.

    Raises:
        CodecError: it is a folder or cannot be opened.
    """
    source = check_file("source", source, "read")
    if isinstance(source, Path) and source != PIPE and source.is_dir():
        raise CodecError(f"{source} is a folder: name files, or give --out-dir to take it whole")
    try:
        opened = open_pipe(source, "input")
    except OSError as error:
        raise CodecError(f"{source} cannot be opened: {error.strerror}; check the path") from error
    with opened as file:
        yield file
