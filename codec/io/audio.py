"""Read and write audio files block by block."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import soundfile
import soxr

from codec.arrays import Samples
from codec.errors import AudioError, MissingPackageError
from codec.io.checked import CheckedFile
from codec.io.contents import hidden_parts_of, later_parts_of, parts_of, unread_bytes, without_tags
from codec.io.media import MEDIA_SUFFIXES, REPAIR, TOLERATED_SECONDS, MediaDecoder, damaged
from codec.io.views import FileView, Readable

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
# Formats whose headers have 32 bits for the size.
SHORT_FORMATS = {".wav", ".aiff", ".aif", ".au"}
MAX_SHORT_SIZE = 2**32 - 2**12
BYTES_PER_SAMPLE, WAV_HEADER = 2, 44
# Suffixes of audio files in folders; a file that is named explicitly may have any suffix.
SUFFIXES = {*FORMATS, ".oga", ".aifc", ".snd", *MEDIA_SUFFIXES}


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
        self._stream: soxr.ResampleStream | None = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32")
        self._num_out = 0

    def push(self, block: Samples, *, is_last: bool = False) -> Samples:
        """Resample a block and return the output ``[C, m]`` that is complete so far."""
        if self._stream is not None:
            block = self._stream.resample_chunk(np.ascontiguousarray(block.T), last=is_last).T
        self._num_out += block.shape[1]
        return block

    def finish(self, num_samples: int) -> Samples:
        """Return the rest of the output, cut or zero-padded to ``num_samples`` per channel in all.

        The resampler's own output length differs from the exact one by less than one sample.
        """
        missing = max(0, num_samples - self._num_out)
        tail = self.push(np.zeros((self._channels, 0), np.float32), is_last=True)[:, :missing]
        return np.pad(tail, ((0, 0), (0, missing - tail.shape[1])))


class _SndfileDecoder:
    """What libsndfile reads, with its errors."""

    def __init__(self, source: Readable) -> None:
        source.seek(0)
        # Opened by file descriptor: libsndfile then recognises the format by content instead of
        # the suffix (it reads ".raw" as headerless), and read errors are raised by its C code and
        # not inside a Python callback.
        readable = source if isinstance(source, FileView) else source.fileno()
        self._file = soundfile.SoundFile(readable, closefd=False)
        self.sample_rate, self.channels = int(self._file.samplerate), int(self._file.channels)
        found = source.num_samples if isinstance(source, FileView) else None
        told = int(self._file.frames) if found is None else found
        # A length that the header does not tell is a very large number.
        self.num_samples = self.told = told if told < 2**62 else 0

    def read(self, num_samples: int) -> Samples:
        block: Samples = self._file.read(num_samples, dtype="float32", always_2d=True).T
        return block

    def seek(self, sample: int) -> None:
        self._file.seek(sample)

    def close(self) -> None:
        self._file.close()


_Decoder: TypeAlias = _SndfileDecoder | MediaDecoder


class AudioReader:
    """An audio file opened for reading, in blocks or from any position.

    Created by `open_audio`. All audio of the file is read, whatever lengths its headers tell, and
    that of files which are joined to it.

    Attributes:
        sample_rate: sampling rate in Hz.
        channels: number of channels of the samples returned (1 if mixed down).

    Raises:
        AudioError: the file is not audio, or its sampling rate is outside the supported range.

    Example:
        >>> soundfile.write("a.wav", np.zeros(20_000), 8_000)
        >>> with open_audio(Path("a.wav")) as reader:
        ...     reader.seek(1_000)
        ...     [block.shape for block in reader.blocks()]
        [(1, 8000), (1, 8000), (1, 3000)]
    """

    def __init__(self, file: Readable, name: str, mono: bool) -> None:
        self._file, self._name, self._mono = file, name, mono
        self._parts, self._decoder = _open_first(file, name)
        self._index, self._searched = 0, False
        # Samples that are read of the part that is open, from its beginning and without a seek,
        # and of those before it.
        self._num_read: int | None = 0
        self._num_before: int | None = 0
        self._expected = self._decoder.told
        self.sample_rate = self._decoder.sample_rate
        self.channels = 1 if mono else self._decoder.channels
        if not MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE:
            self.close()
            raise AudioError(
                f"{name} has {self.sample_rate} samples per second: "
                f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} are supported; resample it first"
            )

    @cached_property
    def num_samples(self) -> int:
        """Samples per channel of what is known to be in the file, not decoded yet; 0 if unknown."""
        return sum(self._lengths())

    def blocks(self) -> Iterator[Samples]:
        """Yield the rest of the file in ``[C, n]`` blocks of about one second.

        Raises:
            AudioError: a part of the file cannot be read, or contains samples that are not finite.
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
            AudioError: a part of the file cannot be read.
        """
        block = self._read(num_samples)
        while block.shape[1] < num_samples and self._open_next():
            block = np.concatenate((block, self._read(num_samples - block.shape[1])), axis=1)
        return block

    def seek(self, sample: int) -> None:
        """Set the position of the next `read`, in samples from the beginning.

        Raises:
            AudioError: the file cannot be read from there.
        """
        index, inner = 0, sample
        if len(self._parts) > 1:
            for length in self._lengths()[:-1]:
                if inner < length:
                    break
                index, inner = index + 1, inner - length
        if index != self._index:
            self._open(index)
        self._num_read = None if inner else 0  # positions after a seek may be inexact
        self._num_before = None if sample else 0
        try:
            self._decoder.seek(inner)
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{self._name} cannot be read from sample {sample}: {error}"
            ) from error

    def close(self) -> None:
        """Close the decoder; the file itself stays open."""
        self._decoder.close()

    def _read(self, num_samples: int) -> Samples:
        """Read from the part that is open."""
        try:
            block = self._decoder.read(num_samples)
        except soundfile.SoundFileError as error:
            self._open_otherwise(error)
            block = self._decoder.read(num_samples)
        if self._num_read is not None:
            self._num_read += block.shape[1]
            missing = self._expected - self._num_read
            if block.shape[1] < num_samples and missing > TOLERATED_SECONDS * self.sample_rate:
                raise self._damaged()
        return block.mean(axis=0, keepdims=True) if self._mono else block

    def _open_otherwise(self, error: soundfile.SoundFileError) -> None:
        """Go on with FFmpeg's decoder where libsndfile's has failed."""
        if self._num_read is None or len(self._parts) > 1:
            raise self._damaged() from error
        try:
            decoder = MediaDecoder(self._file, self._name)
        except MissingPackageError:
            remedy = 'pip install "aecodec[media]", which may read more of it'
            raise self._damaged(remedy) from error
        except AudioError:
            raise self._damaged() from error
        failed, self._decoder = self._decoder, decoder
        failed.close()
        if (decoder.sample_rate, decoder.channels) != (failed.sample_rate, failed.channels):
            raise self._damaged() from error
        decoder.seek(self._num_read)

    def _damaged(self, remedy: str = REPAIR) -> AudioError:
        part = f" (file {self._index + 1} of those joined in it)" if self._index else ""
        got, total = (n / self.sample_rate for n in (self._num_read or 0, self._expected))
        return damaged(f"{self._name}{part}", got, total, remedy)

    def _open_next(self) -> bool:
        """Go on with the next of the files that were joined, if there is one."""
        at_end = not self._searched and self._index + 1 == len(self._parts)
        if at_end:
            self._searched = True
            end = self._decoder.end if isinstance(self._decoder, MediaDecoder) else None
            self._parts += later_parts_of(self._file, self._parts, end)
        if self._index + 1 < len(self._parts):
            self._open(self._index + 1)
            return True
        if at_end:
            self._check_unread()
        return False

    def _check_unread(self) -> None:
        """Check that next to nothing of the file could not be read."""
        if self._num_read is None or self._num_before is None:
            return
        unread, size = unread_bytes(self._file), self._file.seek(0, os.SEEK_END)
        got = (self._num_before + self._num_read) / self.sample_rate
        missing = got * unread / max(1, size - unread)
        if unread and (missing > TOLERATED_SECONDS or not got):
            raise damaged(self._name, got, got + missing)

    def _open(self, index: int) -> None:
        self.close()
        if self._num_before is not None and self._num_read is not None:
            self._num_before += self._num_read
        self._index = index
        where = f"{self._name} is joined of {len(self._parts)} files, and number {index + 1}"
        try:
            decoder = self._decoder = _SndfileDecoder(self._parts[index])
        except soundfile.SoundFileError as error:
            raise AudioError(f"{where} cannot be read: divide it, or repair it first") from error
        self._num_read, self._expected = 0, decoder.told
        channels = 1 if self._mono else decoder.channels
        if (decoder.sample_rate, channels) != (self.sample_rate, self.channels):
            raise AudioError(
                f"{where} has {decoder.channels} channels at {decoder.sample_rate} Hz, not "
                f"{self.channels} at {self.sample_rate}: code them apart, or convert it first"
            )

    def _lengths(self) -> list[int]:
        if len(self._parts) == 1:
            return [self._decoder.num_samples]
        lengths = []
        for part in self._parts:
            try:
                decoder = _SndfileDecoder(part)
            except soundfile.SoundFileError:  # `_open` says so
                lengths.append(0)
                continue
            lengths.append(decoder.num_samples)
            decoder.close()
        return lengths


def _open_first(file: Readable, name: str) -> tuple[list[Readable], _Decoder]:
    """What to read one after the other, with a decoder for the first of it."""
    for find in (parts_of, hidden_parts_of):
        with suppress(soundfile.SoundFileError):
            if parts := find(file):
                return parts, _SndfileDecoder(parts[0])
    try:
        return [file], MediaDecoder(file, name)
    except MissingPackageError as error:
        raise AudioError(
            f"{name} is not audio that libsndfile reads (wav, flac, mp3, ogg, ...); {error}"
        ) from error
    except AudioError:
        # FFmpeg counts from the beginning of the file where places in it are stored.
        if (untagged := without_tags(file)) is None:
            raise
    return [untagged], MediaDecoder(untagged, name)


@contextmanager
def open_audio(
    source: Path | Readable, *, mono: bool = False, name: str | None = None
) -> Iterator[AudioReader]:
    """Open an audio file in any format that libsndfile reads, or FFmpeg with the extra ``media``.

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
            file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            reader = AudioReader(file, name, mono)
        except OSError as error:
            raise AudioError(f"{name} cannot be opened: {error.strerror}") from error
        stack.callback(reader.close)
        yield reader


