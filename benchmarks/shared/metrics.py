"""Objective measures of decoded audio: how it differs from the original, and how it sounds alone.

All functions take ``decoded`` and ``original`` as ``[N]`` float32 in [-1, 1] at the same sample
rate. `measure` first matches the level (RMS) of the decoded audio to that of the original, for all
codecs, and reports the gain; the contenders have removed delay before. No measure replaces a
listening test: the docstring of each states its limits, so compare several of them, and of both
kinds: DNSMOS and PLCMOS (`codec.evaluation.naturalness`) hear only the decoded audio.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

# The benchmarks process several files at a time: threads within a file would only slow them down.
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import torch
from scipy.signal import butter, sosfilt

from benchmarks.shared.resampling import resample
from benchmarks.shared.spectra import stft_magnitudes
from codec.corpus.clips import muted_stderr
from codec.evaluation.harmonics import HARMONIC_BANDS_HZ, harmonic_contrast
from codec.evaluation.metrics import (
    SILENCE,
    mel_distance,
    rms,
    short_time_intelligibility,
    si_sdr as si_sdr_of_tensors,
)
from codec.evaluation.naturalness import rate_naturalness
from codec.evaluation.speaker import can_compare_speakers, speaker_similarity


class Metric(NamedTuple):
    """How a measure is shown.

    Attributes:
        title: title with the unit, for axes and tables.
        decimals: number of decimals in tables.
        better: "higher", "lower" or "zero"; empty where none is better.
        sounds: "all", or "speech" or "other" for measures of only these sounds.
    """

    title: str
    decimals: int
    better: str
    sounds: str = "all"


HARMONIC_METRICS = {
    f"harmonics_{high}": Metric(
        f"harmonic contrast {low / 1000:g}-{high / 1000:g} kHz (dB)", 1, "zero", "speech"
    )
    for low, high in HARMONIC_BANDS_HZ
}
"""Contrast of harmonics less that of the original, by band."""

METRICS = {
    "pesq_wb": Metric("PESQ-WB (MOS-LQO)", 2, "higher", "speech"),
    "visqol_speech": Metric("ViSQOL, speech mode (MOS-LQO)", 2, "higher", "speech"),
    "visqol_audio": Metric("ViSQOL, audio mode (MOS-LQO)", 2, "higher", "other"),
    "stoi": Metric("STOI", 3, "higher", "speech"),
    "estoi": Metric("ESTOI", 3, "higher", "speech"),
    "dnsmos": Metric("DNSMOS (overall)", 2, "higher", "speech"),
    "plcmos": Metric("PLCMOS", 2, "higher", "speech"),
    "speaker": Metric("speaker similarity", 3, "higher", "speech"),
    **HARMONIC_METRICS,
    "mel": Metric("mel distance (log10)", 2, "lower"),
    "lsd": Metric("log-spectral distance (dB)", 1, "lower"),
    "si_sdr": Metric("SI-SDR (dB)", 1, "higher"),
    "bandwidth": Metric("bandwidth kept (kHz)", 1, "higher"),
    "gain": Metric("level correction (dB)", 1, ""),
}
"""All figures of `measure`, in the order of tables and plots."""


def measure(
    decoded: np.ndarray,
    original: np.ndarray,
    sample_rate: int,
    *,
    speech: bool,
    visqol: bool = True,
    naturalness: bool = True,
) -> dict[str, float]:
    """All figures of `METRICS` that apply to the class of sound.

    Args:
        decoded: ``[N]`` samples, delay already removed.
        original: ``[N]`` samples.
        sample_rate: sample rate of both, in Hz.
        speech: whether it is speech. For speech, measures that are marked so in `METRICS` are
            computed; for all other sounds, ViSQOL's audio mode.
        visqol: whether to compute ViSQOL, which takes most of the time.
        naturalness: whether to compute DNSMOS and PLCMOS, which take most of the rest.

    Returns:
        Figures by name. A figure that is undefined is missing: where PESQ finds no speech, the
        audio is too short, the decoded audio silent, or a package is not installed. If the original
        is silent, all are missing.

    Example:
        >>> sine = np.sin(np.arange(24_000) / 10).astype(np.float32)
        >>> figures = measure(sine / 2, sine, 24_000, speech=False, visqol=False)
        >>> f"{figures['gain']:.2f} {figures['mel']:.2f}"
        '6.02 0.00'
    """
    if rms(original) < SILENCE:
        return {}
    gain = level_difference(decoded, original)
    decoded = decoded * np.float32(10 ** (gain / 20))
    figures: dict[str, float | None] = {}
    if speech:
        figures["pesq_wb"] = pesq_wb(decoded, original, sample_rate)
        if visqol:
            figures["visqol_speech"] = visqol_speech(decoded, original, sample_rate)
        figures["stoi"] = short_time_intelligibility(decoded, original, sample_rate)
        figures["estoi"] = short_time_intelligibility(decoded, original, sample_rate, extended=True)
        if naturalness:
            figures |= rate_naturalness(decoded, sample_rate)
        if can_compare_speakers():
            figures["speaker"] = speaker_similarity(decoded, original, sample_rate)
        contrasts = harmonic_contrast(decoded, original, sample_rate)
        figures |= dict(zip(HARMONIC_METRICS, contrasts, strict=True))
    elif visqol:
        figures["visqol_audio"] = visqol_audio(decoded, original, sample_rate)
    figures |= {
        "mel": mel_distance(decoded, original, sample_rate),
        "lsd": log_spectral_distance(decoded, original, sample_rate),
        "si_sdr": si_sdr(decoded, original),
        "bandwidth": bandwidth(decoded, original, sample_rate),
        "gain": gain,
    }
    return {name: value for name, value in figures.items() if value is not None}


def level_difference(decoded: np.ndarray, original: np.ndarray) -> float:
    """Gain in dB that matches the RMS of ``decoded`` to that of ``original``; 0 if one is silent.

    A least-squares gain would instead make decoded audio quieter, the less its waveform correlates.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=1000).astype(np.float32)
        >>> f"{level_difference(noise / 10, noise):.1f}"
        '20.0'
    """
    levels = (rms(original), rms(decoded))
    return 0.0 if min(levels) < SILENCE else 20 * math.log10(levels[0] / levels[1])


def si_sdr(decoded: np.ndarray, original: np.ndarray) -> float | None:
    """Scale-invariant signal-to-distortion ratio (arXiv:1811.02508), dB, higher is better.

    None if either is silent.

    Limits: it compares waveforms. A codec that does not preserve phase, such as a vocoder or Opus
    with its high-pass filter for speech, scores low although it may sound good.
    """
    if min(rms(decoded), rms(original)) < SILENCE:
        return None
    return si_sdr_of_tensors(torch.from_numpy(decoded), torch.from_numpy(original))


SPECTRUM_WINDOW = 1024

LSD_FLOOR = 1e-4
"""Relative to a full-scale sine, -80 dB: magnitudes below count as equal to it."""


def log_spectral_distance(
    decoded: np.ndarray, original: np.ndarray, sample_rate: int
) -> float | None:
    """Log-spectral distance (Gray and Markel, 1976) in dB, lower is better; None for silence.

    Root of the mean over frequency of the squared difference of the spectra in dB, averaged over
    the frames (1024 samples, hop 256) in which the original exceeds the floor at some frequency.

    Limits: all frequencies have the same weight, so a reduced bandwidth costs a lot; it ignores
    phase.
    """
    a, b = (stft_magnitudes(audio, SPECTRUM_WINDOW) for audio in (decoded, original))
    heard = b.max(axis=0) > LSD_FLOOR
    if not heard.any():
        return None
    levels = [20 * np.log10(np.maximum(part[:, heard], LSD_FLOOR)) for part in (a, b)]
    return float(np.sqrt(np.square(levels[0] - levels[1]).mean(axis=0)).mean())


BAND_HZ = 250
BAND_FLOOR_DB = -60.0
BAND_LOSS_DB = 10.0


def bandwidth(decoded: np.ndarray, original: np.ndarray, sample_rate: int) -> float | None:
    """Upper edge in kHz of the spectrum that is preserved, higher is better; None for silence.

    In bands of 250 Hz of the long-term power spectrum: the highest band that is occupied in the
    original (at most 60 dB below its strongest band) and that is at most 10 dB weaker in the
    decoded audio. The original compared with itself gives its own bandwidth.

    Limits: any energy in a band counts, noise included.
    """
    frequencies = np.arange(SPECTRUM_WINDOW // 2 + 1) * sample_rate / SPECTRUM_WINDOW
    edges = np.searchsorted(frequencies, np.arange(0, sample_rate / 2, BAND_HZ))
    # Not centred: in frames that begin before the audio, its start would look like a click.
    a, b = (
        np.add.reduceat(np.square(magnitudes).mean(axis=1), edges)
        for audio in (decoded, original)
        for magnitudes in [stft_magnitudes(audio, SPECTRUM_WINDOW, center=False)]
    )
    if not b.any():
        return None
    held = b > b.max() * 10 ** (BAND_FLOOR_DB / 10)
    kept = np.flatnonzero(held & (a > b * 10 ** (-BAND_LOSS_DB / 10)))
    return float((kept.max() + 1) * BAND_HZ / 1000) if len(kept) else 0.0


RUMBLE_HZ = 50.0


def pesq_wb(decoded: np.ndarray, original: np.ndarray, sample_rate: int) -> float | None:
    """PESQ-WB (ITU-T P.862.2) at 16 kHz, 1.04 to 4.64, higher is better; None without speech.

    Both are first high-passed at `RUMBLE_HZ`: with rumble, PESQ misaligns the two, and jumps
    between neighbouring bitrates.

    Limits: speech only, up to 8 kHz; designed for telephony codecs, not for the artefacts of neural
    codecs.
    """
    from pesq import PesqError, pesq

    if rms(decoded) < SILENCE:
        return None
    heard = (
        resample(without_rumble(x, sample_rate), sample_rate, 16_000) for x in (original, decoded)
    )
    try:
        return float(pesq(16_000, *heard, "wb"))
    except PesqError:
        return None


def without_rumble(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Audio ``[N]`` above `RUMBLE_HZ`, by a Butterworth filter of fourth order."""
    sections = butter(4, RUMBLE_HZ, "high", fs=sample_rate, output="sos")
    return np.asarray(sosfilt(sections, audio), np.float32)


