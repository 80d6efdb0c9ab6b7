"""What the core measures of frames of audio, as functions of arrays: the same on every machine."""

from __future__ import annotations

import numpy as np

from codec.arrays import Samples
from codec.core.library import call

_LANES = 16  # frames whose spectra are computed side by side


def levels_and_weights(frames: Samples) -> tuple[Samples, Samples]:
    """Levels in dB of full scale, and perceptual weights, of frames ``[..., n]``; ``[...]`` each.

    Example:
        >>> levels, weights = levels_and_weights(np.full((2, 480), 0.1))
        >>> levels.tolist(), [round(weight, 3) for weight in weights.tolist()]
        ([-20.0, -20.0], [0.251, 0.251])
    """
    audio = np.ascontiguousarray(frames, np.float32)
    levels, weights = (np.empty(audio.shape[:-1], np.float32) for _ in range(2))
    call("aec_measure_frames", audio.shape[-1], audio, levels, weights)
    return levels, weights


def levels_above(frames: Samples, first_bin: int) -> Samples:
    """Levels ``[...]`` in dB of windowed frames ``[..., n]``, without their spectra's first bins.

    Args:
        frames: the frames.
        first_bin: the lowest one that counts, at most ``n // 2``.
    """
    audio = np.ascontiguousarray(frames, np.float32)
    size, levels = audio.shape[-1], np.empty(audio.shape[:-1], np.float32)
    call("aec_levels_above", size, first_bin, audio, levels, np.empty(3 * size, np.float32))
    return levels


def mean_spectrum(frames: Samples) -> Samples:
    """Mean power spectrum ``[(n + 1) // 2]`` of the differences of samples in frames ``[T, n]``.

    Each frame is windowed.
    """
    audio = np.ascontiguousarray(frames, np.float32)
    size = audio.shape[-1]
    spectrum = np.empty((size + 1) // 2, np.float32)
    scratch = np.empty((3 + _LANES) * size, np.float32)
    call("aec_mean_spectrum", size, audio, spectrum, scratch)
    return spectrum