class AudioWriter:
    """An audio file opened for writing in blocks. Created by `create_audio`."""

    def __init__(self, file: soundfile.SoundFile, target: CheckedFile, suffix: str) -> None:
        self._file, self._target, self._suffix = file, target, suffix
        self._header = b""  # of an RF64 file
        self.num_samples = 0

    def write(self, block: Samples) -> None:
        """Append samples ``[C, n]``; values beyond full scale are clipped.

        Raises:
            AudioError: the samples cannot be written, or the format cannot hold so many.
        """
        self.num_samples += block.shape[1]
        size = self.num_samples * len(block) * BYTES_PER_SAMPLE
        if self._suffix in SHORT_FORMATS and size > MAX_SHORT_SIZE and not self._header:
            self._widen()
        try:
            self._file.write(block.T.clip(-1.0, 1.0))
        except (AssertionError, soundfile.SoundFileError) as error:
            # soundfile signals a short write by a failed assertion.
            raise _unwritable(self._target) from error

    def close(self) -> None:
        """Write what is held back.

        Raises:
            AudioError: it cannot be written.
        """
        try:
            self._file.close()
        except soundfile.SoundFileError as error:
            raise _unwritable(self._target) from error
        if self._header:
            size = self.num_samples * self._file.channels * BYTES_PER_SAMPLE
            fields = struct.pack("<3Q", len(self._header) + size - 8, size, self.num_samples)
            self._target.base = 0
            self._target.seek(0)
            self._target.write(self._header[:20] + fields + self._header[44:])
        if self._target.error is not None:
            raise _unwritable(self._target) from self._target.error

    def _widen(self) -> None:
        """Make an RF64 file of a WAV file that is full: its header is longer."""
        before = BYTES_PER_SAMPLE * self._file.channels * self._file.frames
        facts = self._file.samplerate, self._file.channels
        self._file.close()
        header = io.BytesIO()
        with soundfile.SoundFile(header, "w", *facts, format="RF64", subtype="PCM_16"):
            pass
        try:
            if self._suffix != ".wav":
                raise OSError
            self._target.move(WAV_HEADER, header.tell() - WAV_HEADER)
        except OSError as error:
            raise AudioError(
                f"a {self._suffix} file holds 4 GiB: write .w64, .rf64 or .flac"
            ) from error
        self._header = header.getvalue()
        self._target.base = len(self._header) + before
        self._target.seek(0)
        self._file = soundfile.SoundFile(
            self._target, "w", *facts, format="RAW", subtype="PCM_16", endian="LITTLE"
        )


