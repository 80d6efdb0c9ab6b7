"""Comfort noise, which stands for silence that is not sent (discontinuous transmission, DTX).

In a call each side is silent for about half of the time. When a sender has been silent for a while,
it sends a packet of comfort noise, with the first codes of a few frames, and then nothing. Such a
packet comes again and again while the silence lasts, so that the noise follows that of the room,
and a receiver that lost one, or joined late, knows that it is silence. A decoder plays the codes of
these frames in an order that does not repeat, through the same network, so that the noise begins
and ends without clicks (RFC 3389 and the silence descriptors of AMR, 3GPP TS 26.092, do the same
with filters and levels).
"""

from __future__ import annotations

import numpy as np

from codec.activity.pauses import noise_order
from codec.entropy.context import Integers

NOISE_CODEBOOKS = 1
"""Codebooks of the frames in a packet of comfort noise."""
REFRESH_SECONDS = 0.4
"""From one packet of comfort noise to the next."""


class ComfortNoise:
    """Codes of the frames of silence, from those of a packet of comfort noise.

    Args:
        codes: ``[G, k, n]``, the oldest frame first; from the packet.
        num_frames: frames for which the noise may be played until a packet describes it again.

    Example:
        >>> noise = ComfortNoise(np.array([[[3, 1, 4, 1]]]), num_frames=50)
        >>> [int(noise.next()[0, 0, 0]) for _ in range(5)]
        [1, 1, 3, 4, 1]
    """

    def __init__(self, codes: Integers, num_frames: int) -> None:
        self._codes, self._num_frames = codes, num_frames
        self._played = 1  # the packet's own frame, which is decoded as any other

    @property
    def is_over(self) -> bool:
        """Whether the sender is gone, because no packet has described the noise for so long."""
        return self._played > self._num_frames

    def next(self) -> Integers:
        """Codes ``[G, k, 1]`` of the next frame after the packet."""
        count = self._codes.shape[2]
        index = count - 1 - int(noise_order(count, np.array([self._played]))[0])
        self._played += 1
        return self._codes[:, :, index : index + 1]
