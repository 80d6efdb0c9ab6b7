"""`Packetizer`: the last stage of an encoder, from codes to numbered packets."""

from __future__ import annotations

from collections import deque

import numpy as np

from codec.activity.noise import NOISE_CODEBOOKS, REFRESH_SECONDS
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
        # First codes of the newest frames, for comfort noise: of 160 ms at 50 frames per second.
        self._noise: deque[Codes] = deque(maxlen=8)
        self._refresh = max(1, round(REFRESH_SECONDS * header.sample_rate / header.hop_length))
        self._silent = 0  # frames of silence in a row
        self._earlier: RedundancyControl | None = None
        self.change_redundancy(plan.packing.redundancy)

    def change_redundancy(self, redundancy: Redundancy | None) -> None:
        """Change the redundant frames of what follows.

        Raises:
            ConfigError: packets of this stream cannot carry any.
        """
        self._plan.check_redundancy(redundancy)
        self._earlier = None
        if redundancy is not None and redundancy.frames:
            self._earlier = RedundancyControl(redundancy, self._header)

    def pack(self, codes: Codes) -> tuple[Packet, int]:
        """The next packet, and the bits that it costs without its redundant frames.

        Args:
            codes: ``[G, K, T]``, `NO_CODE` where they are absent.
        """
        header, earlier = self._header, None
        self._silent = 0
        if header.dtx and codes.shape[2]:
            self._noise.append(codes[:, : header.num_codes(NOISE_CODEBOOKS), -1:])
        if self._earlier is not None and codes.shape[2] == 1:
            earlier = self._earlier.choose(list(self._past))
        coding: Coding | None
        if self._earlier is not None and earlier is not None and earlier.size:
            payload, coding, redundant_bits = self._payloads.encode_with_earlier(codes, earlier)
            self._earlier.spent(redundant_bits, earlier)
        else:
            payload, coding = self._payloads.encode(codes)
            redundant_bits = 0.0
        if codes.shape[2] == 1:
            self._past.append(codes)
        sequence = self._num_packets % header.sequence_count
        self._num_packets += 1
        packet = Packet(sequence, codes.shape[2], payload, coding=coding)
        overhead = header.head_size if self._plan.packing.is_file else 0
        return packet, 8 * (overhead + len(payload)) - round(redundant_bits)

    def pack_silence(self, codes: Codes) -> Packet | None:
        """A packet of comfort noise every 0.4 s; None for silence that is left out.

        Args:
            codes: ``[G, k, 1]``, those of the first `NOISE_CODEBOOKS` of a silent frame.
        """
        self._noise.append(codes)
        self._past.clear()  # what was left out needs no redundancy
        sequence = self._num_packets % self._header.sequence_count
        self._num_packets += 1
        self._silent += 1
        if self._silent % self._refresh != 1 % self._refresh:
            return None
        payload = self._payloads.encode_noise(np.concatenate(self._noise, axis=2))
        return Packet(sequence, 1, payload, coding=Coding.COMFORT_NOISE)
