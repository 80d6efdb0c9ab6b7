"""What the measures say of sounds whose faults are known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import soundfile
import torch

from codec.quality.metrics import (
    Samples,
    bitrate_efficiency,
    code_histogram,
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


def test_si_sdr_knows_its_decibels() -> None:
    time = torch.arange(24_000) / 24_000
    signal_, noise = torch.sin(2 * torch.pi * 100 * time), torch.sin(2 * torch.pi * 300 * time)
    assert si_sdr(signal_ + 0.1 * noise, signal_) == pytest.approx(20, abs=0.01)
    assert si_sdr(0.3 * (signal_ + 0.1 * noise), signal_) == pytest.approx(20, abs=0.01)
    assert si_sdr(signal_, signal_) > 100
    assert np.isfinite(si_sdr(torch.zeros(100), torch.zeros(100)))


def test_perplexity_counts_entries_in_use() -> None:
    codes = torch.tensor([[[0, 1, 2, 3], [5, 5, 5, 5]]])
    histogram = code_histogram(codes, 8)
    assert histogram.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 4, 0, 0]]
    assert perplexity(histogram).tolist() == pytest.approx([4, 1])


def test_efficiency_is_the_share_of_bits_that_tell_something() -> None:
    even, one, half = torch.ones(8), torch.eye(8)[0], torch.tensor([1.0] * 4 + [0.0] * 4)
    assert bitrate_efficiency(even[None]) == pytest.approx(1)
    assert bitrate_efficiency(one[None]) == pytest.approx(0)
    assert bitrate_efficiency(torch.stack((even, half, one))) == pytest.approx((3 + 2 + 0) / 9)


def test_levels_are_in_decibels_of_full_scale() -> None:
    sine = np.sin(np.arange(48_000) / 10).astype(np.float32)
    assert level(sine) == pytest.approx(-3.01, abs=0.01)
    assert level(sine / 10) == pytest.approx(-23.01, abs=0.01)
    assert level(0 * sine) is None and level(sine[:0]) is None


def test_mel_distance_grows_with_the_difference() -> None:
    original = sound(6_000)[0]
    distances = [
        mel_distance(original + size * sound(6_000, seed=1)[0], original, 24_000)
        for size in (0.0, 0.1, 1.0)
    ]
    assert distances[0] == 0 < distances[1] < distances[2]


def test_mel_distance_is_the_level_difference_of_equal_spectra() -> None:
    """Twenty decibels are one decade in each of the seven windows."""
    original = 1_000 * sound(6_000)[0]  # far above the floor
    assert mel_distance(original / 10, original, 24_000) == pytest.approx(7, abs=0.01)


def test_mel_distance_has_the_floor_of_dac() -> None:
    """Whatever lies below it counts as equal."""
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


def test_intelligibility_is_not_told_of_what_cannot_be_judged(speech: Samples) -> None:
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
