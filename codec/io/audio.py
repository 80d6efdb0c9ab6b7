"""Read and write audio files block by block, in every format that libsndfile supports."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from codec.errors import AudioError

Samples = npt.NDArray[np.float32]
"""Audio as float32, nominally in [-1, 1]: ``[N]`` for one channel, ``[C, N]`` for several."""

BLOCK_SECONDS = 1.0
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 8_000, 192_000
# libsndfile's names of the format and of the sample encoding to write, by suffix.
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"),
    ".au": ("AU", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
    ".rf64": ("RF64", "PCM_16"),
    ".w64": ("W64", "PCM_16"),
}
# Suffixes of audio files in folders; a file that is named explicitly may have any suffix.
SUFFIXES = {*FORMATS, ".oga", ".aifc", ".snd"}


class Resampler:
    """Streaming resampler for blocks ``[C, n]``, with an exact total output length.

    Args:
        source_rate: sampling rate of the input in Hz.
        target_rate: sampling rate of the output in Hz.
        channels: number of channels C.

    Example:
        >>> resampler = Resampler(48_000, 24_000, channels=1)
        >>> first = resampler.push(np.zeros((1, 4_800), np.float32))
        >>> last = resampler.finish(num_samples=2_400)
        >>> first.shape[1] + last.shape[1]
        2400
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int) -> None:
        self._channels = channels
        self._stream = (
            None
            if source_rate == target_rate
            else soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32")
        )
        self._num_out = 0

    def push(self, block: Samples) -> Samples:
        """Resample a block and return the output ``[C, m]`` that is complete so far."""
        if self._stream is not None:
            block = self._stream.resample_chunk(np.ascontiguousarray(block.T)).T
        self._num_out += block.shape[1]
        return block

    def finish(self, num_samples: int) -> Samples:
        """Return the rest of the output, cut or zero-padded to ``num_samples`` in total.

        The resampler's own output length differs from the exact one by less than one sample.

        Args:
            num_samples: length of the whole output per channel.
        """
        tail = np.zeros((self._channels, 0), np.float32)
        if self._stream is not None:
            empty = np.zeros((0, self._channels), np.float32)
            tail = self._stream.resample_chunk(empty, last=True).T
        missing = num_samples - self._num_out
        tail = tail[:, : max(0, missing)]
        return np.pad(tail, ((0, 0), (0, max(0, missing - tail.shape[1]))))


class FileSection(io.RawIOBase):
    """A section of an open file as a read-only file object, to read archive members in place.

    Args:
        file: seekable binary file.
        offset: start of the section in bytes.
        size: length of the section in bytes.

    Example:
        >>> FileSection(io.BytesIO(b"0123456789"), offset=3, size=4).read()
        b'3456'
    """

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file, self._offset, self._size = file, offset, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._offset + self._position)
        data = self._file.read(wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class AudioReader:
    """An audio file opened for reading, in blocks or from any position.

    Created by `open_audio`.

    Attributes:
        sample_rate: sampling rate in Hz.
        channels: number of channels of the samples returned (1 if mixed down).
        num_samples: samples per channel according to the file header.

    Raises:
        AudioError: the sampling rate is outside the supported range.

    Example:
        >>> soundfile.write("a.wav", np.zeros(20_000), 8_000)
        >>> with open_audio(Path("a.wav")) as reader:
        ...     reader.seek(1_000)
        ...     [block.shape for block in reader.blocks()]
        [(1, 8000), (1, 8000), (1, 3000)]
    """

    def __init__(self, file: soundfile.SoundFile, name: str, mono: bool) -> None:
        self._file, self._name, self._mono = file, name, mono
        self.sample_rate = int(file.samplerate)
        self.channels = 1 if mono else int(file.channels)
        self.num_samples = int(file.frames)
        if not MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE:
            raise AudioError(
                f"{name} has {self.sample_rate} samples per second: "
                f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} are supported; resample it first"
            )

    def blocks(self) -> Iterator[Samples]:
        """Yield the rest of the file in ``[C, n]`` blocks of about one second.

        Raises:
            AudioError: a block cannot be read, or contains samples that are not finite.
        """
        size = round(BLOCK_SECONDS * self.sample_rate)
        while (block := self.read(size)).shape[1]:
            if not np.isfinite(block).all():
                raise AudioError(
                    f"{self._name} contains NaN or infinite samples: repair it before coding"
                )
            yield block

    def read(self, num_samples: int) -> Samples:
        """Read up to ``num_samples`` samples per channel, ``[C, n]``, without a check for NaN.

        Raises:
            AudioError: the file cannot be read.
        """
        try:
            block: Samples = self._file.read(num_samples, dtype="float32", always_2d=True).T
        except soundfile.SoundFileError as error:
            raise AudioError(f"{self._name} cannot be read to its end: {error}") from error
        return block.mean(axis=0, keepdims=True) if self._mono else block

    def seek(self, sample: int) -> None:
        """Set the position of the next `read`, in samples from the beginning.

        Raises:
            AudioError: the file cannot be read from there.
        """
        try:
            self._file.seek(sample)
        except soundfile.SoundFileError as error:
            message = f"{self._name} cannot be read from sample {sample}: {error}"
            raise AudioError(message) from error