def visqol_speech(decoded: np.ndarray, original: np.ndarray, sample_rate: int) -> float | None:
    """ViSQOL v3 in speech mode (arXiv:2004.09584), 1 to 5, higher is better; None if too short.

    At 16 kHz, with the deep lattice network that the C++ program uses by default.

    Limits: speech only, up to 8 kHz; fitted to artefacts of telephony, not of neural codecs.
    """
    return _visqol("speech", 16_000, decoded, original, sample_rate)


def visqol_audio(decoded: np.ndarray, original: np.ndarray, sample_rate: int) -> float | None:
    """ViSQOL v3 in audio mode (arXiv:2004.09584), 1 to 4.73, higher is better; None if too short.

    At 48 kHz, with the support vector regression that the C++ program uses.

    Limits: trained on codecs at 24 kbit/s and more. For recordings at 24 kHz, its bands above
    12 kHz are empty in both signals, which counts as equal and raises the scores of all codecs.
    """
    return _visqol("audio", 48_000, decoded, original, sample_rate)


@cache
def _visqol_api(mode: str) -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    with muted_stderr():  # the runtime of the lattice network prints a notice
        # True rather than None: without the lattice's extra it fails instead of falling back.
        api.create(mode=mode, use_lattice_model=True if mode == "speech" else None)
    return api


