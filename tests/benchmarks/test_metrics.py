"""The measures: perfect on equality, correct in known cases, stable on stored pairs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.contenders.ffmpeg import Opus
from benchmarks.shared.metrics import (
    HARMONIC_METRICS,
    METRICS,
    bandwidth,
    level_difference,
    log_spectral_distance,
    mean_with_interval,
    measure,
    si_sdr,
    visqol_audio,
    visqol_speech,
)
from codec.evaluation.metrics import mel_distance
from tests.conftest import RECORDING, sound

RATE = 24_000


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, _ = soundfile.read(RECORDING, dtype="float32", stop=4 * RATE)
    return np.asarray(samples, np.float32)


@pytest.fixture(scope="module")
def noisy(speech: np.ndarray) -> dict[str, float]:
    """Every figure of the example with white noise of RMS 0.01 added."""
    degraded = speech + np.random.default_rng(0).normal(0, 0.01, len(speech)).astype(np.float32)
    figures = measure(degraded, speech, RATE, speech=True)
    return figures | measure(degraded, speech, RATE, speech=False)


def test_audio_compared_with_itself_is_perfect(speech: np.ndarray) -> None:
    figures = measure(speech, speech, RATE, speech=True)
    figures |= measure(speech, speech, RATE, speech=False)
    assert set(figures) | {"speaker"} == set(METRICS)
    assert figures.pop("speaker", 1) == pytest.approx(1)
    assert figures.pop("dnsmos") > 3 and figures.pop("plcmos") > 3.5
    assert figures.pop("si_sdr") > 100
    assert figures.pop("bandwidth") > 11
    assert figures == pytest.approx(
        {
            "pesq_wb": 4.6439,  # the top of P.862.2's mapping
            "visqol_speech": 4.64,
            "visqol_audio": 4.7321,  # what the C++ program gives for equality (its conformance)
            "stoi": 1,
            "estoi": 1,
            "mel": 0,
            "lsd": 0,
            "gain": 0,
            **dict.fromkeys(HARMONIC_METRICS, 0),
        },
        abs=2e-3,
    )


STORED = {
    "pesq_wb": 1.5344,
    "visqol_speech": 1.5374,
    "visqol_audio": 2.7512,
    "stoi": 0.98827,
    "estoi": 0.94573,
    "mel": 3.2306,
    "lsd": 12.423,
    "si_sdr": 22.022,
}


def test_known_values_of_a_stored_pair(noisy: dict[str, float]) -> None:
    """The values of pesq 0.0.4, pystoi 0.4.1 and visqol-python 3.8.0."""
    assert {name: noisy[name] for name in STORED} == pytest.approx(STORED, rel=5e-3)


PUBLISHED_VISQOL = {
    "strauss48_stereo.wav strauss48_stereo_lp35.wav": 1.3889,
    "steely48_stereo.wav steely48_stereo_lp7.wav": 2.2502,
    "sopr48_stereo.wav sopr48_stereo_256kbps_aac.wav": 4.6823,
    "ravel48_stereo.wav ravel48_stereo_128kbps_opus.wav": 4.4651,
    "moonlight48_stereo.wav moonlight48_stereo_128kbps_aac.wav": 4.6843,
    "harpsichord48_stereo.wav harpsichord48_stereo_96kbps_mp3.wav": 4.2237,
    "guitar48_stereo.wav guitar48_stereo_64kbps_aac.wav": 4.3497,
    "glock48_stereo.wav glock48_stereo_48kbps_aac.wav": 4.3325,
    "contrabassoon48_stereo.wav contrabassoon48_stereo_24kbps_aac.wav": 2.3469,
    "castanets48_stereo.wav castanets48_stereo.wav": 4.7321,
    "CA01_01.wav transcoded_CA01_01.wav": 3.3130,
}
"""Values of the C++ program for its conformance files (google/visqol, testdata)."""


def test_visqol_conforms_to_the_program_on_its_recordings() -> None:
    folder = os.environ.get("VISQOL_TESTDATA")
    if not folder:
        pytest.skip("set VISQOL_TESTDATA to the folder testdata of google/visqol")
    for pair, published in PUBLISHED_VISQOL.items():
        speech = pair.startswith("CA01")
        place = Path(folder) / ("clean_speech" if speech else "conformance_testdata_subset")
        (original, rate), (degraded, _) = (
            soundfile.read(place / name, always_2d=True) for name in pair.split()
        )
        decoded, reference = (x.mean(axis=1).astype(np.float32) for x in (degraded, original))
        value = (visqol_speech if speech else visqol_audio)(decoded, reference, rate)
        # The tolerances of the port.
        assert value == pytest.approx(published, abs=0.003 if speech else 0.0002), pair


def test_opus_gets_better_with_bitrate(speech: np.ndarray) -> None:
    opus = Opus()
    low, high = (
        measure(opus.code(speech, RATE, bitrate).audio, speech, RATE, speech=True)
        for bitrate in (6_000, 24_000)
    )
    for name, metric in METRICS.items():
        if name in low and metric.better == "zero":
            assert abs(high[name]) < abs(low[name]), name
        elif name in low and metric.better:
            sign = 1 if metric.better == "higher" else -1
            assert sign * (high[name] - low[name]) > 0, name


def test_level_is_matched_before_measuring(speech: np.ndarray) -> None:
    figures = measure(speech / 2, speech, RATE, speech=False, visqol=False)
    assert figures["gain"] == pytest.approx(6.02, abs=0.01)
    assert (figures["mel"], figures["lsd"]) == pytest.approx((0, 0), abs=1e-3)


def test_si_sdr_is_the_ratio_of_powers() -> None:
    original, noise = sound(50_000, seed=1)[0], sound(50_000, seed=2)[0]
    noise -= original * (noise @ original) / (original @ original)
    noise *= 0.1 * np.linalg.norm(original) / np.linalg.norm(noise)
    assert si_sdr(3 * (original + noise), original) == pytest.approx(20, abs=0.05)


def test_ten_times_the_level_is_a_mel_distance_of_one_per_window() -> None:
    noise = sound(30_011)[0]
    assert mel_distance(10 * noise, noise, RATE) == pytest.approx(7, abs=0.05)


def test_log_spectral_distance_of_a_gain_is_that_gain() -> None:
    noise = sound(30_011)[0]
    assert log_spectral_distance(noise / 2, noise, RATE) == pytest.approx(6.02, abs=0.05)


@pytest.mark.parametrize("edge", [3000, 6000, 12000])
def test_bandwidth_is_where_the_spectrum_ends(edge: int) -> None:
    noise = sound(3 * RATE)[0]
    spectrum = np.fft.rfft(noise)
    spectrum[np.fft.rfftfreq(len(noise), 1 / RATE) > edge] = 0
    cut = np.fft.irfft(spectrum, len(noise)).astype(np.float32)
    assert bandwidth(cut, noise, RATE) == pytest.approx(edge / 1000, abs=0.26)
    # An original with this bandwidth has lost nothing.
    assert bandwidth(noise, cut, RATE) == pytest.approx(edge / 1000, abs=0.26)


@pytest.mark.parametrize("length", [0, 1, 100, 5000])
def test_short_and_silent_audio_has_the_figures_that_are_defined(length: int) -> None:
    silence, noise = np.zeros(length, np.float32), sound(length)[0]
    assert measure(noise, silence, RATE, speech=True) == {}
    for speech in (True, False):
        for decoded in (silence, noise):
            figures = measure(decoded, noise, RATE, speech=speech)
            assert all(np.isfinite(value) for value in figures.values())
            assert ("mel" in figures) == (length > 0)
    assert level_difference(silence, noise) == 0


def test_the_interval_contains_the_mean_95_times_of_100() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        _, low, high = mean_with_interval(rng.normal(1, 2, 40).tolist(), num_resamples=500)
        held += low < 1 < high
    assert 180 <= held <= 197
    assert mean_with_interval([3.0]) == (3, 3, 3)
