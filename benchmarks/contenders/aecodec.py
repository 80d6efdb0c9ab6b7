"""Our own codec, through real streams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from benchmarks.contenders.base import Contender, Encoded
from codec.engines.names import EngineName
from codec.entropy.payload import earlier_counts
from codec.entropy.redundancy import MAX_FRAMES, Redundancy
from codec.files import PACKET_SECONDS
from codec.format.container import Header, Packet
from codec.io.audio import Samples
from codec.model_folder import DEFAULT_MODEL, count_parameters, find_model
from codec.registry import load_engine
from codec.stream import StreamDecoder, StreamEncoder


class Stream(NamedTuple):
    """A stream in memory.

    Attributes:
        header: header of the stream.
        packets: packets as bytes, the end packet last.
    """

    header: Header
    packets: list[bytes]


class Aecodec(Contender):
    """A model of aecodec, through a real stream: its bits are those of the written bytes.

    Args:
        model: name of a packaged model, or folder of a model.
        engine: which engine runs it, as in `load_engine`.
        threads: number of threads of onnxruntime.

    Attributes:
        label: name with that of the model, for tables.
        fingerprint: fingerprint of the model, in hexadecimal digits.
        engine: the loaded model.
    """

    name = "aecodec"

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        engine: EngineName | None = None,
        threads: int = 1,
    ) -> None:
        self.model = model
        self.engine = load_engine(model, engine, threads=threads)
        info = self.engine.info
        self.label = f"{self.name} {info.name}"
        self.fingerprint = info.fingerprint.hex()
        self.sample_rate = info.sample_rate
        self.hop_length = info.hop_length
        self.num_parameters = count_parameters(model)

    @classmethod
    def open(cls, model: str = "", *, speech: bool = True) -> Self:
        return cls(model or DEFAULT_MODEL)

    @classmethod
    def weights_file(cls, model: str) -> Path | None:
        return find_model(model or DEFAULT_MODEL) / "weights.safetensors"

    def countable(self) -> Self:
        return type(self)(self.model, "torch")

    def bitrates(self) -> tuple[int, ...]:
        return tuple(map(int, self.engine.info.bitrates))

    def encode(
        self,
        audio: np.ndarray,
        bitrate: int,
        *,
        frames_per_packet: int | None = None,
        redundancy: Redundancy | None = None,
    ) -> Encoded:
        """Encode ``[N]`` float32 at `sample_rate`; the content is a `Stream`.

        Args:
            audio: ``[N]`` samples.
            bitrate: one of `bitrates`.
            frames_per_packet: length of the packets; that of files, two seconds, if None.
            redundancy: what packets of one frame also carry of earlier ones.
        """
        info = self.engine.info
        # By its place in the list: a bitrate that is not an integer was rounded down there.
        num_codebooks = self.bitrates().index(bitrate) + 1
        encoder = StreamEncoder(
            self.engine,
            bitrate=info.bitrate(num_codebooks),
            frames_per_packet=frames_per_packet or int(PACKET_SECONDS * info.frame_rate),
            redundancy=redundancy,
        )
        packets = encoder.push(audio[None]) + encoder.finish()
        content = Stream(encoder.header, [packet.to_bytes() for packet in packets])
        payload_bits = 8 * sum(len(packet.payload) for packet in packets)
        return Encoded(content, payload_bits, Header.SIZE + sum(map(len, content.packets)))

    def decode(self, encoded: Encoded) -> np.ndarray:
        decoder = StreamDecoder(self.engine, encoded.content.header)
        packets = map(Packet.from_bytes, encoded.content.packets)
        return _joined([decoder.push(packet) for packet in packets])

    def decode_with_losses(self, encoded: Encoded, lost: np.ndarray) -> np.ndarray:
        """Decode a stream of which some packets are lost, with redundancy and concealment.

        As a jitter buffer that waits for as many frames as packets carry.

        Args:
            encoded: from `encode`.
            lost: ``[num_packets]`` booleans, or more.

        Returns:
            ``[N]`` float32 at `sample_rate`.
        """
        header, packets = encoded.content
        decoder = StreamDecoder(self.engine, header)
        received = [
            None if is_lost else Packet.from_bytes(packet)
            for packet, is_lost in zip(packets, lost, strict=False)
        ]
        pieces = []
        for number, packet in enumerate(received):
            if packet is None:
                pieces.append(decoder.lost(1, *_later(received[number + 1 :])))
            else:
                pieces.append(decoder.push(packet))
        if lost[len(packets) - 1]:  # without the end packet, the rest must be asked for
            pieces.append(decoder.finish())
        return _joined(pieces)


def _joined(pieces: list[Samples]) -> Samples:
    """Blocks ``[1, n]`` of mono audio -> ``[N]``."""
    joined: Samples = np.concatenate(pieces, axis=1)[0]
    return joined


def _later(packets: Sequence[Packet | None]) -> tuple[Packet | None, int]:
    """The first packet that carries the frame before ``packets``, and how many are before it."""
    for ahead, packet in enumerate(packets[:MAX_FRAMES]):
        if packet is not None and len(earlier_counts(packet)) > ahead:
            return packet, ahead
    return None, 0