def _unwritable(target: CheckedFile) -> AudioError:
    reason = target.error.strerror if target.error else "is the disk full?"
    return AudioError(f"the output cannot be written: {reason}; make room for it")


@contextmanager
def create_audio(
    target: BinaryIO, suffix: str, sample_rate: int, channels: int
) -> Iterator[AudioWriter]:
    """Open an audio file for writing.

    Args:
        target: binary file, opened for writing; if it can be read, too, it is checked at the end.
        suffix: format by file suffix, one of `FORMATS`; lossless formats are written in 16 bits.
        sample_rate: sampling rate in Hz.
        channels: number of channels.

    Yields:
        A writer for blocks ``[C, n]``.

    Raises:
        AudioError: the suffix is unknown, the format does not support the sampling rate or the
            number of channels, or not all could be written.

    Example:
        >>> with open("a.flac", "wb") as file, create_audio(file, ".flac", 8_000, 2) as writer:
        ...     for _ in range(3):
        ...         writer.write(np.zeros((2, 100), np.float32))
        >>> soundfile.info("a.flac").frames
        300
    """
    if suffix not in FORMATS:
        raise AudioError(
            f"cannot write {suffix or 'a file without suffix'}: "
            f"end the output's name in one of {', '.join(sorted(FORMATS))}"
        )
    container, subtype = FORMATS[suffix]
    checked = CheckedFile(target.fileno())
    try:
        file = soundfile.SoundFile(
            checked, "w", sample_rate, channels, format=container, subtype=subtype
        )
    except (soundfile.SoundFileError, ValueError) as error:
        if checked.error is not None:
            raise _unwritable(checked) from error
        raise AudioError(
            f"{suffix} cannot hold {channels} channels at {sample_rate} Hz: write .wav"
        ) from error
    writer = AudioWriter(file, checked, suffix)
    try:
        yield writer
    except BaseException:
        with suppress(soundfile.SoundFileError):
            file.close()
        raise
    writer.close()
    if target.readable() and writer.num_samples:
        _check_length(target, writer.num_samples)


def _check_length(target: BinaryIO, num_samples: int) -> None:
    os.lseek(target.fileno(), 0, os.SEEK_SET)
    try:
        with soundfile.SoundFile(target.fileno(), closefd=False) as file:
            found = int(file.frames)
    except soundfile.SoundFileError as error:
        raise AudioError("the output cannot be read again: write another format") from error
    if found != num_samples:
        raise AudioError(
            f"the output holds {found} samples, not {num_samples}: write another format"
        )
