"""Quality metrics of decoded audio, and statistics of codebook use.

All functions take NumPy arrays, or anything that converts to them, torch tensors included; torch
itself is not needed. ``benchmarks/`` has more metrics.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from codec.arrays import Floats, Histogram, Samples
from codec.errors import optional_packages
from codec.evaluation.mel import MEL_BANDS, MEL_WINDOWS, mel_filterbank, stft

with optional_packages("evaluation", "evaluate"):
    from pystoi import stoi


SILENCE = 1e-6
"""RMS below which a signal counts as silence."""

MEL_FLOOR = 1e-5
"""Lower limit of mel magnitudes, as in DAC."""

POWER_FLOOR = 1e-12
"""Lower limit of energies in ratios."""


def si_sdr(decoded: npt.ArrayLike, original: npt.ArrayLike) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al., arXiv:1811.02508).

    It is in dB, higher is better, for audio of any shape, both the same. The means of both signals
    are removed first.

    Example:
        >>> tone, other = np.sin(np.arange(1_000) * 0.1), np.sin(np.arange(1_000) * 0.3)
        >>> round(si_sdr(tone + 0.1 * other, tone))
        20
    """
    a, b = (_array(audio).astype(np.float64).ravel() for audio in (decoded, original))
    a, b = a - a.mean(), b - b.mean()
    target = a @ b / max(b @ b, POWER_FLOOR) * b
    noise = a - target
    return 10 * math.log10(max(target @ target, POWER_FLOOR) / max(noise @ noise, POWER_FLOOR))


def rms(audio: Samples) -> float:
    """Root mean square of audio of any shape; 0 if there are no samples.

    Example:
        >>> rms(np.array([3.0, -3.0], np.float32))
        3.0
    """
    return math.sqrt(float(np.square(audio, dtype=np.float64).mean())) if audio.size else 0.0


def level(audio: Samples) -> float | None:
    """RMS level in dB relative to full scale; None for silence.

    Example:
        >>> round(level(np.full(100, 0.1, np.float32)))
        -20
    """
    amplitude = rms(audio)
    return 20 * math.log10(amplitude) if amplitude >= SILENCE else None


def mel_distance(decoded: Samples, original: Samples, sample_rate: int) -> float:
    """Multi-scale mel distance of DAC (arXiv:2306.06546, section 3.4) of samples ``[N]``.

    For each of seven window lengths: the mean absolute difference of log10 mel magnitudes. The
    result is the sum over the windows: lower is better, 0 for equal signals. The sampling rate is
    that of both in Hz.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
        >>> mel_distance(noise, noise, 24_000)
        0.0
    """
    total = 0.0
    for window, bands in zip(MEL_WINDOWS, MEL_BANDS, strict=True):
        filterbank = mel_filterbank(sample_rate, window, bands)
        a, b = (
            np.log10(np.maximum(filterbank @ np.abs(stft(audio, window)), MEL_FLOOR))
            for audio in (decoded, original)
        )
        total += float(np.abs(a - b).mean())
    return total


def short_time_intelligibility(
    decoded: Samples, original: Samples, sample_rate: int, *, extended: bool = False
) -> float | None:
    """STOI (Taal et al., 2011, doi:10.1109/TASL.2011.2114881) of samples ``[N]``.

    Designed for speech, up to 5 kHz; of little meaning for other sounds. The sampling rate is that
    of both in Hz. ``extended`` gives ESTOI instead (Jensen and Taal, 2016,
    doi:10.1109/TASLP.2016.2585878).

    Returns:
        About 0 to 1, higher is better; None if it is undefined: for silence, or for less than
        about half a second of sound.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 0.1, 10_000).astype(np.float32)
        >>> round(short_time_intelligibility(noise, noise, 10_000), 3)
        1.0
    """
    if level(original) is None:
        return None
    with warnings.catch_warnings():
        # If there is too little sound, pystoi warns and returns 1e-5, as for no intelligibility.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            value = float(stoi(original, decoded, sample_rate, extended=extended))
        except (RuntimeWarning, ValueError):
            return None
    return value if math.isfinite(value) else None


def count_codes(codes: npt.ArrayLike, codebook_size: int) -> Histogram:
    """Count how often each entry of codebooks occurs in codes: ``[B, K, T]`` -> ``[K, size]``.

    Example:
        >>> count_codes([[[0, 1, 1]]], codebook_size=4)
        array([[1, 2, 0, 0]])
    """
    by_codebook = _array(codes).swapaxes(0, 1)
    return np.stack([np.bincount(row.ravel(), minlength=codebook_size) for row in by_codebook])


def perplexity(histogram: npt.ArrayLike) -> Floats:
    """Effective number of entries in use: two to the power of the entropy in bits.

    Counts ``[..., codebook_size]`` give perplexities ``[...]`` from 1 to ``codebook_size``.

    Example:
        >>> perplexity([[1, 1, 1, 1], [0, 0, 4, 0]])
        array([4., 1.])
    """
    counts = _array(histogram).astype(np.float64)
    share = counts / np.maximum(counts.sum(-1, keepdims=True), 1e-9)
    entropy = -(share * np.log2(np.where(share > 0, share, 1))).sum(-1)
    return np.asarray(np.exp2(entropy))


def bitrate_efficiency(histogram: npt.ArrayLike, bits: Sequence[int] | None = None) -> float:
    """Entropy of the codes as a share of the bits they take, mean over codebooks, from 0 to 1.

    Below 1, an entropy coder would save bits. Each codebook is considered on its own.

    Args:
        histogram: counts ``[K, codebook_size]``.
        bits: bits of a code of each; those of the size of the histogram if None.

    Example:
        >>> bitrate_efficiency([[1, 1, 1, 1], [2, 2, 0, 0]])
        0.75
    """
    counts = _array(histogram)
    entropy = np.log2(perplexity(counts))
    return float((entropy / (math.log2(counts.shape[-1]) if bits is None else bits)).mean())


def _array(values: Any) -> npt.NDArray[Any]:
    """The values as an array; tensors may be on any device."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)
