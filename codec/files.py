"""Whole files in, whole files out, in constant memory."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from codec.audio import Resampler, create_audio, open_audio
from codec.container import MAX_PAYLOAD, Gap, Header, Packet, PacketWriter
from codec.errors import CodecError
from codec.model import Codec
from codec.scan import PIPE, Scan, open_codes, read_header, read_packets
from codec.stream import StreamDecoder, StreamEncoder

PACKET_SECONDS = 2.0

Progress = Callable[[float], None]
"""Told the share that is done, from 0 to 1."""


def encode_file(
    codec: Codec,
    source: Path,
    target: Path,
    *,
    bitrate: int | None = None,
    mono: bool = False,
    frames_per_packet: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Scan:
    """Encode an audio file to a ``.codes`` file; ``-`` is stdin or stdout.

    Args:
        codec: the model.
        source: any file that libsndfile reads.
        target: appears by rename when complete.
        bitrate: target in bits per second and channel; the model's highest if None.
        mono: mix all channels to one.
        frames_per_packet: `PACKET_SECONDS` worth if None.
        force: replace an existing target.
        progress: told the share that is done.

    Returns:
        What was written.

    Raises:
        CodecError: with one line that names the remedy; nothing is left half-written.
    """
    if bitrate is not None:
        codec.config.codebooks_for(bitrate)  # a wrong bitrate shows before any file is opened
    with _audio_input(source) as readable, open_audio(readable, mono=mono) as reader:
        if frames_per_packet is None:
            frames_per_packet = _default_packet(codec, bitrate, reader.channels)
        encoder = StreamEncoder(
            codec,
            bitrate=bitrate,
            channels=reader.channels,
            frames_per_packet=frames_per_packet,
            original_sample_rate=reader.sample_rate,
        )
        header = encoder.header
        resampler = Resampler(reader.sample_rate, codec.config.sample_rate, reader.channels)
        scan = Scan(header, num_bytes=Header.SIZE)
        with atomic_output(target, force=force) as file:
            writer = PacketWriter(file, header)

            def write(packets: list[Packet]) -> None:
                for packet in packets:
                    writer.write(packet)
                    scan.num_packets += 1
                    scan.num_frames += packet.num_frames
                    scan.num_bytes += len(packet.to_bytes())

            num_samples = 0
            for block in reader.blocks():
                num_samples += block.shape[1]
                write(encoder.push(resampler.push(block)))
                if progress is not None and reader.num_samples:
                    progress(min(1.0, num_samples / reader.num_samples))
            write(encoder.push(resampler.finish(header.model_samples(num_samples))))
            write(encoder.finish(num_samples))
            scan.num_samples = num_samples
    return scan


def decode_file(
    codec_for: Callable[[Header], Codec],
    source: Path,
    target: Path,
    *,
    bitrate: int | None = None,
    sample_rate: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Scan:
    """Decode a ``.codes`` file to an audio file; ``-`` is stdin or stdout (wav).

    Lost packets are concealed. If the damage is so heavy that nothing can be decoded, an error is
    raised; otherwise the caller reads it off the result.

    Args:
        codec_for: gives the model for a header.
        source: the stream.
        target: format by suffix; appears by rename when complete.
        bitrate: decode at most this many bits per second and channel.
        sample_rate: of the output; the original one if None.
        force: replace an existing target.
        progress: told the share that is done.
    """
    suffix = ".wav" if target == PIPE else target.suffix.lower()
    with open_codes(source) as file:
        header = read_header(file)
        decoder = StreamDecoder(codec_for(header), header, bitrate=bitrate)
        rate = header.original_sample_rate if sample_rate is None else sample_rate
        resampler = Resampler(header.sample_rate, rate, header.channels)
        scan = Scan(header, num_bytes=Header.SIZE)
        size = os.fstat(file.fileno()).st_size
        with (
            atomic_output(target, force=force, seekable=True) as out,
            create_audio(out, suffix, rate, header.channels) as writer,
        ):
            for item in read_packets(file, scan):
                if isinstance(item, Gap):
                    for _ in range(item.num_packets):
                        writer.write(resampler.push(decoder.lost()))
                else:
                    writer.write(resampler.push(decoder.push(item)))
                if progress is not None and size:
                    progress(min(1.0, scan.num_bytes / size))
            if scan.num_samples is None:
                writer.write(resampler.push(decoder.finish()))
            model_samples = decoder.num_emitted
            num_samples = -(-model_samples * rate // header.sample_rate)
            if scan.num_samples is not None:
                claimed = -(-scan.num_samples * rate // header.original_sample_rate)
                num_samples = min(claimed, num_samples)
            writer.write(resampler.finish(num_samples))
    return scan


@contextmanager
def atomic_output(target: Path, *, force: bool, seekable: bool = False) -> Iterator[BinaryIO]:
    """A file that appears under its name only when complete.

    Args:
        target: ``-`` is stdout; a device or named pipe is written as it is.
        force: replace an existing file.
        seekable: the writer seeks, so what goes to a pipe is completed in a temporary file first.
    """
    if target == PIPE or (target.exists() and not target.is_file() and not target.is_dir()):
        with sys.stdout.buffer if target == PIPE else target.open("wb") as pipe:
            if not seekable:
                yield pipe
                return
            with tempfile.TemporaryFile() as file:
                yield file
                file.seek(0)
                shutil.copyfileobj(file, pipe)
        return
    if target.is_dir():
        raise CodecError(f"{target} is a folder: name a file in it")
    if target.exists() and not force:
        raise CodecError(f"{target} exists: give --force to replace it")
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise CodecError(
            f"cannot write to {target.parent}: {error.strerror}; choose another place"
        ) from error
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _audio_input(source: Path) -> Iterator[Path | BinaryIO]:
    """``source``, or stdin as a temporary file: audio formats need to seek."""
    if source != PIPE:
        yield source
        return
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.seek(0)
        yield file


def _default_packet(codec: Codec, bitrate: int | None, channels: int) -> int:
    """Frames of about `PACKET_SECONDS`, fewer if so many channels would not fit a packet."""
    config = codec.config
    num_codebooks = config.num_codebooks if bitrate is None else config.codebooks_for(bitrate)
    bits_per_frame = channels * num_codebooks * config.bits_per_code
    longest = 8 * MAX_PAYLOAD // bits_per_frame
    return max(1, min(int(PACKET_SECONDS * config.frame_rate), longest))
