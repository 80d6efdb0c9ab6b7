"""Our own codec, through real streams."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import numpy as np

from benchmarks.contenders.base import Contender, Encoded
from codec import Average, Constant, Packing, StreamDecoder, StreamEncoder, encode
from codec.arrays import Samples
from codec.engines.names import Backend
from codec.entropy.payload import MAX_FRAMES, earlier_counts
from codec.format.container import Header, Packet
from codec.format.reading import read_streams
from codec.model_folder import DEFAULT_MODEL, count_parameters, find_model
from codec.rate.modes import Rate
from codec.rate.redundancy import Redundancy
from codec.registry import load_model


class Stream(NamedTuple):
    """A stream in memory.

    Attributes:
        header: header of the stream.
        packets: packets as bytes, the end packet last.
    """

    header: Header
    packets: list[bytes]


class Aecodec(Contender):
    """A model of aecodec as ``aecodec encode`` runs it: its bits are those of the written bytes.

    With a context model a bitrate is the mean of all bytes of a stream of variable bitrate;
    without one it is that of constant plain codes.

    Args:
        model: name of a packaged model, or folder of a model.
        backend: what runs it, as in `load_model`.

    Attributes:
        label: name with that of the model, for tables.
        fingerprint: fingerprint of the model, in hexadecimal digits.
        loaded: the model.
    """

    name = "aecodec"
    coded: ClassVar[bool] = True
    """Whether the context model is used, if there is one."""
    variable: ClassVar[bool] = True
    """Whether coded files have a variable bitrate."""
    suffix: ClassVar[str] = ""
    """End of the label."""

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        backend: Backend | None = None,
    ) -> None:
        self.model = model
        self.loaded = load_model(model, backend=backend)
        spec = self.loaded.spec
        self.label = f"aecodec {spec.name}{self.suffix}"
        self.fingerprint = spec.fingerprint.hex()
        self.sample_rate = spec.sample_rate
        self.hop_length = spec.hop_length
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
        return tuple(map(int, self.loaded.spec.plain_bitrates))

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
            frames_per_packet: frames of live packets of a constant number of codes; those of files
                if None.
            redundancy: what packets of one frame also carry of earlier ones.
        """
        spec = self.loaded.spec
        # By its place in the list: a bitrate that is not an integer was rounded down there.
        place = self.bitrates().index(bitrate)
        rate: Rate = Constant(place + 1, plain=not self.coded)
        if frames_per_packet is None and redundancy is None:
            if self.coded and self.variable and self.loaded.context is not None:
                rate = Average(spec.plain_bitrates[place])
            return _parsed(encode(audio, self.sample_rate, model=self.loaded, rate=rate))
        packing = Packing.live(frames_per_packet or 1, redundancy=redundancy)
        encoder = StreamEncoder(self.loaded, rate=rate, packing=packing)
        packets = encoder.push(audio[None]) + encoder.finish()
        data = encoder.header.to_bytes() + b"".join(packet.to_bytes() for packet in packets)
        return _parsed(data)

    def decode(self, encoded: Encoded) -> np.ndarray:
        header, packets = encoded.content
        decoder = StreamDecoder(header, self.loaded)
        return _joined([decoder.push_all([Packet.from_bytes(packet) for packet in packets])])

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
        decoder = StreamDecoder(header, self.loaded)
        received = [
            None if is_lost else Packet.from_bytes(packet)
            for packet, is_lost in zip(packets, lost, strict=False)
        ]
        pieces: list[Samples] = []
        for is_lost, run in itertools.groupby(range(len(received)), lambda n: received[n] is None):
            numbers = list(run)
            if is_lost:
                pieces += [decoder.lost(1, *_later(received[n + 1 :])) for n in numbers]
            else:  # together, which is faster
                pieces.append(decoder.push_all([each for n in numbers if (each := received[n])]))
        if lost[len(packets) - 1]:  # without the end packet, the rest must be asked for
            pieces.append(decoder.finish())
        return _joined(pieces)


class ConstantAecodec(Aecodec):
    """A model of aecodec as ``aecodec encode --codebooks`` runs it, with entropy coding.

    A bitrate is that of the plain codes, which says how many each frame has.
    """

    name = "aecodec-constant"
    variable = False
    suffix = " constant"


class PlainAecodec(Aecodec):
    """A model of aecodec without its context model: plain codes at a constant bitrate."""

    name = "aecodec-plain"
    coded = variable = False
    suffix = " plain"


def _parsed(data: bytes) -> Encoded:
    """The bytes of a file as a `Stream`."""
    stream = next(read_streams(io.BytesIO(data)))
    found = [item for batch in stream.batches for item in batch]
    packets = [packet.to_bytes() for packet in found if isinstance(packet, Packet)]
    summary = stream.summary
    content = Stream(stream.header, packets)
    return Encoded(content, 8 * summary.num_payload_bytes, summary.num_bytes)


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
