"""Metrics return known values for signals with known distortions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import soundfile
import torch

from codec.arrays import Samples
from codec.evaluation.mel import MEL_BANDS, MEL_WINDOWS, mel_filterbank, stft
from codec.evaluation.metrics import (
    bitrate_efficiency,
    count_codes,
    level,
    mel_distance,
    perplexity,
    short_time_intelligibility,
    si_sdr,
)
from tests.conftest import RECORDING, sound


@pytest.fixture(scope="module")
def speech() -> Samples:
    samples: Samples = soundfile.read(RECORDING, dtype="float32", stop=60_000)[0]
    return samples


def test_si_sdr_of_a_signal_with_added_noise_is_their_ratio() -> None:
    time = np.arange(24_000) / 24_000
    tone, noise = np.sin(2 * np.pi * 100 * time), np.sin(2 * np.pi * 300 * time)
    assert si_sdr(tone + 0.1 * noise, tone) == pytest.approx(20, abs=0.01)
    assert si_sdr(0.3 * (tone + 0.1 * noise), tone) == pytest.approx(20, abs=0.01)
    assert si_sdr(tone, tone) > 100
    assert np.isfinite(si_sdr(np.zeros(100), np.zeros(100)))


def test_si_sdr_of_tensors_equals_that_of_arrays() -> None:
    decoded, original = sound(3_000, 2)
    tensors = (torch.from_numpy(audio)[None, None] for audio in (decoded, original))
    assert si_sdr(*tensors) == si_sdr(decoded, original)


def test_the_spectrum_of_a_sine_peaks_at_its_frequency() -> None:
    tone = np.sin(2 * np.pi * 1_000 * np.arange(24_000) / 24_000)
    magnitudes = np.abs(stft(tone, 1_200, center=False))
    assert magnitudes.shape == (601, 77)  # a hop of 300 samples, whole windows only
    assert (magnitudes.argmax(0) == 50).all()
    assert magnitudes.max() == pytest.approx(300, rel=1e-3)  # a quarter of the Hann window


def test_mel_filterbanks_are_shared_and_protected_from_changes() -> None:
    for window, bands in zip(MEL_WINDOWS, MEL_BANDS, strict=True):
        filterbank = mel_filterbank(24_000, window, bands)
        assert filterbank.shape == (bands, window // 2 + 1)
        assert filterbank is mel_filterbank(24_000, window, bands)
        with pytest.raises(ValueError, match="read-only"):
            filterbank *= 2
    assert mel_filterbank(24_000, 614, 24, norm=None).max() == pytest.approx(1, abs=0.05)


def test_perplexity_counts_entries_in_use() -> None:
    codes = torch.tensor([[[0, 1, 2, 3], [5, 5, 5, 5]]])
    histogram = count_codes(codes, 8)
    assert histogram.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 4, 0, 0]]
    assert perplexity(histogram).tolist() == pytest.approx([4, 1])


def test_efficiency_is_the_entropy_as_a_share_of_the_bits() -> None:
    even, one, half = np.ones(8), np.eye(8)[0], np.array([1.0] * 4 + [0.0] * 4)
    assert bitrate_efficiency(even[None]) == pytest.approx(1)
    assert bitrate_efficiency(one[None]) == pytest.approx(0)
    assert bitrate_efficiency(np.stack((even, half, one))) == pytest.approx((3 + 2 + 0) / 9)


def test_levels_are_in_decibels_of_full_scale() -> None:
    sine = np.sin(np.arange(48_000) / 10).astype(np.float32)
    assert level(sine) == pytest.approx(-3.01, abs=0.01)
    assert level(np.float32(0.1) * sine) == pytest.approx(-23.01, abs=0.01)
    assert level(0 * sine) is None and level(sine[:0]) is None


def test_mel_distance_grows_with_the_difference() -> None:
    original = sound(6_000)[0]
    distances = [
        mel_distance(original + size * sound(6_000, seed=1)[0], original, 24_000)
        for size in (0.0, 0.1, 1.0)
    ]
    assert distances[0] == 0 < distances[1] < distances[2]


def test_mel_distance_is_the_level_difference_of_equal_spectra() -> None:
    """A level difference of 20 dB is one decade in each of the seven windows."""
    original = 1_000 * sound(6_000)[0]  # far above the floor
    assert mel_distance(original / 10, original, 24_000) == pytest.approx(7, abs=0.01)


def test_mel_magnitudes_below_the_floor_count_as_equal() -> None:
    silence = np.zeros(3_000, np.float32)
    assert mel_distance(1e-9 * sound(3_000)[0], silence, 24_000) == 0
    constant = mel_distance(sound(3_000)[0], silence, 24_000)
    assert mel_distance(sound(3_000)[0], silence + np.float32(1e-9), 24_000) == constant


@pytest.mark.parametrize("sample_rate", [1_000, 8_000, 11_025, 44_100, 96_000])
@pytest.mark.parametrize("num_samples", [0, 1, 31, 2_047, 2_049])
def test_mel_distance_takes_any_rate_and_length(sample_rate: int, num_samples: int) -> None:
    decoded, original = sound(num_samples, 2)
    distance = mel_distance(decoded, original, sample_rate)
    assert np.isfinite(distance) and (distance > 0) == (num_samples > 0)


def test_noise_makes_speech_less_intelligible(speech: Samples) -> None:
    noise = sound(len(speech), seed=3)[0]
    scores = [
        short_time_intelligibility(speech + size * noise, speech, 24_000) for size in (0, 0.3, 3)
    ]
    assert scores[0] == pytest.approx(1) and scores[2] is not None
    assert 1 > (scores[1] or 0) > scores[2]


def test_intelligibility_is_none_for_silence_and_very_short_sounds(speech: Samples) -> None:
    silence = np.zeros_like(speech)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for decoded, original in (
            (speech, silence),
            (silence, silence),
            (speech * np.float32(np.nan), speech),
            *((speech[:size], speech[:size]) for size in (0, 1, 100, 300, 5_000)),
        ):
            assert short_time_intelligibility(decoded, original, 24_000) is None
    assert short_time_intelligibility(silence, speech, 24_000) == pytest.approx(0)
