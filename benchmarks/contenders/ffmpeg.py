"""Opus, MP3 and AAC, with the encoders and decoders of FFmpeg that PyAV contains."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple, Self

import av
import numpy as np

from benchmarks.contenders import libopus
from benchmarks.contenders.base import Contender, Encoded
from benchmarks.shared.resampling import resample


class PacketFile(NamedTuple):
    """A file in memory.

    Attributes:
        packets: packets of the encoder.
        file: the same packets in their container.
    """

    packets: list[bytes]
    file: bytes


class FFmpegContender(Contender):
    """A codec of FFmpeg, written to a real file in memory and read back from it.

    Reading the file removes the delay that its container announces, as any player does.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        container: FFmpeg's name of the file format.
        offered: bitrates in bits per second.
        options: options of the encoder.
    """

    sample_rate = 24_000
    encoder: ClassVar[str]
    container: ClassVar[str]
    offered: ClassVar[tuple[int, ...]]

    def __init__(self) -> None:
        self.options: dict[str, str] = {}

    def bitrates(self) -> tuple[int, ...]:
        return self.offered

    def encode(self, audio: np.ndarray, bitrate: int) -> Encoded:
        """Encode ``[N]`` float32 at `sample_rate`; the content is a `PacketFile`."""
        target, packets = io.BytesIO(), []
        with av.open(target, "w", format=self.container) as file:
            stream: Any = file.add_stream(
                self.encoder, rate=self.sample_rate, options=dict(self.options)
            )
            stream.bit_rate = bitrate
            stream.layout = "mono"
            stream.format = _float_format(self.encoder)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(audio, np.float32)[None], stream.format.name, "mono"
            )
            frame.sample_rate, frame.pts = self.sample_rate, 0
            frame.time_base = Fraction(1, self.sample_rate)
            for packet in self.encode_packets(stream, frame):
                packets.append(bytes(packet))
                file.mux(packet)
        content = PacketFile(packets, target.getvalue())
        return Encoded(content, 8 * sum(map(len, packets)), len(content.file))

    def encode_packets(self, stream: Any, frame: av.AudioFrame) -> list[av.Packet[Any]]:
        """The packets of all audio, with their times."""
        return [*stream.encode(frame), *stream.encode(None)]

    def decode(self, encoded: Encoded) -> np.ndarray:
        with av.open(io.BytesIO(encoded.content.file), "r") as source:
            rate = source.streams.audio[0].rate
            frames = [frame.to_ndarray()[0] for frame in source.decode(audio=0)]
        # Audio of a few samples may be decoded to no frame at all.
        decoded = np.concatenate([np.zeros(0, np.float32), *frames])
        return resample(decoded, rate, self.sample_rate)


def _float_format(encoder: str) -> str:
    """The encoder's float sample format: packed or planar, which is the same for mono."""
    formats = [known.name for known in av.Codec(encoder, "w").audio_formats or ()]
    return next(name for name in ("fltp", "flt") if name in formats)


class Opus(FFmpegContender):
    """Opus, by libopus in an Ogg file, with frames of 20 ms.

    Args:
        speech: whether to encode as ``voip`` rather than ``audio``.
        expected_loss: share of packets that will be lost, for in-band forward error correction
            (RFC 6716, section 2.1.7); None for packets without it.
    """

    name = "opus"
    encoder, container = "libopus", "ogg"
    offered: ClassVar[tuple[int, ...]] = (6_000, 8_000, 9_000, 12_000, 16_000, 24_000)

    def __init__(self, *, speech: bool = True, expected_loss: float | None = None) -> None:
        super().__init__()
        self.options = {"application": "voip" if speech else "audio", "frame_duration": "20"}
        self._fec = expected_loss is not None
        if expected_loss is not None:
            self.options |= {"fec": "1", "packet_loss": str(round(100 * expected_loss))}

    @classmethod
    def open(cls, model: str = "", *, speech: bool = True) -> Self:
        return cls(speech=speech)

    def decode_with_losses(self, encoded: Encoded, lost: np.ndarray) -> np.ndarray:
        """Decode with libopus's concealment of lost packets, or its forward error correction.

        Args:
            encoded: from `encode`.
            lost: ``[num_packets]`` booleans, or more.

        Returns:
            ``[N]`` float32 at `sample_rate`, without the delay that the file announces.
        """
        packets = encoded.content.packets
        audio = libopus.decode_with_losses(packets, lost, self.sample_rate, fec=self._fec)
        return self.without_skip(encoded, audio)

    def without_skip(self, encoded: Encoded, audio: np.ndarray) -> np.ndarray:
        """Decoded packets ``[N]`` without the delay that the file announces."""
        with av.open(io.BytesIO(encoded.content.file), "r") as source:
            head = source.streams.audio[0].codec_context.extradata or bytes(12)
        (skip,) = struct.unpack_from("<H", head, 10)  # RFC 7845, section 5.1, at 48 kHz
        return audio[skip * self.sample_rate // 48_000 :]


class MP3(FFmpegContender):
    """MP3, by LAME."""

    name = "mp3"
    encoder, container = "libmp3lame", "mp3"
    offered = (16_000, 24_000, 32_000)


class AAC(FFmpegContender):
    """AAC, by FFmpeg's own encoder, in an M4A file."""

    name = "aac"
    encoder, container = "aac", "ipod"
    offered = (16_000, 24_000, 32_000)
