"""Discontinuous transmission (DTX): in calls, silence is described and not sent.

In a call each side is silent for about half of the time. When a sender has been silent for a while,
it sends a packet of comfort noise, with the first codes of a few frames, and then nothing. Such a
packet comes again and again while the silence lasts, so that the noise follows that of the room,
and a receiver that lost one, or joined late, knows that it is silence. A decoder plays the codes of
these frames in an order that does not repeat, through the same network, so that the noise begins
and ends without clicks (RFC 3389 and the silence descriptors of AMR, 3GPP TS 26.092, do the same
with filters and levels).
"""

from __future__ import annotations

from collections import deque

import numpy as np

from codec.arrays import Samples
from codec.bitrate import ceil_div
from codec.entropy.context import Integers
from codec.entropy.pauses import PauseDetector, noise_order

NOISE_FRAMES = 8
"""Frames in a packet of comfort noise: 160 ms at 50 frames per second."""
NOISE_CODES = 1
"""Codes of each of them, per channel."""
HANGOVER_SECONDS = 0.2
"""Silence is sent for so long before it is left out: what fades away belongs to the speech."""
REFRESH_SECONDS = 0.4
"""From one packet of comfort noise to the next."""
RISE_DB = 6.0
"""Silence ends with a frame that is so much louder than the mean of it."""
FOLLOWING = 0.05
"""Weight of a frame in that mean."""


class SilenceDetector:
    """Finds silence in frames that follow one another, without hearing what comes next.

    Silence is what counts as a pause in files: steady noise far below the speech. It begins when
    that has lasted for `HANGOVER_SECONDS`, and ends with the first louder frame.

    Args:
        sample_rate: samples per second.
        hop_length: samples per frame.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> audio = 0.1 * rng.standard_normal((1, 9_600)).astype(np.float32)
        >>> audio[:, 2_400:] *= 0.001
        >>> detector = SilenceDetector(24_000, 480)
        >>> [detector.find(audio[:, n : n + 480]) for n in range(0, 9_600, 480)].index(True)
        15
    """

    def __init__(self, sample_rate: int, hop_length: int) -> None:
        self._pauses = PauseDetector(sample_rate, hop_length)
        self._hangover = ceil_div(round(HANGOVER_SECONDS * sample_rate), hop_length)
        self._recent: deque[Samples] = deque(maxlen=self._hangover)  # quiet frames in a row
        self._mean: float | None = None  # level of the silence in dB; None outside of one

    def find(self, frame: Samples) -> bool:
        """Whether the next frame ``[C, hop_length]`` is silence that need not be sent."""
        level, is_quiet = self._pauses.is_quiet(frame, decays=self._mean is None)
        if self._mean is not None:
            if is_quiet and level <= self._mean + RISE_DB:
                self._mean += FOLLOWING * (level - self._mean)
                return True
            self._mean = None
            self._recent.clear()
        if not is_quiet:
            self._recent.clear()
            return False
        if len(self._recent) == self._hangover:
            self._recent.append(frame)
            audio = np.concatenate(self._recent, axis=1)
            self._mean = self._pauses.noise_level(audio)
            return self._mean is not None
        self._recent.append(frame)
        return False


class ComfortNoise:
    """Codes of the frames of silence, from those of a packet of comfort noise.

    Args:
        codes: ``[C, k, n]``, the oldest frame first; from the packet.

    Example:
        >>> noise = ComfortNoise(np.array([[[3, 1, 4, 1]]]))
        >>> [int(noise.next()[0, 0, 0]) for _ in range(6)]
        [1, 1, 1, 3, 4, 1]
    """

    def __init__(self, codes: Integers) -> None:
        self._codes, self._played = codes, 0

    def next(self) -> Integers:
        """Codes ``[C, k, 1]`` of the next frame; the first is that of the packet itself."""
        count = self._codes.shape[2]
        place = count - 1 - int(noise_order(count, np.array([self._played]))[0])
        self._played += 1
        return self._codes[:, :, place : place + 1]
