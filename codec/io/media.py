"""Read what libsndfile does not (AAC, WMA, the audio of videos, ...) through PyAV.

PyAV brings FFmpeg's libraries, with the extra ``media``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codec.errors import AudioError, optional_packages
from codec.io.views import Readable

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.packet import Packet

Samples = npt.NDArray[np.float32]

# Containers that hold audio themselves: the others are lists of files and addresses to open.
FORMATS = (
    "aa,aac,aax,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,bonk,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iff,"
    "loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,nut,ogg,oma,ac4,osq,qcp,qoa,rm,rso,shn,sox,tak,"
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


class MediaDecoder:
    """The first audio stream of a file, decoded by FFmpeg's libraries.

    Args:
        file: seekable binary file.
        name: name for error messages.

    Attributes:
        sample_rate: sampling rate in Hz.
        channels: number of channels.

    Raises:
        AudioError: there is no audio in the file.
        MissingPackageError: PyAV is not installed.
    """

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
        while missing > 0 and (block := self._next()) is not None:
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
        first = self._next()
        self._pending = self._pending[:, :0] if first is None else first

    def _next(self) -> Samples | None:
        """The next block; None at the end."""
        import av

        try:
            return next(self._blocks, None)
        except (av.error.FFmpegError, ValueError) as error:
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
        self._file.seek(0)
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
        try:
            self._container = av.open(self._file, metadata_errors="ignore", options=options)
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
            except av.error.FFmpegError as error:
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
            raise AudioError(
                f"{self._name} is damaged: only {given:.2f} of {given + lost:.2f} seconds can be "
                f"read; {REPAIR}"
            )

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        import av

        end = 0.0
        try:
            for packet in self._container.demux(self._stream):
                if packet.pts is not None:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                yield packet
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            told = float((self._stream.duration or 0) * self._stream.time_base)
            if abs(end - told) > TOLERATED_SECONDS:  # else it is something at the end of the file
                raise AudioError(
                    f"{self._name} is damaged: only {end:.2f} of {told:.2f} seconds can be read; "
                    f"{REPAIR}"
                ) from error


def _converted(resampler: AudioResampler, frame: AudioFrame | None) -> Iterator[Samples]:
    for converted in resampler.resample(frame):
        yield converted.to_ndarray().astype(np.float32, copy=False)
