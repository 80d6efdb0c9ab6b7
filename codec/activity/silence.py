"""`SilenceDetector`: silence of a live stream, which need not be sent (DTX)."""

from __future__ import annotations

from collections import deque

import numpy as np

from codec.activity.pauses import PauseDetector
from codec.arrays import Samples
from codec.bitrate import ceil_div


class SilenceDetector:
    """Finds silence in frames that follow one another, without look-ahead.

    Silence is what counts as a pause in files: steady noise far below the speech. It begins when
    that has lasted for 0.2 seconds, as what fades away belongs to the speech, and ends with a frame
    that is 6 dB louder than the mean of it.

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
        self._hangover = ceil_div(round(0.2 * sample_rate), hop_length)
        self._recent: deque[Samples] = deque(maxlen=self._hangover)  # quiet frames in a row
        self._mean: float | None = None  # level of the silence in dB; None outside of one

    def find(self, frame: Samples) -> bool:
        """Whether the next frame ``[C, hop_length]`` is silence that need not be sent."""
        level, is_quiet = self._pauses.is_quiet(frame, decays=self._mean is None)
        if self._mean is not None:
            if is_quiet and level <= self._mean + 6.0:
                self._mean += 0.05 * (level - self._mean)
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
