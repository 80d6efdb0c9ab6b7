"""Short-time spectra and mel filterbanks: one definition for losses, metrics and benchmarks.

librosa is imported on first use, so that the constants are available without it.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from codec.errors import optional_packages

Spectrum = npt.NDArray[np.complex64]
Filterbank = npt.NDArray[np.float32]

MEL_WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)
"""Window lengths of the multi-scale mel distance of DAC (arXiv:2306.06546, section 3.4)."""

MEL_BANDS = (5, 10, 20, 40, 80, 160, 320)
"""Number of mel bands for each window of `MEL_WINDOWS`."""


def stft(audio: npt.ArrayLike, window: int, *, center: bool = True) -> Spectrum:
    """Short-time Fourier transform with a Hann window and a hop of a quarter window.

    Args:
        audio: samples ``[N]``; zero-padded to at least one window.
        window: window length in samples.
        center: centre frame *t* at sample ``t * hop`` with zero padding on both sides; if False,
            frame *t* starts there.

    Returns:
        Complex spectrum ``[window / 2 + 1, T]``.

    Example:
        >>> stft(np.zeros(4_096), 1_024).shape
        (513, 17)
    """
    with optional_packages("evaluation", "evaluate"):
        import librosa

    samples = np.asarray(audio, np.float32)
    samples = np.pad(samples, (0, max(0, window - len(samples))))
    spectrum: Spectrum = librosa.stft(samples, n_fft=window, hop_length=window // 4, center=center)
    return spectrum


@cache
def mel_filterbank(
    sample_rate: int, window: int, num_bands: int, *, norm: Literal["slaney"] | None = "slaney"
) -> Filterbank:
    """Triangular mel filters for the spectrum of a window.

    Args:
        sample_rate: sampling rate in Hz.
        window: window length in samples.
        num_bands: number of mel bands.
        norm: ``"slaney"`` scales each filter to unit area; None leaves its peak at one.

    Returns:
        Filters ``[num_bands, window / 2 + 1]``. The array is shared between calls and read-only.

    Example:
        >>> mel_filterbank(24_000, 1_024, 160).shape
        (160, 513)
    """
    with optional_packages("evaluation", "evaluate"):
        import librosa

    with warnings.catch_warnings():
        # At high sampling rates the lowest bands fall between two bins. Their filters are empty,
        # so that they are equal in all sounds.
        warnings.simplefilter("ignore", UserWarning)
        filters = librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=num_bands, norm=norm)
    filterbank: Filterbank = np.asarray(filters)
    filterbank.setflags(write=False)
    return filterbank
