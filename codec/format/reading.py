"""Reading a ``.codes`` file or pipe packet by packet, with an account of what was found.

No torch here: ``aecodec info`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from codec.errors import CodecError, FormatError
from codec.format.container import Gap, Header, Packet, PacketReader

PIPE = Path("-")
CHUNK_SIZE = 2**16
# Sound that is made up for lost packets may be this many times what arrived, and some seconds more.
MAX_CONCEALED = 2
MAX_CONCEALED_SECONDS = 10


@dataclass
class Scan:
    """What a stream holds, found without decoding it.

    Attributes:
        header: of the stream.
        num_packets: good ones.
        num_frames: frames in them.
        num_lost: packets damaged or missing, as far as can be told.
        num_bytes: of the whole stream.
        num_samples: per channel at the original rate; None if the stream has no end.
        num_last_frames: frames in the last packet.
    """

    header: Header
    num_packets: int = 0
    num_frames: int = 0
    num_lost: int = 0
    num_bytes: int = 0
    num_samples: int | None = None
    num_last_frames: int = 0

    @property
    def duration_seconds(self) -> float:
        if self.num_samples is not None:
            return self.num_samples / self.header.original_sample_rate
        return self.num_frames * self.header.hop_length / self.header.sample_rate

    def damage(self) -> str | None:
        """One line about what is wrong with the stream, None if nothing is."""
        if self.num_samples is None:
            return "the stream has no last packet: it was cut short" + (
                f", and {self.num_lost} packets are damaged or missing" if self.num_lost else ""
            )
        if self.num_lost:
            return f"{self.num_lost} packets are damaged or missing"
        expected = self.header.num_frames(self.num_samples)
        if self.num_frames != expected:
            return f"the stream has {self.num_frames} frames but its last packet says {expected}"
        before_last = (self.num_frames - self.num_last_frames) * self.header.hop_length
        if before_last > self.header.model_samples(self.num_samples):
            return f"the last packet says {self.num_samples} samples, but more came before it"
        return None


def scan_file(source: Path) -> Scan:
    """Read a stream through, checking every checksum, without decoding it."""
    with open_codes(source) as file:
        scan = Scan(read_header(file), num_bytes=Header.SIZE)
        for _ in read_packets(file, scan):
            pass
    return scan


def read_header(file: BinaryIO) -> Header:
    """The header at the start of a file or pipe."""
    data = b""
    while len(data) < Header.SIZE and (more := file.read(Header.SIZE - len(data))):
        data += more
    return Header.from_bytes(data)


def read_packets(file: BinaryIO, scan: Scan) -> Iterator[Packet | Gap]:
    """Packets and gaps that follow the header, counted in ``scan``.

    Raises:
        FormatError: the gaps claim far more sound than arrived.
    """
    header = scan.header
    reader = PacketReader(header)
    frames_per_second = header.sample_rate / header.hop_length
    few = 1 + int(MAX_CONCEALED_SECONDS * frames_per_second / header.frames_per_packet)

    def count(items: Iterator[Packet | Gap]) -> Iterator[Packet | Gap]:
        for item in items:
            if isinstance(item, Gap):
                scan.num_lost += item.num_packets
                if scan.num_lost > few + MAX_CONCEALED * scan.num_packets:
                    raise FormatError(
                        f"{scan.num_lost} of {scan.num_lost + scan.num_packets} packets are "
                        "missing: the stream is too damaged"
                    )
            else:
                scan.num_packets += 1
                scan.num_frames += item.num_frames
                scan.num_samples = item.num_samples
                scan.num_last_frames = item.num_frames
            yield item

    while not reader.ended and (data := file.read1(CHUNK_SIZE)):  # type: ignore[attr-defined]
        scan.num_bytes += len(data)
        yield from count(reader.push(data))
    yield from count(reader.finish())


@contextmanager
def open_codes(source: Path) -> Iterator[BinaryIO]:
    """A stream opened for reading; ``-`` is stdin."""
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


def standard_input() -> BinaryIO:
    """The bytes of stdin.

    Raises:
        CodecError: the process was started without one.
    """
    if sys.stdin is None:
        raise CodecError("there is no standard input: name a file instead of '-'")
    return sys.stdin.buffer