def _visqol(
    mode: str, rate: int, decoded: np.ndarray, original: np.ndarray, sample_rate: int
) -> float | None:
    if rms(decoded) < SILENCE:
        return None
    pair = (resample(audio, sample_rate, rate).astype(float) for audio in (original, decoded))
    try:
        return float(_visqol_api(mode).measure_from_arrays(*pair, rate).moslqo)
    except (ValueError, IndexError):  # shorter than a patch of half a second, or none is active
        return None


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are defined; None if none is.

    Example:
        >>> mean([1.0, None, 2.0])
        1.5
    """
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def mean_with_interval(
    values: Sequence[float], *, num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean and its 95 % confidence interval by the percentile bootstrap (Efron, 1979) over files.

    Limits: it treats files of one speaker or piece as independent, so it tends to be too narrow.

    Args:
        values: one value per file, at least one.
        num_resamples: number of bootstrap samples.
        seed: seed of the bootstrap.

    Returns:
        Mean, lower end, upper end.

    Example:
        >>> mean_with_interval([3.0])
        (3.0, 3.0, 3.0)
    """
    sample = np.asarray(values, float)
    draws = np.random.default_rng(seed).integers(0, len(sample), (num_resamples, len(sample)))
    low, high = np.percentile(sample[draws].mean(axis=1), (2.5, 97.5))
    return float(sample.mean()), float(low), float(high)
