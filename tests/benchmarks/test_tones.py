"""The benchmark of tones: what its receiver takes for a digit, and what counts as noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tones
from benchmarks.shared.recordings import SAMPLE_RATE

TIME = np.arange(SAMPLE_RATE // 10) / SAMPLE_RATE


def pair(low: float, high: float, gain: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * low * TIME) + gain * np.sin(2 * np.pi * high * TIME)


@pytest.mark.parametrize("amplitude", tones.AMPLITUDES)
def test_every_digit_is_recognised_and_none_twice(amplitude: float) -> None:
    digits = tones.make_digits(amplitude)
    assert tones.count_digits(digits) == 16
    # One digit to the left: each place holds another digit, or none.
    assert tones.count_digits(np.roll(digits, -len(TIME) * 2)) == 0


def test_a_digit_needs_both_tones_at_like_levels_above_the_noise() -> None:
    assert tones.is_digit(pair(697, 1209), 697, 1209)
    assert tones.is_digit(pair(697, 1209, 0.5), 697, 1209)
    assert not tones.is_digit(pair(697, 1209, 0.3), 697, 1209)  # 10 dB apart
    assert not tones.is_digit(pair(697, 1336), 697, 1209)
    noise = np.random.default_rng(0).standard_normal(len(TIME)) * 1.5
    assert not tones.is_digit(pair(697, 1209) + noise, 697, 1209)


@pytest.mark.parametrize("pink", [False, True])
def test_rows_of_tones_are_more_uneven_than_noise(pink: bool) -> None:
    noise = tones.make_noise(pink)
    assert abs(tones.unevenness(noise)) < 0.2
    repeated = np.tile(noise[: SAMPLE_RATE // 50], 200)
    assert tones.unevenness(repeated) > 10


def test_the_command_measures_each_bitrate(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(model_folder), "--bitrates", "10k", "--peers", "", "--out"]
    tones.main([*words, str(tmp_path)])
    (line, *_) = json.loads((tmp_path / "tones.json").read_text("utf-8"))["lines"]
    assert line["digits_0.1"] <= 16 and line["silence"] >= 0
    assert f"| {line['codec']} |" in capsys.readouterr().out
