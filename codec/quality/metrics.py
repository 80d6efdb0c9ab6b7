"""Measures of decoded sound and of the use of codebooks. ``benchmarks/`` has more of them."""

from __future__ import annotations

import math
import warnings
from functools import cache

import librosa
import numpy as np
import numpy.typing as npt
import torch
from pystoi import stoi
from scipy.special import entr
from torch import Tensor

from codec.quality.mel import MEL_BANDS, MEL_WINDOWS

Samples = npt.NDArray[np.float32]
Histogram = npt.NDArray[np.int64]

SILENCE = 1e-6
"""RMS below which there is nothing to compare with."""

MEL_FLOOR = 1e-5
"""DAC's: mel magnitudes below it are equal."""


def si_sdr(decoded: npt.ArrayLike, original: npt.ArrayLike) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., arXiv:1811.02508).

    Args:
        decoded: audio of any shape; its mean is removed first.
        original: audio of the same shape; likewise.
    """
    a, b = (np.asarray(audio, np.float64).ravel() for audio in (decoded, original))
    a, b = a - a.mean(), b - b.mean()
    target = (a @ b) / max(b @ b, 1e-12) * b
    noise = a - target
    return 10 * math.log10(max(target @ target, 1e-12) / max(noise @ noise, 1e-12))


def rms(audio: Samples) -> float:
    """Root of the mean square."""
    return math.sqrt(float(np.square(audio, dtype=np.float64).mean())) if audio.size else 0.0


def level(audio: Samples) -> float | None:
    """RMS in dB relative to full scale; None for silence."""
    amplitude = rms(audio)
    return 20 * math.log10(amplitude) if amplitude >= SILENCE else None


def mel_distance(decoded: Samples, original: Samples, sample_rate: int) -> float:
    """Multi-scale mel distance of DAC (arXiv:2306.06546, section 3.4), lower is better.

    The sum over seven windows of the mean absolute difference of log10 mel magnitudes.

    Args:
        decoded: ``[N]``.
        original: ``[N]``.
        sample_rate: of both.
    """
    total = 0.0
    for window, bands in zip(MEL_WINDOWS, MEL_BANDS, strict=True):
        basis = _mel_basis(sample_rate, window, bands)
        a, b = (
            np.log10(np.maximum(basis @ _magnitudes(audio, window), MEL_FLOOR))
            for audio in (decoded, original)
        )
        total += float(np.abs(a - b).mean())
    return total


def short_time_intelligibility(
    decoded: Samples, original: Samples, sample_rate: int, *, extended: bool = False
) -> float | None:
    """STOI (Taal et al., 2011, doi:10.1109/TASL.2011.2114881), about 0 to 1, higher is better.

    It is about speech, to 5 kHz: of other sounds it says little.

    Args:
        decoded: ``[N]``.
        original: ``[N]``.
        sample_rate: of both.
        extended: ESTOI instead (Jensen and Taal, 2016, doi:10.1109/TASLP.2016.2585878).

    Returns:
        None where it cannot tell: silence, or less than about half a second of sound.
    """
    if level(original) is None:
        return None
    with warnings.catch_warnings():
        # It warns of too little sound and then returns 1e-5, as if nothing was understood.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            value = float(stoi(original, decoded, sample_rate, extended=extended))
        except (RuntimeWarning, ValueError):
            return None
    return value if math.isfinite(value) else None


def code_histogram(codes: Tensor, codebook_size: int) -> Tensor:
    """How often each entry occurs: codes ``[B, K, T]`` -> counts ``[K, codebook_size]``."""
    flat = codes.transpose(0, 1).flatten(1)
    counts = torch.zeros(len(flat), codebook_size, device=codes.device)
    return counts.scatter_add_(1, flat, torch.ones(flat.shape, device=codes.device))


def count_codes(codes: npt.NDArray[np.integer], codebook_size: int) -> Histogram:
    """Number of times that each entry occurs: codes ``[C, K, T]`` -> ``[K, codebook_size]``."""
    return np.stack(
        [np.bincount(book.ravel(), minlength=codebook_size) for book in codes.swapaxes(0, 1)]
    )


def perplexity(histogram: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Entries in effective use, per codebook: two to the power of the entropy in bits."""
    counts = np.asarray(histogram, np.float64)
    share = counts / counts.sum(-1, keepdims=True).clip(1e-9)
    found: npt.NDArray[np.float64] = np.exp(entr(share).sum(-1))
    return found


def bitrate_efficiency(histogram: npt.ArrayLike) -> float:
    """Entropy of the codes, each codebook by itself, as a share of the bits they are sent in."""
    size = np.shape(histogram)[-1]
    return float(np.log2(perplexity(histogram)).mean() / math.log2(size))


@cache
def _mel_basis(sample_rate: int, window: int, bands: int) -> npt.NDArray[np.float32]:
    with warnings.catch_warnings():
        # At high rates the lowest bands lie between two bins. Empty, they are equal in all sounds.
        warnings.simplefilter("ignore", UserWarning)
        return np.asarray(librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=bands))


def _magnitudes(audio: Samples, window: int) -> npt.NDArray[np.float32]:
    """Magnitudes ``[window / 2 + 1, frames]``: Hann, hop a quarter, at least one window long."""
    audio = np.pad(np.asarray(audio, np.float32), (0, max(0, window - len(audio))))
    magnitudes: npt.NDArray[np.float32] = np.abs(
        librosa.stft(audio, n_fft=window, hop_length=window // 4)
    )
    return magnitudes
