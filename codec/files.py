"""Whole files in, whole files out, in constant memory."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from codec.config import Bitrate
from codec.errors import CodecError
from codec.format.container import MAX_CHANNELS, MAX_PAYLOAD, Gap, Header, Packet, PacketWriter
from codec.format.reading import PIPE, Scan, open_codes, read_header, read_packets, standard_input
from codec.io.audio import Resampler, Samples, create_audio, open_audio
from codec.network.model import Codec
from codec.stream import StreamDecoder, StreamEncoder

PACKET_SECONDS = 2.0

Progress = Callable[[float], None]
"""Told the share that is done, from 0 to 1."""


def encode_file(
    codec: Codec,
    source: str | Path,
    target: str | Path,
    *,
    bitrate: Bitrate | None = None,
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
    source, target = Path(source), Path(target)
    check_apart(source, target)
    with _audio_input(source) as readable, open_audio(readable, mono=mono) as reader:
        if reader.channels > MAX_CHANNELS:
            raise CodecError(
                f"{source} has {reader.channels} channels, a stream holds {MAX_CHANNELS}: "
                "mix down with --mono"
            )
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
                    scan.num_bytes += writer.write(packet)
                    scan.num_packets += 1
                    scan.num_frames += packet.num_frames

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
    source: str | Path,
    target: str | Path,
    *,
    bitrate: Bitrate | None = None,
    sample_rate: int | Literal["model"] | None = None,
    suffix: str | None = None,
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
        sample_rate: of the output; ``"model"`` for the model's own, the original one if None.
        suffix: names the output's format; that of ``target`` if None, wav for pipes.
        force: replace an existing target.
        progress: told the share that is done.
    """
    source, target = Path(source), Path(target)
    check_apart(source, target)
    if suffix is None:
        suffix = ".wav" if is_pipe(target) else target.suffix.lower()
    with open_codes(source) as file:
        header = read_header(file)
        decoder = StreamDecoder(codec_for(header), header, bitrate=bitrate)
        rate = header.sample_rate if sample_rate == "model" else sample_rate
        rate = rate or header.original_sample_rate
        resampler = Resampler(header.sample_rate, rate, header.channels)
        scan = Scan(header, num_bytes=Header.SIZE)
        size = os.fstat(file.fileno()).st_size
        with (
            atomic_output(target, force=force, seekable=True) as out,
            create_audio(out, suffix, rate, header.channels) as writer,
        ):

            def write(samples: Samples) -> None:
                # In pieces: a long packet of many channels at a high rate is large.
                for start in range(0, samples.shape[1], header.sample_rate):
                    piece = samples[:, start : start + header.sample_rate]
                    writer.write(resampler.push(piece))

            for item in read_packets(file, scan):
                if isinstance(item, Gap):
                    for _ in range(item.num_packets):
                        write(decoder.lost())
                else:
                    write(decoder.push(item))
                if progress is not None and size:
                    progress(min(1.0, scan.num_bytes / size))
            if scan.num_samples is None:
                write(decoder.finish())
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
    if is_pipe(target):
        if target == PIPE and sys.stdout is None:
            raise CodecError("there is no standard output: name a file instead of '-'")
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
    if os.path.lexists(target) and not force:
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


def is_pipe(path: Path) -> bool:
    """Whether this is stdin or stdout, a device or a named pipe: not to be replaced by rename."""
    return path == PIPE or (path.exists() and not path.is_file() and not path.is_dir())


def check_apart(source: Path, target: Path) -> None:
    """Raise a CodecError if the output would replace its own input."""
    if source.is_file() and target.is_file() and source.samefile(target):
        raise CodecError(f"{target} is the input itself: give the output another name")


@contextmanager
def _audio_input(source: Path) -> Iterator[Path | BinaryIO]:
    """``source``, or what comes through a pipe as a temporary file: audio formats need to seek."""
    if not is_pipe(source):
        yield source
        return
    with tempfile.TemporaryFile() as file:
        with standard_input() if source == PIPE else source.open("rb") as pipe:
            shutil.copyfileobj(pipe, file)
        file.seek(0)
        yield file


def _default_packet(codec: Codec, bitrate: Bitrate | None, channels: int) -> int:
    """Frames of about `PACKET_SECONDS`, fewer if so many channels would not fit a packet."""
    config = codec.config
    bits_per_frame = channels * config.codebooks_for(bitrate) * config.bits_per_code
    longest = 8 * MAX_PAYLOAD // bits_per_frame
    return max(1, min(int(PACKET_SECONDS * config.frame_rate), longest))
