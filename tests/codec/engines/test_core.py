"""The engine of the core: what it refuses, how near its 8 bits are, and that they never change."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec.engines import base
from codec.engines.core import CoreEngine
from codec.engines.torch import TorchEngine
from codec.errors import ConfigError, ModelError
from codec.registry import load_model
from tests.conftest import RECORDING, sound


@pytest.fixture(scope="module")
def packaged() -> CoreEngine:
    return CoreEngine("speech24k")


def recording(seconds: float) -> np.ndarray:
    samples, rate = soundfile.read(RECORDING, dtype="float32", always_2d=True)
    assert rate == 24_000
    return np.ascontiguousarray(samples[: int(seconds * rate)].T)


def test_a_model_is_run_by_the_core_if_nobody_says_otherwise(model_folder: Path) -> None:
    for model in ("speech24k", model_folder):
        assert isinstance(load_model(model).engine, CoreEngine)
        assert isinstance(load_model(model, backend="torch").engine, TorchEngine)
    with pytest.raises(ModelError, match=r"no backend 'onnx': give one of \['core', 'torch'\]"):
        load_model(model_folder, backend="onnx")  # type: ignore[arg-type]


def test_a_delay_that_the_layers_do_not_have_is_refused(model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "model")
    path = folder / "config.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps(description | {"delay": description["delay"] + 1}))
    with pytest.raises(ModelError, match="gives a delay of 21 samples, its layers have 20"):
        CoreEngine(folder)


def test_codes_and_samples_are_the_same_on_every_machine(packaged: CoreEngine) -> None:
    """Whatever computes them. They change only with the weights or with the arithmetic."""
    codes = base.encode(packaged, recording(3))
    heard = base.decode(packaged, codes[:, :12], 72_000)
    digests = [hashlib.sha256(each.tobytes()).hexdigest()[:16] for each in (codes, heard)]
    assert digests == ["da17952c12cff94f", "e28e28b8131c893b"]


def test_eight_bits_are_near_float32(packaged: CoreEngine) -> None:
    """Most codes are the same, and most of the latent; the codes left are nearly as good."""
    exact, audio = load_model(backend="torch").engine, recording(3)
    found, _ = packaged.analyze_step(audio, packaged.init_encoder(1))
    expected, _ = exact.analyze_step(audio, exact.init_encoder(1))
    difference = ((found.latent - expected.latent) ** 2).mean()
    assert difference < 1e-3 * (expected.latent**2).mean()
    assert (found.codes == expected.codes)[:, :4].mean() > 0.8
    np.testing.assert_allclose(found.errors.mean(), expected.errors.mean(), rtol=0.02)
    heard = [base.decode(engine, expected.codes, 72_000)[0] for engine in (packaged, exact)]
    mine, theirs = (np.abs(np.fft.rfft(each.reshape(-1, 480))) for each in heard)
    assert np.abs(np.log(mine + 0.1) - np.log(theirs + 0.1)).mean() < 0.2


def test_impossible_numbers_of_codebooks_are_refused(packaged: CoreEngine) -> None:
    audio = np.zeros((1, 480), np.float32)
    for count in (0, 21):
        with pytest.raises(ConfigError, match=f"{count} codebooks asked for.* 1 to 20"):
            packaged.encode_step(audio, packaged.init_encoder(1), count)
        with pytest.raises(ConfigError, match=f"codes of {count} codebooks.* 1 to 20"):
            packaged.decode_step(np.zeros((1, count, 1), np.int64), packaged.init_decoder(1))


def test_weights_are_checked_before_they_are_used(model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="is damaged or from another model"):
        CoreEngine(folder)


def test_weights_of_another_shape_are_refused(model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"kernel_size": 3', '"kernel_size": 2'))
    with pytest.raises(ModelError, match=r"weights\.safetensors does not fit its config\.json"):
        CoreEngine(folder)


def test_threads_share_an_engine(packaged: CoreEngine) -> None:
    audio = [sound(4_800 + 480 * number) for number in range(8)]
    expected = [base.encode(packaged, each) for each in audio]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: base.encode(packaged, each), audio))
    for mine, alone in zip(found, expected, strict=True):
        assert np.array_equal(mine, alone)


def test_joined_sessions_compute_what_they_do_alone(packaged: CoreEngine) -> None:
    codes = base.encode(packaged, sound(4_800, 3))
    states = [packaged.init_decoder(1), packaged.init_decoder(2)]
    joined = packaged.join_states(states)
    heard, joined = packaged.decode_step(codes, joined)
    first, second = packaged.split_state(joined, channels=[1, 2])
    alone, after = packaged.decode_step(codes[1:], states[1])
    assert np.array_equal(heard[1:], alone)
    assert np.array_equal(packaged.flush_step(second), packaged.flush_step(after))
    assert len(packaged.flush_step(first)) == 1


def test_a_process_may_end_while_threads_compute() -> None:
    """Their memory is left to the system: daemon threads go on until the very end."""
    script = """
import threading
import numpy as np
from codec import load_model
engine, running = load_model().engine, threading.Barrier(3)
codes = np.zeros((1, 12, 10_000), np.int64)
def decode():
    state = engine.init_decoder(1)
    running.wait()
    while True:
        engine.decode_step(codes, state)
for _ in range(2):
    threading.Thread(target=decode, daemon=True).start()
running.wait()
engine.decode_step(codes[:, :, :500], engine.init_decoder(1))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
