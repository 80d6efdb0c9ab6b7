"""`encode` and `encode_file`: arrays and audio files to ``.codes`` files, block by block."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from codec.arguments import check_flag, check_whole
from codec.arrays import Samples
from codec.errors import AudioError
from codec.format.container import MAX_CHANNELS, Packet, PacketWriter
from codec.format.summary import StreamSummary
from codec.format.timeline import Timeline
from codec.io.audio import (
    BLOCK_SECONDS,
    MAX_SAMPLE_RATE,
    MIN_SAMPLE_RATE,
    AudioReader,
    Resampler,
    open_audio,
)
from codec.io.outputs import atomic_output, check_files
from codec.io.pipes import FileLike, seekable_input
from codec.rate.modes import FileSize, Quality, Rate, RateLike, as_rate
from codec.rate.quality import search_size
from codec.registry import ModelLike, as_model
from codec.session.analyzer import as_float32, seconds_at_once
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing

Progress = Callable[[float], None]
"""Called with the share that is done, from 0 to 1; 0 as long as it is unknown."""


def encode(
    audio: npt.ArrayLike,
    sample_rate: int,
    *,
    model: ModelLike | None = None,
    rate: RateLike = None,
    effort: int = 0,
) -> bytes:
    """Encode an array to the bytes of a ``.codes`` file.

    Args:
        audio: ``[n]`` or ``[C, n]`` floats, nominally in [-1, 1]: one or several channels.
        sample_rate: sampling rate of the audio in Hz, 8,000 to 192,000.
        model: as in `encode_file`.
        rate: as in `encode_file`.
        effort: as in `encode_file`.

    Returns:
        What `encode_file` writes for the same samples, and `decode` or `decode_file` take.

    Raises:
        AudioError: wrong shape, type or sampling rate, or samples that are not finite.
        CodecError: the model cannot be loaded, or has no such rate.

    Example:
        >>> time = np.arange(24_000) / 24_000
        >>> data = encode(0.1 * np.sin(2 * np.pi * 440 * time), 24_000, rate=3_000)
        >>> len(data) < 500
        True
    """
    out = io.BytesIO()
    write_stream(ArrayReader(audio, sample_rate), out, model, rate, effort=effort)
    return out.getvalue()


def encode_file(
    source: FileLike,
    target: FileLike,
    *,
    model: ModelLike | None = None,
    rate: RateLike = None,
    mono: bool = False,
    effort: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> StreamSummary:
    """Encode an audio file to a ``.codes`` file.

    Args:
        source: path of any file that libsndfile reads, or FFmpeg with the extra ``media``; ``-`` is
            standard input; or a binary file object.
        target: path of the stream; ``-`` is standard output; or a binary file object. A file
            appears by rename when complete, a file object is written as the packets come.
        model: a loaded model, the name of a packaged one or a model folder; the default one if
            None.
        rate: how many codes each frame gets: `Constant`, `Average`, `Quality` or `FileSize`. A
            number is that of bits per second and channel of an `Average`; None is ``Constant()``,
            the model's highest.
        mono: whether to mix all channels to one.
        effort: 0 to 3; above 0 a search finds better codes for the same bitrate, which takes time.
        force: replace an existing target.
        progress: called with the share that is done.

    Returns:
        What was written.

    Raises:
        CodecError: with one line that names the remedy; no file is left half-written.

    Example:
        >>> import soundfile
        >>> soundfile.write("talk.wav", [0.0] * 24_000, 24_000)
        >>> summary = encode_file("talk.wav", "talk.codes", rate=3_000)
        >>> summary.num_frames, summary.num_bytes < 375  # silence takes less than 3 kbit/s
        (51, True)
    """
    source, target = check_files(source, target)
    mono, force = check_flag("mono", mono), check_flag("force", force)
    with seekable_input(source) as readable, open_audio(readable, mono=mono) as reader:
        if reader.channels > MAX_CHANNELS:
            raise AudioError(
                f"{source} has {reader.channels} channels, a stream holds {MAX_CHANNELS}: "
                "mix down with --mono"
            )
        with atomic_output(target, force=force) as out:
            return write_stream(reader, out, model, rate, effort=effort, progress=progress)


class ArrayReader:
    """An array that is read as `AudioReader` reads a file.

    Args:
        audio: ``[n]`` or ``[C, n]`` floats.
        sample_rate: sampling rate in Hz.

    Raises:
        AudioError: it cannot be encoded.
    """

    def __init__(self, audio: npt.ArrayLike, sample_rate: int) -> None:
        self.sample_rate = check_whole(
            "sample_rate", sample_rate, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE, AudioError
        )
        samples = as_float32(audio, "audio is", "[n] or [channels, n]")
        self._audio = samples[None] if samples.ndim == 1 else samples
        if self._audio.ndim != 2 or not 1 <= len(self._audio) <= MAX_CHANNELS:
            raise AudioError(
                f"audio has shape {list(samples.shape)}: give [n] or [channels, n] with 1 to "
                f"{MAX_CHANNELS} channels"
            )
        self.channels, self.num_samples = self._audio.shape
        self._position = 0

    def seek(self, sample: int) -> None:
        """Set where `blocks` begins."""
        self._position = sample

    def blocks(self) -> Iterator[Samples]:
        """The rest in ``[C, n]`` blocks of a second."""
        step = round(BLOCK_SECONDS * self.sample_rate)
        for start in range(self._position, self.num_samples, step):
            yield self._audio[:, start : start + step]


def write_stream(
    reader: AudioReader | ArrayReader,
    out: BinaryIO,
    model: ModelLike | None,
    rate: RateLike,
    *,
    effort: int = 0,
    packing: Packing | None = None,
    progress: Progress | None = None,
) -> StreamSummary:
    """Encode all that ``reader`` holds, which stands at its beginning, to an open file."""
    loaded, rate = as_model(model), as_rate(rate)
    packing = packing or Packing.file(num_samples=reader.num_samples)
    threads = loaded.engine.threads
    at_once = 1
    if threads > 1:
        at_once = round(seconds_at_once(threads, reader.channels) / BLOCK_SECONDS)

    def encode_at(rate: Rate, file: BinaryIO, begin: float = 0.0) -> StreamSummary:
        encoder = StreamEncoder(
            loaded,
            rate=rate,
            channels=reader.channels,
            packing=packing,
            effort=effort,
            original_sample_rate=reader.sample_rate,
        )

        def report(num_samples: int) -> None:
            if progress is not None:  # some files do not tell how long they are
                share = min(1.0, num_samples / reader.num_samples) if reader.num_samples else 0.0
                progress(begin + (1 - begin) * share)

        return _encode(reader, encoder, file, report, at_once)

    if not isinstance(rate, FileSize):
        return encode_at(rate, out)
    with ExitStack() as stack:
        found: dict[float, tuple[BinaryIO, StreamSummary]] = {}

        def size_at(quality: float) -> int:
            reader.seek(0)
            file = stack.enter_context(tempfile.TemporaryFile())
            # Each pass has a half of what is left of the progress bar.
            summary = encode_at(Quality(quality), file, 1 - 0.5 ** len(found))
            found[quality] = file, summary
            return summary.num_bytes

        file, summary = found[search_size(rate.num_bytes, size_at)]
        file.seek(0)
        shutil.copyfileobj(file, out)
    return summary


def _encode(
    reader: AudioReader | ArrayReader,
    encoder: StreamEncoder,
    file: BinaryIO,
    report: Callable[[int], None],
    at_once: int,
) -> StreamSummary:
    """Encode some blocks at once; ``report`` is called with the number of samples so far."""
    header = encoder.header
    resampler = Resampler(reader.sample_rate, header.sample_rate, reader.channels)
    writer, summary = PacketWriter(file, header), StreamSummary(header)

    def write(packets: list[Packet]) -> None:
        for packet in packets:
            summary.num_bytes += writer.write(packet)
            summary.count(packet)

    num_samples, held = 0, []
    for block in reader.blocks():
        num_samples += block.shape[1]
        held.append(resampler.push(block))
        if len(held) == at_once:
            write(encoder.push(np.concatenate(held, axis=1)))
            held = []
            report(num_samples)
    held.append(resampler.finish(Timeline(header).model_length(num_samples)))
    write(encoder.push(np.concatenate(held, axis=1)))
    write(encoder.finish(num_samples))
    return summary
