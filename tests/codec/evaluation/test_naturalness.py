"""DNSMOS and PLCMOS: what they prefer, and that they leave no trace."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from codec.evaluation.naturalness import can_rate_naturalness, dnsmos, plcmos
from tests.conftest import RECORDING, sound

if not can_rate_naturalness():
    pytest.skip('pip install "aecodec[evaluate]"', allow_module_level=True)

RATE = 24_000
Rate = Callable[[np.ndarray, int], float | None]


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, _ = soundfile.read(RECORDING, dtype="float32", stop=4 * RATE + 7)
    return np.asarray(samples, np.float32)


def score(rate: Rate, audio: np.ndarray, sample_rate: int = RATE) -> float:
    value = rate(audio, sample_rate)
    assert value is not None and 0.9 < value < 5.1
    return value


def test_noise_lowers_dnsmos(speech: np.ndarray) -> None:
    noisy = speech + sound(len(speech))[0] * np.float32(0.1)
    assert score(dnsmos, speech) > score(dnsmos, noisy) + 0.5


def test_lost_packets_lower_plcmos(speech: np.ndarray) -> None:
    lost = speech.copy()
    for start in range(0, len(lost), 4_800):
        lost[start : start + 960] = 0
    assert score(plcmos, speech) > score(plcmos, lost) + 0.5


@pytest.mark.parametrize("rate", [dnsmos, plcmos])
def test_a_score_repeats_and_leaves_the_random_numbers_of_others_alone(
    speech: np.ndarray, rate: Rate
) -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random(2)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    first, drawn = score(rate, speech), np.random.random()  # noqa: NPY002
    second = score(rate, speech)
    assert first == second
    assert [drawn, np.random.random()] == expected.tolist()  # noqa: NPY002


@pytest.mark.parametrize("rate", [dnsmos, plcmos])
def test_silence_and_too_little_sound_have_no_score(speech: np.ndarray, rate: Rate) -> None:
    assert rate(np.zeros(RATE, np.float32), RATE) is None
    assert rate(np.zeros(0, np.float32), RATE) is None
    assert rate(speech[RATE : RATE + RATE // 2 - 1], RATE) is None
    assert rate(speech[RATE : RATE + RATE // 2], RATE) is not None


def test_samples_beyond_full_scale_are_clipped(speech: np.ndarray) -> None:
    loud = speech * np.float32(2 / np.abs(speech).max())
    assert score(plcmos, loud) == pytest.approx(score(plcmos, loud.clip(-1, 1)), abs=0.2)


def test_long_audio_is_rated_in_pieces(speech: np.ndarray) -> None:
    """Nine seconds of speech, then nine of loud noise: neither counts for the whole."""
    noise = sound(10 * RATE)[0] * np.float32(0.3)
    part = np.resize(speech, round(9.01 * RATE))
    mixed = score(dnsmos, np.concatenate([part, noise]))
    assert score(dnsmos, noise) + 0.3 < mixed < score(dnsmos, part) - 0.3
