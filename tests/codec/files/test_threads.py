"""Files in several threads: the same bytes and samples as in one."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from codec.arrays import Codes, Samples
from codec.cli.app import main
from codec.engines.core import CoreEngine
from codec.engines.long_steps import FIRST_RUN_IN, LEAST, LongSteps
from codec.errors import ConfigError
from codec.files.decode import decode_file
from codec.files.encode import encode
from codec.rate.modes import Average, Constant, Rate
from codec.registry import Model, load_model
from tests.conftest import RECORDING

RATE, HOP = 24_000, 480
SHORTEST = 2 * LEAST * FIRST_RUN_IN * HOP
"""Samples of a step that is divided."""


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    loaded = load_model(backend="core")
    yield loaded
    loaded.engine.threads = 1


def speech(num_samples: int) -> np.ndarray:
    return np.resize(soundfile.read(RECORDING, dtype="float32")[0], num_samples)


def decoded(data: bytes, model: Model, sample_rate: int | None = None) -> tuple[np.ndarray, str]:
    target = io.BytesIO()
    target.name = "a.wav"
    summary = decode_file(io.BytesIO(data), target, model=model, sample_rate=sample_rate)
    return soundfile.read(io.BytesIO(target.getvalue()))[0], str(summary.damage())


@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("rate", [Average(2_000), Constant(3)])
def test_a_file_is_the_same_with_any_number_of_threads(
    model: Model, rate: Rate, threads: int
) -> None:
    """Of many packets, none of the lengths whole, with a pause, two channels, and resampled."""
    audio = np.stack((speech(2 * SHORTEST + 12_345), speech(2 * SHORTEST + 24_690)[12_345:]))
    audio[:, 100_000:150_000] *= 0.001
    model.engine.threads = 1
    data = encode(audio, RATE, model=model, rate=rate)
    samples = decoded(data, model, 44_100)[0]
    model.engine.threads = threads
    assert encode(audio, RATE, model=model, rate=rate) == data
    assert np.array_equal(decoded(data, model, 44_100)[0], samples)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_many_channels_do_not_take_many_times_the_memory(
    model: Model, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps are as long as a few packets for each thread, or 16 seconds of all channels."""
    model.engine.threads = 2
    sizes = []

    def encode_step(audio: Samples, *rest: Any) -> tuple[Codes, Any]:
        sizes.append(audio.shape[1])
        groups = len(audio), 2, audio.shape[1] // HOP
        return np.zeros(groups, np.int64), rest[0]

    monkeypatch.setattr(model.engine, "encode_step", encode_step)
    audio = np.zeros((channels, 40 * RATE), np.float32)
    encode(audio, RATE, model=model, rate=Constant(2, plain=True))
    assert max(sizes) == {1: 32, 2: 16, 6: 8}[channels] * RATE


def test_a_damaged_packet_costs_the_same_samples(model: Model) -> None:
    model.engine.threads = 1
    data = bytearray(encode(speech(2 * SHORTEST), RATE, model=model, rate=Constant(2)))
    data[len(data) // 2] ^= 255
    expected, damage = decoded(bytes(data), model)
    assert "None" not in damage
    model.engine.threads = 3
    found, found_damage = decoded(bytes(data), model)
    assert np.array_equal(found, expected)
    assert found_damage == damage


def test_steps_are_the_same_where_run_ins_are_too_short(model: Model) -> None:
    """The state after a run-in is compared, and what begins with another one computed again."""
    engine = copy.copy(model.engine)
    assert isinstance(engine, CoreEngine)
    network = engine._network
    codes, _ = engine.encode_step(speech(80 * HOP)[None], engine.init_encoder(1), 4)
    steps = LongSteps(network.decode, network.init_decoder, 1, axes=(1,))
    steps._run_in = 10
    audio, state = steps.run(codes, network.init_decoder(1), threads=2)
    expected, last = network.decode(codes, network.init_decoder(1))
    assert np.array_equal(audio, expected)
    assert np.array_equal(state, last)
    assert steps._run_in > 10


def test_states_depend_on_nothing_before_a_run_in(model: Model) -> None:
    """Or parts would be computed again, and threads gain nothing."""
    engine, audio = model.engine, speech(150 * HOP)[None]
    start = 150 - FIRST_RUN_IN
    codes, whole = engine.encode_step(audio, engine.init_encoder(1))
    _, late = engine.encode_step(audio[:, start * HOP :], engine.init_encoder(1))
    assert np.array_equal(late, whole)
    _, whole = engine.decode_step(codes, engine.init_decoder(1))
    _, late = engine.decode_step(codes[:, :, start:], engine.init_decoder(1))
    assert np.array_equal(late.network, whole.network)


def test_a_part_has_the_samples_of_the_whole(model: Model) -> None:
    """The two seconds before it are enough for the same state."""
    model.engine.threads = 1
    data = encode(speech(8 * RATE), RATE, model=model, rate=Average(3_000))
    parts = []
    for span in (None, (5.1, 6.9)):
        target = io.BytesIO()
        decode_file(io.BytesIO(data), target, model=model, span=span)
        parts.append(soundfile.read(io.BytesIO(target.getvalue()))[0])
    whole, part = parts
    assert np.array_equal(part, whole[round(5.1 * RATE) : round(6.9 * RATE)])


def test_engines_whose_results_depend_on_steps_refuse_threads() -> None:
    engine = load_model(backend="torch").engine
    with pytest.raises(ConfigError, match=r"computes speech24k in one step after.*--backend core"):
        engine.threads = 2
    with pytest.raises(ConfigError, match="threads is 0: it must be a whole number from 1 to"):
        engine.threads = 0


def test_several_files_share_the_threads(tmp_path: Path) -> None:
    for name, size in {"a": 30_000, "b": 40_000, "c": 50_000}.items():
        soundfile.write(tmp_path / f"{name}.wav", speech(size), RATE)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    outcomes = []
    for threads in ("1", "3"):
        out = tmp_path / threads
        words = ["encode", str(tmp_path), "--out-dir", str(out), "--threads", threads]
        result = CliRunner().invoke(main, [*words, "--backend", "core", "-b", "3k"])
        files = {each.name: each.read_bytes() for each in sorted(out.iterdir())}
        outcomes.append((result.exit_code, result.output.splitlines()[-1], files))
    assert outcomes[0] == outcomes[1]
    assert list(outcomes[0][2]) == ["a.codes", "b.codes", "c.codes"]
