"""Measures of how a decoded sound differs from its original.

All take ``decoded`` and ``original`` as ``[N]`` float32 in [-1, 1] at the same rate. `measure`
first brings the decoded sound to the level (RMS) of the original, for every codec alike, and tells
by how much; delay is removed where the codec is run. None of these hears: each has its limits,
named in its docstring, so look at several.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

# Work is spread over files, one process each; threads inside would only get in the way.
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import librosa
import numpy as np
import torch

from benchmarks.contenders.codecs import resample
from codec.corpus.clips import muted_stderr
from codec.quality.metrics import SILENCE, mel_distance, rms, short_time_intelligibility
from codec.quality.metrics import si_sdr as si_sdr_of_tensors


class Metric(NamedTuple):
    """How a measure is shown.

    Attributes:
        title: with its unit, for an axis.
        decimals: in tables.
        better: "higher" or "lower"; empty where neither is.
        sounds: "all", or only "speech" or only "other" sounds.
    """

    title: str
    decimals: int
    better: str
    sounds: str = "all"


METRICS = {
    "pesq_wb": Metric("PESQ-WB (MOS-LQO)", 2, "higher", "speech"),
    "visqol_speech": Metric("ViSQOL, speech mode (MOS-LQO)", 2, "higher", "speech"),
    "visqol_audio": Metric("ViSQOL, audio mode (MOS-LQO)", 2, "higher", "other"),
    "stoi": Metric("STOI", 3, "higher", "speech"),
    "estoi": Metric("ESTOI", 3, "higher", "speech"),
    "mel": Metric("mel distance (log10)", 2, "lower"),
    "lsd": Metric("log-spectral distance (dB)", 1, "lower"),
    "si_sdr": Metric("SI-SDR (dB)", 1, "higher"),
    "bandwidth": Metric("bandwidth kept (kHz)", 1, "higher"),
    "gain": Metric("level correction (dB)", 1, ""),
}
"""Every figure of `measure`, in the order of tables and plots."""


def measure(
    decoded: np.ndarray,
    original: np.ndarray,
    sample_rate: int,
    *,
    speech: bool,
    visqol: bool = True,
) -> dict[str, float]:
    """Every figure of `METRICS` that fits the kind of sound.

    Args:
        decoded: ``[N]``, delay already removed.
        original: ``[N]``.
        sample_rate: of both.
        speech: PESQ, STOI, ESTOI and ViSQOL's speech mode are for speech; its audio mode is not.
        visqol: leave it out to save most of the time.

    Returns:
        Values by name. What a measure cannot tell (PESQ finds no speech, the sound is too short
        or the decoded one silent) is missing; of a silent original that is everything.
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
    """Gain in dB that brings ``decoded`` to the RMS of ``original``; 0 if either is silent.

    Matching RMS, rather than the least-squares gain, keeps a decoder from being made quieter the
    worse its waveform fits.
    """
    levels = (rms(original), rms(decoded))
    return 0.0 if min(levels) < SILENCE else 20 * math.log10(levels[0] / levels[1])


def si_sdr(decoded: np.ndarray, original: np.ndarray) -> float | None:
    """Scale-invariant signal-to-distortion ratio (arXiv:1811.02508), dB, higher is better.

    None if either is silent, which has no ratio.

    Limits: it asks for the waveform. A codec that keeps the sound but not the phase, such as a
    vocoder or Opus with its high-pass filter for speech, scores low and may sound well.
    """
    if min(rms(decoded), rms(original)) < SILENCE:
        return None
    return si_sdr_of_tensors(torch.from_numpy(decoded), torch.from_numpy(original))


SPECTRUM_WINDOW = 1024