@contextmanager
def open_audio(
    source: Path | BinaryIO | FileSection, *, mono: bool = False, name: str | None = None
) -> Iterator[AudioReader]:
    """Open an audio file in any format that libsndfile reads.

    Args:
        source: path, or a seekable binary file.
        mono: mix all channels down to one.
        name: name for error messages; the path if None.

    Yields:
        A reader positioned at the first sample.

    Raises:
        AudioError: the file is missing, empty or not audio, or its sampling rate is not
            supported.

    Example:
        >>> soundfile.write("a.wav", np.zeros((8_000, 2)), 8_000)
        >>> with open_audio(Path("a.wav")) as reader:
        ...     reader.sample_rate, reader.channels, reader.read(100).shape
        (8000, 2, (2, 100))
    """
    name = name or (str(source) if isinstance(source, Path) else "the input")
    if isinstance(source, Path):
        if source.is_dir():
            raise AudioError(f"{name} is a folder: name a file, or use --out-dir for whole folders")
        if not source.exists():
            raise AudioError(f"{name} does not exist: check the path")
        if source.is_file() and not source.stat().st_size:
            raise AudioError(f"{name} is empty (0 bytes): check how it was written")
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            # Opened by file descriptor: libsndfile then recognises the format by content instead
            # of the suffix (it reads ".raw" as headerless), and read errors are raised by its C
            # code and not inside a Python callback.
            readable = handle if isinstance(handle, FileSection) else handle.fileno()
            file = stack.enter_context(soundfile.SoundFile(readable, closefd=False))
        except OSError as error:
            raise AudioError(f"{name} cannot be opened: {error.strerror}") from error
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{name} is not audio that libsndfile reads (wav, flac, mp3, ogg, ...): "
                "convert it first"
            ) from error
        yield AudioReader(file, name, mono)


class AudioWriter:
    """An audio file opened for writing in blocks. Created by `create_audio`.

    Example:
        >>> with open("a.wav", "wb") as file, create_audio(file, ".wav", 8_000, 1) as writer:
        ...     for _ in range(3):
        ...         writer.write(np.zeros((1, 100), np.float32))
        >>> soundfile.info("a.wav").frames
        300
    """

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file

    def write(self, block: Samples) -> None:
        """Append samples ``[C, n]``; values beyond full scale are clipped.

        Raises:
            AudioError: the samples cannot be written.
        """
        try:
            self._file.write(block.T.clip(-1.0, 1.0))
        except (AssertionError, soundfile.SoundFileError) as error:
            # soundfile signals a short write by a failed assertion.
            raise AudioError("the output cannot be written: is the disk full?") from error


@contextmanager
def create_audio(
    target: BinaryIO, suffix: str, sample_rate: int, channels: int
) -> Iterator[AudioWriter]:
    """Open an audio file for writing.

    Args:
        target: binary file, opened for writing.
        suffix: format by file suffix, one of `FORMATS`; lossless formats are written in 16 bits.
        sample_rate: sampling rate in Hz.
        channels: number of channels.

    Yields:
        A writer for blocks ``[C, n]``.

    Raises:
        AudioError: the suffix is unknown, or the format does not support the sampling rate or
            the number of channels.

    Example:
        >>> with open("a.flac", "wb") as file, create_audio(file, ".flac", 8_000, 2) as writer:
        ...     writer.write(np.zeros((2, 100), np.float32))
        >>> soundfile.info("a.flac").frames
        100
    """
    if suffix not in FORMATS:
        raise AudioError(
            f"cannot write {suffix or 'a file without suffix'}: "
            f"end the output's name in one of {', '.join(sorted(FORMATS))}"
        )
    container, subtype = FORMATS[suffix]
    try:
        file = soundfile.SoundFile(
            target.fileno(),
            "w",
            sample_rate,
            channels,
            format=container,
            subtype=subtype,
            closefd=False,
        )
    except (soundfile.SoundFileError, ValueError) as error:
        raise AudioError(
            f"{suffix} cannot hold {channels} channels at {sample_rate} Hz: write .wav"
        ) from error
    with file:
        yield AudioWriter(file)
