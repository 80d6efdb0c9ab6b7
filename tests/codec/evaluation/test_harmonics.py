"""The contrast of harmonics, on sounds whose harmonics are known."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from codec.arrays import Samples
from codec.evaluation.harmonics import contrast_by_band, harmonic_contrast, voiced_parts
from tests.conftest import RECORDING, sound

RATE = 24_000


def buzz(pitch: float, highest: float = 11_000, seconds: float = 1.0) -> Samples:
    """Harmonics of equal power up to a frequency."""
    time = np.arange(round(seconds * RATE)) / RATE
    numbers = range(1, int(highest / pitch) + 1)
    audio = sum(np.cos(2 * np.pi * pitch * k * time + k * k) for k in numbers)
    return np.asarray(0.02 * np.asarray(audio), np.float32)


def low_passed(audio: Samples, frequency: float) -> Samples:
    spectrum = np.fft.rfft(audio)
    spectrum[round(frequency * len(audio) / RATE) :] = 0
    return np.asarray(np.fft.irfft(spectrum, len(audio)), np.float32)


@pytest.mark.parametrize("pitch", [70.0, 123.4, 210.0, 390.0])
def test_the_pitch_of_a_buzz_is_found(pitch: float) -> None:
    found = [each for _, each in voiced_parts(buzz(pitch), RATE)]
    assert len(found) > 20
    assert np.allclose(found, pitch, rtol=0.01)


def test_noise_and_silence_have_no_pitch() -> None:
    assert not list(voiced_parts(sound(RATE)[0], RATE))
    assert not list(voiced_parts(np.zeros(RATE, np.float32), RATE))


@pytest.mark.parametrize("length", [0, 1, 959, 3_000])
def test_too_short_audio_has_no_contrast(length: int) -> None:
    audio = buzz(150)[:length]
    assert harmonic_contrast(audio, audio, RATE) == (None, None, None)


def test_noise_above_a_frequency_is_seen_in_the_bands_above_it() -> None:
    original = buzz(140)
    noise = sound(RATE)[0]
    low = low_passed(original, 4_000)
    decoded = low + (noise - low_passed(noise, 4_000)) * np.float32(0.3)
    first, second, third = harmonic_contrast(decoded, original, RATE)
    assert first == pytest.approx(0, abs=0.5) and second == pytest.approx(0, abs=1)
    assert third is not None and third < -10


def test_more_noise_between_harmonics_means_less_contrast() -> None:
    original, noise = buzz(180), sound(RATE)[0]
    changes = [
        harmonic_contrast(original + np.float32(gain) * noise, original, RATE)[0]
        for gain in (0.01, 0.03, 0.1)
    ]
    assert all(change is not None for change in changes)
    assert 0 > changes[0] > changes[1] > changes[2]  # type: ignore[operator]


def test_a_slightly_different_pitch_and_another_level_keep_the_contrast() -> None:
    quiet: Samples = buzz(151.5) * np.float32(0.1)
    changes = harmonic_contrast(quiet, buzz(150), RATE)
    assert changes == pytest.approx((0, 0, 0), abs=1.5)


def test_bands_without_harmonics_are_left_out() -> None:
    contrast = contrast_by_band(buzz(3_500)[:2_400], 3_500, RATE)
    assert np.isnan(contrast[0]) and contrast[1] > 10


def test_real_speech_has_harmonics_that_noise_of_its_spectrum_has_not() -> None:
    speech, _ = soundfile.read(RECORDING, dtype="float32", stop=4 * RATE)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, len(speech) // 2 + 1)
    noise = np.fft.irfft(np.abs(np.fft.rfft(speech)) * np.exp(1j * phases), len(speech))
    assert harmonic_contrast(speech, speech, RATE) == (0, 0, 0)
    first, second, _ = harmonic_contrast(noise.astype(np.float32), speech, RATE)
    assert first is not None and second is not None and first < -10 and second < -4