def _spectrum(audio: np.ndarray, window: int, *, center: bool = True) -> np.ndarray:
    """Short-time spectrum ``[window / 2 + 1, frames]``, Hann, hop a quarter."""
    audio = np.pad(np.asarray(audio, np.float32), (0, max(0, window - len(audio))))
    return librosa.stft(audio, n_fft=window, hop_length=window // 4, center=center)


LSD_FLOOR = 1e-4
"""Of a full-scale sine, -80 dB: what lies below is equal."""


def log_spectral_distance(
    decoded: np.ndarray, original: np.ndarray, sample_rate: int
) -> float | None:
    """Log-spectral distance (Gray and Markel, 1976), dB, lower is better; None: all silent.

    Root of the mean over frequency of the squared difference of the spectra in dB, averaged over
    the frames (1024 samples, hop 256) in which the original is above the floor somewhere.

    Limits: all frequencies count alike, so what is cut off above costs a lot; blind to phase.
    """
    a, b = (
        np.abs(_spectrum(audio, SPECTRUM_WINDOW)) / (SPECTRUM_WINDOW / 4)
        for audio in (decoded, original)
    )
    heard = b.max(axis=0) > LSD_FLOOR
    if not heard.any():
        return None
    levels = [20 * np.log10(np.maximum(part[:, heard], LSD_FLOOR)) for part in (a, b)]
    return float(np.sqrt(np.square(levels[0] - levels[1]).mean(axis=0)).mean())


BAND_HZ = 250
BAND_FLOOR_DB = -60.0
BAND_LOSS_DB = 10.0


def bandwidth(decoded: np.ndarray, original: np.ndarray, sample_rate: int) -> float | None:
    """Upper edge of what is kept of the original's spectrum, kHz, higher is better; None: silence.

    Over bands of 250 Hz of the long-term power spectrum: the highest band that holds something in
    the original (no more than 60 dB below its strongest) and of which the decoded sound has not
    lost more than 10 dB. So the original against itself gives its own bandwidth.

    Limits: energy of any kind in a band counts as kept, noise too.
    """
    frequencies = np.arange(SPECTRUM_WINDOW // 2 + 1) * sample_rate / SPECTRUM_WINDOW
    edges = np.searchsorted(frequencies, np.arange(0, sample_rate / 2, BAND_HZ))
    # Not centred: frames that begin before the sound would see its start as a click.
    a, b = (
        np.add.reduceat(np.square(np.abs(spectrum)).mean(axis=1), edges)
        for audio in (decoded, original)
        for spectrum in [_spectrum(audio, SPECTRUM_WINDOW, center=False)]
    )
    if not b.any():
        return None
    held = b > b.max() * 10 ** (BAND_FLOOR_DB / 10)
    kept = np.flatnonzero(held & (a > b * 10 ** (-BAND_LOSS_DB / 10)))
    return float((kept.max() + 1) * BAND_HZ / 1000) if len(kept) else 0.0


def pesq_wb(decoded: np.ndarray, original: np.ndarray, sample_rate: int) -> float | None:
    """PESQ-WB (ITU-T P.862.2) at 16 kHz, 1.04 to 4.64, higher is better; None: finds no speech.

    Limits: speech only, to 8 kHz; made for telephony codecs, it knows nothing of the ways in which
    neural ones are wrong.
    """
    from pesq import PesqError, pesq

    if rms(decoded) < SILENCE:
        return None
    try:
        return float(
            pesq(16_000, *(resample(x, sample_rate, 16_000) for x in (original, decoded)), "wb")
        )
    except PesqError:
        return None


def visqol_speech(decoded: np.ndarray, original: np.ndarray, sample_rate: int) -> float | None:
    """ViSQOL v3 in speech mode (arXiv:2004.09584), 1 to 5, higher is better; None if too short.

    At 16 kHz, with the deep-lattice mapping that the C++ program uses by default.

    Limits: speech only, to 8 kHz; it was fitted to the faults of telephony, not of neural codecs.
    """
    return _visqol("speech", 16_000, decoded, original, sample_rate)


def visqol_audio(decoded: np.ndarray, original: np.ndarray, sample_rate: int) -> float | None:
    """ViSQOL v3 in audio mode (arXiv:2004.09584), 1 to 4.73, higher is better; None if too short.

    At 48 kHz, with the support vector regression that the C++ program uses.

    Limits: trained on codecs at 24 kbit/s and more. Of recordings at 24 kHz its bands above 12 kHz
    are empty in both, which counts as equal and lifts every codec's score.
    """
    return _visqol("audio", 48_000, decoded, original, sample_rate)


@cache
def _visqol_api(mode: str) -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    with muted_stderr():  # the lattice's runtime announces itself there
        # True rather than None: without the lattice's extra it must fail, not fall back.
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
    except (ValueError, IndexError):  # no patch of half a second fits, or none is active
        return None


def mean_with_interval(
    values: Sequence[float], *, num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean and its 95 % interval by the percentile bootstrap (Efron, 1979) over files.

    Limits: files of one speaker or piece are taken as independent, so it is rather too narrow.

    Returns:
        Mean, lower end, upper end.
    """
    sample = np.asarray(values, float)
    draws = np.random.default_rng(seed).integers(0, len(sample), (num_resamples, len(sample)))
    low, high = np.percentile(sample[draws].mean(axis=1), (2.5, 97.5))
    return float(sample.mean()), float(low), float(high)
