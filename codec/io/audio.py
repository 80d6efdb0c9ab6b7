"""Audio files in and out, in blocks: whatever libsndfile reads, at any rate, with any channels."""

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

BLOCK_SECONDS = 1.0
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 8_000, 192_000
# libsndfile's name of the format and of the coding that is written, by suffix.
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
# What is looked for in folders; a file named on its own may have any name.
SUFFIXES = {*FORMATS, ".oga", ".aifc", ".snd"}


class Resampler:
    """Blocks ``[C, n]`` at one rate to blocks at another, of exactly the length asked for."""

    def __init__(self, source_rate: int, target_rate: int, channels: int) -> None:
        self._channels = channels
        self._stream = (
            None
            if source_rate == target_rate
            else soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32")
        )
        self._num_out = 0

    def push(self, block: Samples) -> Samples:
        """What is ready of the output after this block."""
        if self._stream is not None:
            block = self._stream.resample_chunk(np.ascontiguousarray(block.T)).T
        self._num_out += block.shape[1]
        return block

    def finish(self, num_samples: int) -> Samples:
        """The end of the output, cut or padded with silence so that there are ``num_samples``.

        The filter's own ending is off by less than a sample's worth.
        """
        tail = np.zeros((self._channels, 0), np.float32)
        if self._stream is not None:
            empty = np.zeros((0, self._channels), np.float32)
            tail = self._stream.resample_chunk(empty, last=True).T
        missing = num_samples - self._num_out
        tail = tail[:, : max(0, missing)]
        return np.pad(tail, ((0, 0), (0, max(0, missing - tail.shape[1]))))


class FileSection(io.RawIOBase):
    """A stretch of an open file, as a file of its own: a member of an archive, read in place."""

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
    """A file opened for reading, in blocks or from any point.

    Attributes:
        sample_rate: in samples per second.
        channels: after mixing down, if that was asked for.
        num_samples: per channel, as the file says.
    """

    def __init__(self, file: soundfile.SoundFile, name: str, mono: bool) -> None:
        self._file, self._name, self._mono = file, name, mono
        self.sample_rate = int(file.samplerate)
        self.channels = 1 if mono else int(file.channels)
        self.num_samples = int(file.frames)
        if not MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE:
            raise AudioError(
                f"{name} has {self.sample_rate} samples per second: "
                f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} can be coded; resample it first"
            )

    def blocks(self) -> Iterator[Samples]:
        """The audio as ``[C, n]`` blocks of about a second."""
        size = round(BLOCK_SECONDS * self.sample_rate)
        while (block := self.read(size)).shape[1]:
            if not np.isfinite(block).all():
                raise AudioError(
                    f"{self._name} holds NaN or infinite samples: repair it before coding"
                )
            yield block

    def read(self, num_samples: int) -> Samples:
        """The next samples, ``[C, n]``; fewer where the file ends. They may not be finite."""
        try:
            block: Samples = self._file.read(num_samples, dtype="float32", always_2d=True).T
        except soundfile.SoundFileError as error:
            raise AudioError(f"{self._name} cannot be read to its end: {error}") from error
        return block.mean(axis=0, keepdims=True) if self._mono else block

    def seek(self, sample: int) -> None:
        """Go on reading from there."""
        try:
            self._file.seek(sample)
        except soundfile.SoundFileError as error:
            raise AudioError(f"{self._name} cannot be read from {sample}: {error}") from error


@contextmanager
def open_audio(
    source: Path | BinaryIO | FileSection, *, mono: bool = False, name: str | None = None
) -> Iterator[AudioReader]:
    """Open a file that libsndfile reads.

    Args:
        source: path, or a seekable binary file.
        mono: mix all channels to one.
        name: what messages call it; its path if None.

    Raises:
        AudioError: missing, empty, not audio, or of a rate that cannot be coded.
    """
    name = name or (str(source) if isinstance(source, Path) else "the input")
    if isinstance(source, Path):
        if source.is_dir():
            raise AudioError(f"{name} is a folder: name files, or give --out-dir to take it whole")
        if not source.exists():
            raise AudioError(f"{name} does not exist: check the path")
        if source.is_file() and not source.stat().st_size:
            raise AudioError(f"{name} is empty: it holds not even a file header")
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            # By its descriptor, so that the content counts and not the suffix (libsndfile takes
            # ".raw" as headerless), and reading fails in C, not in a callback.
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
    """A file opened for writing in blocks."""

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file

    def write(self, block: Samples) -> None:
        """Append ``[C, n]`` samples; what exceeds full scale is clipped."""
        try:
            self._file.write(block.T.clip(-1.0, 1.0))
        except (AssertionError, soundfile.SoundFileError) as error:
            # soundfile only asserts that all samples were written.
            raise AudioError("the output cannot be written: is the disk full?") from error


@contextmanager
def create_audio(
    target: BinaryIO, suffix: str, sample_rate: int, channels: int
) -> Iterator[AudioWriter]:
    """Open a file for writing in the format that ``suffix`` names; wav and flac in 16 bits.

    Raises:
        AudioError: an unknown suffix, or a rate or channel count that the format cannot hold.
    """
    if suffix not in FORMATS:
        raise AudioError(
            f"cannot write {suffix or 'a file without suffix'}: "
            f"end the output's name in one of {', '.join(sorted(FORMATS))}"
        )
    kind, subtype = FORMATS[suffix]
    try:
        file = soundfile.SoundFile(
            target.fileno(),
            "w",
            sample_rate,
            channels,
            format=kind,
            subtype=subtype,
            closefd=False,
        )
    except (soundfile.SoundFileError, ValueError) as error:
        raise AudioError(
            f"{suffix} cannot hold {channels} channels at {sample_rate} Hz: write .wav"
        ) from error
    with file:
        yield AudioWriter(file)
