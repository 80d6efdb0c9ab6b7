"""Contrast of harmonics: how far those of voices rise above the noise between them.

Codecs at low bitrates tend to code voiced speech above 1 or 2 kHz as noise with the right envelope,
which sounds hoarse and which few metrics notice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codec.arrays import Floats, Samples

HARMONIC_BANDS_HZ = ((0, 1500), (1500, 4000), (4000, 8000))
"""Bands of `harmonic_contrast`: above the first limit, up to the second."""

PITCH_HZ = (60.0, 400.0)
FRAME_SECONDS = 0.04
HOP_SECONDS = 0.02
SMOOTHED_HZ = 1500.0
PERIODICITY = 0.85
"""Correlation of a frame with itself one period later from which it is voiced."""
VOICED_LEVEL = 0.03
"""RMS of a voiced frame, at least, relative to the loudest one."""
MIN_FRAMES = 10

PERIODS = 6
"""Length of the spectra in periods: enough to separate harmonics, short if the pitch moves."""
FFT_SECONDS = 1 / 3
TUNING = np.linspace(0.98, 1.02, 41)
MAX_CONTRAST = 40.0
"""Contrast in dB of a harmonic beyond which the noise is masked."""
POWER_FLOOR = 1e-12


def harmonic_contrast(
    decoded: Samples, original: Samples, sample_rate: int
) -> tuple[float | None, ...]:
    """Contrast of the harmonics of decoded speech, less that of the original, by band.

    In voiced frames of the original, the spectra of both at multiples of the fundamental frequency
    are compared with those half-way between: the contrast is the mean difference in dB. Each
    spectrum may be tuned to another fundamental, up to 2 % away.

    Limits: one voice at a time. What is noisy in the original, such as breathy voices and most
    sounds above 5 kHz, has little contrast to lose. More contrast than the original sounds buzzing.

    Both are samples ``[N]``, at a sampling rate in Hz.

    Returns:
        dB per band of `HARMONIC_BANDS_HZ`: 0 is best, negative if harmonics are lost. None where
        fewer than `MIN_FRAMES` frames have harmonics.

    Example:
        >>> time = np.arange(24_000) / 24_000
        >>> buzz = sum(np.sin(2 * np.pi * 150 * k * time) for k in range(1, 50)).astype(np.float32)
        >>> noise = np.random.default_rng(0).normal(0, 5, 24_000).astype(np.float32)
        >>> harmonic_contrast(buzz, buzz, 24_000)
        (0.0, 0.0, 0.0)
        >>> all(change < -10 for change in harmonic_contrast(noise, buzz, 24_000))
        True
    """
    differences = [
        contrast_by_band(decoded[part], pitch, sample_rate)
        - contrast_by_band(original[part], pitch, sample_rate)
        for part, pitch in voiced_parts(original, sample_rate)
    ]
    by_band = np.array(differences).reshape(-1, len(HARMONIC_BANDS_HZ)).T
    return tuple(_mean(values[np.isfinite(values)]) for values in by_band)


def voiced_parts(audio: Samples, sample_rate: int) -> Iterator[tuple[slice, float]]:
    """Places of `PERIODS` periods in the voiced frames of a recording, with their pitch in Hz.

    The pitch is that of the shortest period with nearly the greatest normalised correlation, of
    what lies below about `SMOOTHED_HZ`.
    """
    shortest, longest = (int(sample_rate / pitch) for pitch in reversed(PITCH_HZ))
    size, hop = (round(seconds * sample_rate) for seconds in (FRAME_SECONDS, HOP_SECONDS))
    starts = range(0, len(audio) - size - longest, hop)
    if not starts:
        return
    kernel = np.hanning(2 * round(sample_rate / SMOOTHED_HZ) + 1)
    smooth = np.convolve(audio, kernel / kernel.sum(), "same")
    levels = [float(np.sqrt(np.square(audio[start : start + size]).mean())) for start in starts]
    loudest = max(levels)
    for start, level in zip(starts, levels, strict=True):
        if level <= VOICED_LEVEL * loudest:
            continue
        correlation = _autocorrelation(smooth[start : start + size + longest], size)[shortest:]
        greatest = float(correlation.max())
        if greatest < PERIODICITY:
            continue
        first = int(np.argmax(correlation >= 0.95 * greatest))
        while first + 1 < len(correlation) and correlation[first + 1] > correlation[first]:
            first += 1
        period = shortest + first + _peak_offset(correlation[first - 1 : first + 2])
        centre, length = start + (size + period) / 2, PERIODS * period
        begin = round(centre - length / 2)
        end = begin + round(length)
        if begin >= 0 and end <= len(audio):
            yield slice(begin, end), sample_rate / period


def contrast_by_band(frame: Samples, pitch: float, sample_rate: int) -> Floats:
    """Contrast of the harmonics of one frame in dB, per band; NaN in bands without harmonics.

    A frame has samples ``[N]`` of a few periods. The pitch, in Hz as is the sampling rate, is tuned
    by up to 2 % to where the contrast is greatest.
    """
    size = round(FFT_SECONDS * sample_rate)
    spectrum = np.fft.rfft(frame * np.hanning(len(frame)), size)
    power = 10 * np.log10(np.square(np.abs(spectrum)) + POWER_FLOOR)
    highest = min(HARMONIC_BANDS_HZ[-1][1], 0.48 * sample_rate)
    numbers = np.arange(1, int(highest / pitch / TUNING[-1]))
    bins = pitch * TUNING[:, None] * FFT_SECONDS
    peaks = power[np.rint(bins * numbers).astype(int)]
    valleys = power[np.rint(bins * (numbers + 0.5)).astype(int)]
    contrasts = np.minimum(peaks - valleys, MAX_CONTRAST)
    tuned = contrasts[contrasts.mean(axis=1).argmax()] if len(numbers) else contrasts[0]
    found = []
    for low, high in HARMONIC_BANDS_HZ:
        inside = tuned[(numbers * pitch > low) & (numbers * pitch <= high)]
        found.append(inside.mean() if len(inside) else np.nan)
    return np.array(found)


def _autocorrelation(audio: Samples, size: int) -> Floats:
    """Normalised correlation of the first ``size`` samples with those ``lag`` later, by lag."""
    audio = audio - audio.mean(dtype=np.float64)
    num_lags = len(audio) - size + 1
    length = 1 << (len(audio) + size).bit_length()
    first, whole = np.fft.rfft(audio[:size], length), np.fft.rfft(audio, length)
    products = np.fft.irfft(np.conj(first) * whole, length)[:num_lags]
    energies = np.cumsum(np.pad(np.square(audio), (1, 0)))
    energies = energies[size:] - energies[:num_lags]
    scale = np.sqrt(np.maximum(energies[0] * energies, 0)) + POWER_FLOOR
    return np.asarray(products / scale)


def _peak_offset(around: Floats) -> float:
    """Place of the maximum of the parabola through three values, relative to the middle one."""
    if len(around) < 3:  # at the end of the range
        return 0.0
    before, peak, after = around
    curvature = before - 2 * peak + after
    return 0.0 if curvature >= 0 else float(0.5 * (before - after) / curvature)


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) >= MIN_FRAMES else None
