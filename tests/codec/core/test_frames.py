"""What the core measures of frames is what NumPy would, but for rounding."""

from __future__ import annotations

import numpy as np
import pytest

from codec.activity.pauses import SILENT_DB
from codec.core.frames import levels_and_weights, slopes
from codec.core.library import call
from tests.conftest import sound

SIZES = [480, 441, 37, 1]


def levels_above(values: np.ndarray, first_bin: int) -> np.ndarray:
    """Levels ``[...]`` in dB of windowed frames ``[..., n]``, without the first bins."""
    audio = np.ascontiguousarray(values, np.float32)
    size, levels = audio.shape[-1], np.empty(audio.shape[:-1], np.float32)
    call("aec_levels_above", size, first_bin, audio, levels, np.empty(3 * size, np.float32))
    return levels


def mean_spectrum(values: np.ndarray) -> np.ndarray:
    """Mean power spectrum ``[(n + 1) // 2]`` of the differences of samples in frames ``[T, n]``."""
    audio = np.ascontiguousarray(values, np.float32)
    size = audio.shape[-1]
    spectrum = np.empty((size + 1) // 2, np.float32)
    scratch = np.empty(19 * size, np.float32)
    call("aec_mean_spectrum", size, audio, spectrum, scratch)
    return spectrum


def frames(size: int) -> np.ndarray:
    """Sound, noise far below it, and silence."""
    found: np.ndarray = sound(40 * size)[0].reshape(40, size).copy()
    found[20:] *= np.float32(1e-4)
    found[30:32] = 0
    return found


@pytest.mark.parametrize("size", SIZES)
def test_levels_and_weights_are_those_of_the_mean_square(size: int) -> None:
    audio = frames(size)
    power = np.square(audio.astype(float)).mean(axis=1)
    levels, weights = levels_and_weights(audio)
    np.testing.assert_allclose(levels, 10 * np.log10(power + 1e-12), atol=1e-4)
    np.testing.assert_allclose(weights, (power + 1e-10) ** 0.3, rtol=1e-5)
    for index in (0, 25):
        alone = levels_and_weights(audio[index])
        assert (alone[0], alone[1]) == (levels[index], weights[index])


@pytest.mark.parametrize("size", SIZES[:3])
def test_levels_above_a_bin_are_those_of_the_rest_of_the_spectrum(size: int) -> None:
    """Also beside a hum that is far louder, down to what counts as silence."""
    audio, first = frames(size), 3
    audio += np.float32(0.01) * np.cos(2 * np.pi * np.arange(size) / size).astype(np.float32)
    window = np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(audio * window)))[:, first:].sum(axis=1)
    expected = 10 * np.log10(2 * power / size / np.square(window).sum() + 1e-12)
    found = np.maximum(levels_above(audio, first), SILENT_DB)
    np.testing.assert_allclose(found, np.maximum(expected, SILENT_DB), atol=0.01)


@pytest.mark.parametrize("size", SIZES[:3])
@pytest.mark.parametrize("count", [1, 16, 40])
def test_the_mean_spectrum_is_that_of_differences(size: int, count: int) -> None:
    audio = frames(size)[:count]
    steps = np.diff(audio.astype(float), axis=1)
    power = np.square(np.abs(np.fft.rfft(steps * np.hanning(size - 1))))
    found = mean_spectrum(audio)
    np.testing.assert_allclose(found, power.mean(axis=0), rtol=1e-3, atol=1e-6 * power.max())


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F812345, 0xFF800001])
def test_samples_that_are_no_numbers_do_not_show_their_bits(bits: int) -> None:
    """Which differ among processors."""
    audio, quiet = frames(37)[:4], np.zeros((1, 37), np.float32)
    audio[1, 5] = np.array(bits, np.uint32).view(np.float32)
    levels, weights = levels_and_weights(audio)
    assert levels[1] < levels_and_weights(quiet)[0] and 0 < weights[1] < 1e-3
    silent = audio.copy()
    silent[1, 5] = 0
    assert np.array_equal(levels_above(audio, 3), levels_above(silent, 3))
    spectrum = mean_spectrum(audio)
    assert np.isfinite(spectrum).all() and not np.signbit(spectrum).any()


def test_slopes_are_the_steepest_to_any_later_codebook() -> None:
    rng = np.random.default_rng(0)
    errors, bits = np.sort(rng.random((50, 9)))[:, ::-1], rng.integers(5, 12, 9).astype(float)
    found, spent = slopes(errors, bits), np.cumsum(bits)
    assert np.isinf(found[:, 0]).all()
    for error, own in zip(errors, found, strict=True):
        for k in range(1, 9):
            later = [(error[k - 1] - error[j]) / (spent[j] - spent[k - 1]) for j in range(k, 9)]
            assert own[k] == min(own[k - 1], max(later))
