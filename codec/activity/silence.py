"""`SilenceDetector`: silence of a live stream, which need not be sent (DTX)."""

from __future__ import annotations

from collections import deque

import numpy as np

from codec.activity.pauses import PauseDetector
from codec.arrays import Samples
from codec.bitrate import ceil_div

HANGOVER_SECONDS = 0.2
"""Silence is sent for so long before it is left out: what fades away belongs to the speech."""
RISE_DB = 6.0
"""Silence ends with a frame that is so much louder than the mean of it."""
FOLLOWING = 0.05
"""Weight of a frame in that mean."""


class SilenceDetector:
    """Finds silence in frames that follow one another, without look-ahead.

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
