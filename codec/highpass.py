"""The high-pass before coding: rumble that nobody hears would take codes from all that is heard.

A constant of a tenth of full scale, or 15 Hz at -12 dBFS, costs a network that has not learned to
ignore them most of its quality. A high-pass that takes away enough of them turns the phase of low
voices by a radian. That is not heard, but adds up to 3 dB to the error of the waveform, and leaves
something of a bass when a recording has faded out. So the filter acts as far as there is rumble:
a low-pass measures what lies below 25 Hz, over half a second. Up to -50 dBFS nothing is changed,
not even a bit, and from -44 dBFS on the high-pass acts fully.

Sessions filter what they code, and with them files, tokens and the page. Both filters begin at
rest, as if there had been silence before the first sample. The core computes them
(``codec/core/src/highpass.c``), so that the same is coded on every machine.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from codec.arrays import Samples
from codec.core.library import HIGH_PASS_STATE, call

FilterState: TypeAlias = npt.NDArray[np.float64]
"""What the filter remembers: ``[C, HIGH_PASS_STATE]``. The states of several sessions are
joined along their channels."""


class HighPass:
    """The filter, in steps of whole frames, with its state as a value.

    To the bit, the result does not depend on how a signal is divided into steps, nor on what other
    channels are in them.

    Args:
        sample_rate: samples per second.
        hop_length: samples per frame.

    Example:
        >>> high_pass = HighPass(24_000, 480)
        >>> voice = np.sin(np.arange(24_000, dtype=np.float32) * np.float32(0.06))[None] / 5
        >>> filtered, state = high_pass.step(voice, high_pass.init_state(channels=1))
        >>> bool((filtered == voice).all())
        True
        >>> filtered, state = high_pass.step(voice + 0.3, high_pass.init_state(channels=1))
        >>> bool(abs(filtered[0, 12_000:].mean()) < 0.001)
        True
    """

    def __init__(self, sample_rate: int, hop_length: int) -> None:
        self._sample_rate, self._hop_length = sample_rate, hop_length

    def init_state(self, channels: int) -> FilterState:
        """State at the beginning of a signal."""
        return np.zeros((channels, HIGH_PASS_STATE))

    def step(self, audio: Samples, state: FilterState) -> tuple[Samples, FilterState]:
        """Filter the next frames.

        Args:
            audio: ``[C, T * hop_length]`` float32.
            state: from `init_state` or the step before.

        Returns:
            ``[C, T * hop_length]`` float32, and the state for the next step.
        """
        audio, after = np.ascontiguousarray(audio, np.float32), state.copy()
        filtered = np.empty_like(audio)
        sizes = self._sample_rate, self._hop_length, len(audio)
        call("aec_high_pass", *sizes, audio, after, filtered)
        return filtered, after


def high_pass(audio: Samples, sample_rate: int, hop_length: int = 480) -> Samples:
    """Filter a whole signal, as sessions do before they code it.

    `Codec.encode`, engines and training take audio as it is. Give them what comes out of this where
    they should get what they would get in a session.

    Args:
        audio: ``[C, N]`` float32, any N.
        sample_rate: samples per second.
        hop_length: samples per frame; the rumble is measured by the frame.

    Returns:
        ``[C, N]`` float32.

    Example:
        >>> high_pass(np.full((1, 4_801), 0.1, np.float32), 24_000).shape
        (1, 4801)
    """
    size, high_pass = audio.shape[1], HighPass(sample_rate, hop_length)
    padded = np.pad(audio, ((0, 0), (0, -size % hop_length)))
    filtered, _ = high_pass.step(padded, high_pass.init_state(len(audio)))
    return filtered[:, :size]
