"""`StreamEncoder`: audio that arrives in pieces to packets, by three stages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy.typing as npt

from codec.arrays import Codes
from codec.bitrate import Bitrate, checked_bitrate
from codec.errors import StreamFinishedError
from codec.format.container import Packet
from codec.rate.block import Block
from codec.rate.modes import Average, RateLike
from codec.rate.redundancy import Redundancy
from codec.registry import ModelLike
from codec.session.analyzer import Analyzer
from codec.session.packetizer import Packetizer
from codec.session.packing import Packing
from codec.session.plan import make_plan
from codec.session.planner import Planner


class StreamEncoder:
    """Encodes audio that arrives in pieces to packets.

    An `Analyzer` finds the codes of the frames of a packet, a `Planner` chooses those that are
    sent, and a `Packetizer` writes them. Encoders share their model and nothing else.

    Args:
        model: a loaded model, an engine, a `Codec`, the name of a packaged model or a model
            folder; the default model if None.
        rate: `Constant`, `Average` or `Quality`; a number of bits per second and channel is an
            `Average`, and None is ``Constant()``, all codes of the model.
        channels: number of channels, each coded on its own unless the model codes several together.
        packing: `Packing.live`, by default with packets of one frame, or `Packing.file`.
        effort: 0 to 3; above 0 a search finds better codes for the same bitrate.
        original_sample_rate: sampling rate of the audio before it was resampled to the model's;
            None if it was not.

    Attributes:
        header: for the decoder, which needs it once, before the packets.

    Raises:
        ConfigError: there is no such stream; `codec.session.plan` says what is possible.
        ModelError: there is no such model, or it was never saved, so a stream could not name it.

    Example:
        >>> import numpy as np
        >>> encoder = StreamEncoder(rate=6_000)
        >>> packets = encoder.push(np.zeros((1, 1000), np.float32)) + encoder.finish()
        >>> [packet.num_frames for packet in packets]
        [1, 1, 1]
    """

    def __init__(
        self,
        model: ModelLike | None = None,
        *,
        rate: RateLike = None,
        channels: int = 1,
        packing: Packing | None = None,
        effort: int = 0,
        original_sample_rate: int | None = None,
    ) -> None:
        plan = make_plan(
            model,
            rate,
            packing,
            channels=channels,
            effort=effort,
            original_sample_rate=original_sample_rate,
        )
        self.header = plan.header
        self._analyzer, self._planner = Analyzer(plan), Planner(plan)
        self._packetizer = Packetizer(plan)
        self._bitrate = plan.rate.bitrate if isinstance(plan.rate, Average) else None
        self._redundancy = plan.packing.redundancy
        self._finished = False

    @property
    def bitrate(self) -> Bitrate | None:
        """Bits per second and channel of an `Average`, which may be changed; None for other rates.

        Raises:
            ConfigError: on assignment, if the bitrate cannot be reached, or the rate is another
                one.
        """
        return self._bitrate

    @bitrate.setter
    def bitrate(self, bitrate: Bitrate) -> None:
        bitrate = checked_bitrate(bitrate)
        self._planner.change_bitrate(bitrate)
        self._bitrate = bitrate

    @property
    def redundancy(self) -> Redundancy | None:
        """The redundant frames of packets; may be changed at any time.

        Raises:
            ConfigError: on assignment, if packets of this stream cannot carry any.
        """
        return self._redundancy

    @redundancy.setter
    def redundancy(self, redundancy: Redundancy | None) -> None:
        self._packetizer.change_redundancy(redundancy)
        self._redundancy = redundancy

    def push(self, samples: npt.ArrayLike) -> list[Packet]:
        """Encode more audio.

        Args:
            samples: ``[C, n]`` floats at the model's rate, nominally in [-1, 1], any n.

        Returns:
            The packets that are full now; often none, and few in silence with ``dtx``.

        Raises:
            AudioError: wrong shape or type, not finite, or far above full scale.
            StreamFinishedError: `finish` was called.
        """
        self._check_running()
        return self._packets(self._analyzer.push(samples))

    def finish(self, num_samples: int | None = None) -> list[Packet]:
        """Encode what is left, padded to a whole frame, into the last packet.

        Args:
            num_samples: length at the original rate, if the audio was resampled.

        Raises:
            AudioError: ``num_samples`` contradicts the number of samples that were pushed.
            StreamFinishedError: `finish` was called before.
        """
        self._check_running()
        blocks = self._analyzer.finish(num_samples)
        self._finished = True
        packets = self._packets(blocks) + self._packed(self._planner.finish())
        if num_samples is None:
            num_samples = self._analyzer.num_samples
        return [*packets[:-1], replace(packets[-1], num_samples=num_samples)]

    def _packets(self, blocks: Iterable[Block]) -> list[Packet]:
        packets = []
        for block in blocks:
            if not block.is_silence:
                packets += self._packed(self._planner.push(block))
            elif packet := self._packetizer.pack_silence(block.codes):
                packets.append(packet)
        return packets

    def _packed(self, codes: Iterable[Codes]) -> list[Packet]:
        """Packets of codes, of which each is chosen when it is known what those before it took."""
        packets = []
        for each in codes:
            packet, bits = self._packetizer.pack(each)
            self._planner.spent(bits, each)
            packets.append(packet)
        return packets

    def _check_running(self) -> None:
        if self._finished:
            raise StreamFinishedError("this stream is finished: start a new StreamEncoder")
