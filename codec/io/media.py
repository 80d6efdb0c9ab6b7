"""Read what libsndfile does not (AAC, WMA, the audio of videos, ...) with PyAV's FFmpeg."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from codec.arrays import Samples
from codec.errors import AudioError, optional_packages
from codec.io.views import Readable

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.packet import Packet

# Containers that hold audio themselves: the others are lists of files and addresses to open.
FORMATS = (
    "aa,aac,aax,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,bonk,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iff,"
    "loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,ac4,osq,qcp,qoa,rm,rso,shn,sox,tak,"
    "truehd,tta,voc,vqf,w64,wav,webm,wsd,wv,xwma"
)
# Suffixes of files that hold audio alone, other than those of libsndfile.
MEDIA_SUFFIXES = (
    *(".aac", ".ac3", ".amr", ".ape", ".eac3", ".m4a", ".m4b", ".mka", ".mp1", ".mp2", ".mpc"),
    *(".spx", ".tta", ".weba", ".webm", ".wma", ".wv"),
)
TOLERATED_SECONDS = 0.05
"""So much of a file may be impossible to decode: lengths in headers are slightly inexact."""
REPAIR = "repair it, or convert what can be read to wav"
# Containers that tell the length; of the others FFmpeg guesses it from size and bitrate.
WITH_LENGTH = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "avi")
TOLD_SECONDS = 0.2
"""The same for lengths that containers tell, which decoders do not reach to the sample."""


def damaged(name: str, got: float, total: float, remedy: str = REPAIR) -> AudioError:
    """What is said of a file of which ``got`` of ``total`` seconds can be read; 0 if unknown."""
    of = f" of {total:.2f}" if total > got else ""
    return AudioError(f"{name} is damaged: only {got:.2f}{of} seconds can be read; {remedy}")


class MediaDecoder:
    """The first audio stream of a file, decoded by FFmpeg's libraries.

    Attributes:
        sample_rate: sampling rate in Hz.
        channels: number of channels.
        end: place in the file after the last packet that was read, as far as FFmpeg tells.
        told: samples that are there for certain without decoding: none.

    Raises:
        AudioError: there is no audio in the file.
        MissingPackageError: PyAV is not installed.
    """

    told = 0

    def __init__(self, file: Readable, name: str) -> None:
        self._file, self._name = file, name
        self._container: Any = None
        self._pending: Samples = np.zeros((0, 0), np.float32)
        self._restart()
        if not self._pending.shape[1]:
            raise AudioError(f"{name} contains no samples")
        self.channels = len(self._pending)

    @property
    def num_samples(self) -> int:
        """Samples per channel by the lengths of all packets, which are not decoded if they tell."""
        self._open()
        ticks, first = 0, None
        for packet in self._packets():
            ticks += packet.duration or 0
            first = packet.pts if first is None else first
        seconds = (ticks + min(0, first or 0)) * self._stream.time_base  # plays from the time 0
        self._restart()
        found = int(seconds * self.sample_rate)
        while not ticks and (block := self.read(self.sample_rate)).shape[1]:
            found += block.shape[1]
        self._restart()
        return found

    def read(self, num_samples: int) -> Samples:
        """Read up to ``num_samples`` samples ``[C, n]``, fewer at the end only.

        Raises:
            AudioError: a part of the file cannot be decoded.
        """
        blocks, missing = [self._pending], num_samples - self._pending.shape[1]
        while missing > 0 and (block := self._next_block()) is not None:
            blocks.append(block)
            missing -= block.shape[1]
        whole = np.concatenate(blocks, axis=1)
        self._pending = whole[:, num_samples:]
        return whole[:, :num_samples]

    def seek(self, sample: int) -> None:
        """Go to a sample by decoding all before it: times in files are not exact."""
        self._restart()
        while sample > 0:
            skipped = self.read(min(sample, self.sample_rate)).shape[1]
            if not skipped:
                return
            sample -= skipped

    def close(self) -> None:
        if self._container is not None:
            self._container.close()

    def _restart(self) -> None:
        self._open()
        self._blocks = self._decode()
        first = self._next_block()
        self._pending = self._pending[:, :0] if first is None else first

    def _next_block(self) -> Samples | None:
        """The next block; None at the end."""
        import av

        try:
            return next(self._blocks, None)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            if isinstance(error, MemoryError):
                raise
            reason = getattr(error, "strerror", error)
            raise AudioError(
                f"{self._name} cannot be decoded: {reason}; convert it first"
            ) from error

    def _open(self) -> None:
        self.close()
        with optional_packages("any other format", "media"):
            import av
        self.end = self._num_bytes = 0  # of the packets that were read
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
        try:
            self._container = av.open(_Input(self._file), metadata_errors="ignore", options=options)
        except av.error.FFmpegError as error:
            raise AudioError(
                f"{self._name} is not audio that libsndfile reads (wav, flac, mp3, ogg, ...), nor "
                "FFmpeg: convert it first"
            ) from error
        self._stream = self._container.streams.best("audio")
        if self._stream is None:
            raise AudioError(f"{self._name} has no audio stream: give a file with sound")

    def _decode(self) -> Iterator[Samples]:
        """All samples ``[C, n]``, in the rate and layout of the first frame."""
        from av.audio.resampler import AudioResampler

        resampler: AudioResampler | None = None
        source: tuple[Any, ...] = ()
        for frame in self._frames():
            facts = (frame.format.name, frame.layout.name, frame.sample_rate)
            if resampler is None:
                self.sample_rate, layout = frame.sample_rate, frame.layout
            elif source != facts:
                yield from _converted(resampler, None)
            if source != facts or resampler is None:
                resampler, source = AudioResampler("fltp", layout, self.sample_rate), facts
            frame.pts = None  # what comes in is joined, whatever times it has
            yield from _converted(resampler, frame)
        if resampler is not None:
            yield from _converted(resampler, None)

    def _frames(self) -> Iterator[AudioFrame]:
        import av

        lost = given = 0.0
        failed: list[float] = []  # seconds of the packets since the last frame
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:  # the decoders' own errors are of many kinds
                if isinstance(error, MemoryError | LookupError):  # no fault of the packet
                    raise
                failed.append(float((packet.duration or 0) * (packet.time_base or 0)))
                continue
            if frames:  # one at the beginning may be what is left of something that was cut
                lost += sum(failed) if given or len(failed) > 1 else 0
                failed = []
            for frame in frames:
                given += frame.samples / frame.sample_rate
                yield frame
        lost += sum(failed)
        if lost > TOLERATED_SECONDS:
            raise damaged(self._name, given, given + lost)
        told = self._told()
        # Of a file that was cut short, nothing is unread.
        unread = 1 - self._num_bytes / max(1, self._file.seek(0, os.SEEK_END))
        if told - given > TOLD_SECONDS and unread > (1 - given / told) / 2:
            raise damaged(self._name, given, told)

    def _told(self) -> float:
        """Seconds of the stream according to the container; 0 if it does not say."""
        if self._container.format.name not in WITH_LENGTH:
            return 0.0
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        others = len(self._container.streams) - 1  # they may be longer
        return 0.0 if others else (self._container.duration or 0) / 1e6

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        import av

        end = start = (self._stream.start_time or 0) * self._stream.time_base
        try:
            for packet in self._container.demux(self._stream):
                if packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                self._num_bytes += packet.size
                self.end = max(self.end, (packet.pos or 0) + packet.size)
                yield packet
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            got, told = end - start, (self._stream.duration or 0) * self._stream.time_base
            # Else it is something at the end of the file.
            if not told or told - got > TOLERATED_SECONDS:
                raise damaged(self._name, float(got), float(told)) from error


class _Input:
    """A file as PyAV reads it, which reports errors of its methods to standard error."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.name = getattr(file, "name", "")  # by whose suffix FFmpeg knows some formats
        self._file.seek(0)

    def read(self, size: int) -> bytes:
        return self._file.read(size) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):  # before the beginning, in a damaged file
            return -1

    def tell(self) -> int:
        return self._file.tell()


def _converted(resampler: AudioResampler, frame: AudioFrame | None) -> Iterator[Samples]:
    for converted in resampler.resample(frame):
        yield converted.to_ndarray().astype(np.float32, copy=False)
