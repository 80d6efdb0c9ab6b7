"""The short-time Fourier transform of measures and spectrograms."""

from __future__ import annotations

import numpy as np

from codec.evaluation.mel import stft


def stft_magnitudes(audio: np.ndarray, window: int, *, center: bool = True) -> np.ndarray:
    """Magnitudes of the short-time Fourier transform, relative to a full-scale sine.

    Hann window, hop of a quarter window. Audio shorter than a window is padded with zeros.

    Args:
        audio: ``[N]`` float32.
        window: window length in samples.
        center: whether frames are centred on their times; the audio is then zero-padded at both
            ends, which makes its beginning look like a click if it is not silent.

    Returns:
        ``[window / 2 + 1, frames]``, float32.

    Example:
        >>> sine = np.sin(np.pi / 4 * np.arange(4096)).astype(np.float32)
        >>> magnitudes = stft_magnitudes(sine, 1024, center=False)
        >>> magnitudes.shape, f"{magnitudes.max():.3f}"
        ((513, 13), '1.000')
    """
    return np.asarray(np.abs(stft(audio, window, center=center)) / (window / 4), np.float32)
