"""`Packetizer`: the last stage of an encoder, from codes to numbered packets."""

from __future__ import annotations

from collections import deque

import numpy as np

from codec.activity.noise import NOISE_CODES, NOISE_FRAMES, REFRESH_SECONDS
from codec.arrays import Codes
from codec.entropy.payload import MAX_FRAMES, PayloadEncoder
from codec.format.container import Coding, Packet
from codec.rate.redundancy import Redundancy, RedundancyControl
from codec.session.plan import Plan


class Packetizer:
    """Codes of one packet after another to packets, and what they cost.

    Args:
        plan: of the stream.

    Example:
        >>> from codec import load_model
        >>> from codec.rate.modes import Constant
        >>> from codec.session.plan import make_plan
        >>> packetizer = Packetizer(make_plan(load_model(), Constant(2, plain=True)))
        >>> packet, bits = packetizer.pack(np.array([[[3], [1]]]))
        >>> packet.sequence, len(packet.payload), bits
        (0, 3, 24)
    """

    def __init__(self, plan: Plan) -> None:
        header = plan.header
        self._plan, self._header = plan, header
        self._payloads = PayloadEncoder(header, plan.context)
        self._num_packets = 0  # those that are left out count
        self._past: deque[Codes] = deque(maxlen=MAX_FRAMES)
        self._noise: deque[Codes] = deque(maxlen=NOISE_FRAMES)  # first codes of the newest frames
        self._refresh = max(1, round(REFRESH_SECONDS * header.sample_rate / header.hop_length))
        self._silent = 0  # frames of silence in a row
        self.redundancy = plan.packing.redundancy

    @property
    def redundancy(self) -> Redundancy | None:
        """The redundant frames of packets; may be changed at any time.

        Raises:
            ConfigError: on assignment, if packets of this stream cannot carry any.
        """
        return self._redundancy

    @redundancy.setter
    def redundancy(self, redundancy: Redundancy | None) -> None:
        self._plan.check_redundancy(redundancy)
        self._redundancy, self._earlier = redundancy, None
        if redundancy is not None and redundancy.frames:
            rate = self._header.sample_rate / self._header.hop_length
            self._earlier = RedundancyControl(redundancy, rate, self._header.bits_per_code)

    def pack(self, codes: Codes) -> tuple[Packet, int]:
        """The next packet, and the bits that it costs without its redundant frames.

        Args:
            codes: ``[C, K, T]``, `NO_CODE` where they are absent.
        """
        self._silent = 0
        if self._header.dtx and codes.shape[2]:
            self._noise.append(codes[:, :NOISE_CODES, -1:])
        payload, coding, redundant_bits = self._payload(codes)
        packet = Packet(self._next_sequence(), codes.shape[2], payload, coding=coding)
        overhead = self._plan.packet_overhead if self._plan.packing.is_file else 0
        return packet, 8 * (overhead + len(payload)) - round(redundant_bits)

    def pack_silence(self, codes: Codes) -> Packet | None:
        """A packet of comfort noise every 0.4 s; None for silence that is left out.

        Args:
            codes: ``[C, NOISE_CODES, 1]``, first codes of a silent frame.
        """
        self._noise.append(codes)
        self._past.clear()  # what was left out needs no redundancy
        sequence = self._next_sequence()
        self._silent += 1
        if self._silent % self._refresh != 1 % self._refresh:
            return None
        payload = self._payloads.encode_noise(np.concatenate(self._noise, axis=2))
        return Packet(sequence, 1, payload, coding=Coding.COMFORT_NOISE)

    def _next_sequence(self) -> int:
        sequence = self._num_packets % self._header.sequence_count
        self._num_packets += 1
        return sequence

    def _payload(self, codes: Codes) -> tuple[bytes, Coding | None, float]:
        """The payload, how it is written, and the bits of its redundant frames."""
        past = list(self._past)
        if codes.shape[2] == 1:
            self._past.append(codes)
        if self._earlier is not None and codes.shape[2] == 1:
            earlier = self._earlier.choose(past)
            if earlier.size:
                payload, coding, bits = self._payloads.encode_with_earlier(codes, earlier)
                self._earlier.spent(bits, earlier)
                return payload, coding, bits
        return *self._payloads.encode(codes), 0.0
