"""DNSMOS and PLCMOS: what they prefer, and that they leave no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec.evaluation.naturalness import can_rate_naturalness, dnsmos, plcmos
from tests.conftest import RECORDING, REPOSITORY, sound

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


TELEMETRY = "ORT_DISABLE_TELEMETRY"


def run(script: str, home: Path, **variables: str) -> None:
    """Run a script with another home folder, where nothing says whether it may be written to."""
    environment = {k: v for k, v in os.environ.items() if k not in (TELEMETRY, "CI")}
    environment = {k: v for k, v in environment.items() if not k.startswith("XDG_")}
    environment |= {"HOME": str(home), "PYTHONPATH": str(REPOSITORY)} | variables
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_rating_writes_nothing_to_an_empty_home(tmp_path: Path) -> None:
    """The use of onnxruntime is not reported."""
    script = "import codec.evaluation.naturalness; from speechmos.plcmos import PLCMOS; PLCMOS()"
    run(script, tmp_path, NUMBA_CACHE_DIR=str(tmp_path.parent))
    assert [path.name for path in tmp_path.rglob("*") if "onnxruntime" in path.name] == []


def test_a_user_who_has_decided_on_telemetry_is_respected(tmp_path: Path) -> None:
    script = "import os, codec.evaluation.naturalness; "
    run(script + f"assert os.environ[{TELEMETRY!r}] == '0'", tmp_path, **{TELEMETRY: "0"})
