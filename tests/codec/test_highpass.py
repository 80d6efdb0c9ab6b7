"""The high-pass before coding, as a filter and in everything that codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from pesq import pesq
from scipy.signal import butter, sosfilt

from codec import Constant, decode_file, encode_file
from codec.core.library import HIGH_PASS_STATE
from codec.corpus import read_tokens
from codec.corpus.coding import code_audio
from codec.engines.base import encode
from codec.engines.torch import TorchEngine
from codec.format.payload import unpack_codes
from codec.highpass import HighPass, high_pass
from codec.io.audio import open_audio
from codec.network.model import Codec
from codec.registry import load_model
from codec.session.encoder import StreamEncoder
from tests.conftest import RECORDING, sound

RATE = 24_000


def tone(frequency: float, amplitude: float, seconds: float = 3.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * frequency * time))[None].astype(np.float32)


def rumbling(seconds: float = 3.0) -> np.ndarray:
    return tone(15, 0.25, seconds)


def level_db(audio: np.ndarray) -> float:
    """Of the last second, relative to full scale."""
    return float(20 * np.log10(audio[:, -RATE:].std() + 1e-12))


@pytest.mark.parametrize("audio", [0.1 * sound(50_001, 2), tone(220, 0.3), 0 * sound(500)])
def test_what_has_no_rumble_passes_unchanged(audio: np.ndarray) -> None:
    assert np.array_equal(high_pass(audio, RATE), audio)


def test_the_filter_goes_on_after_samples_that_are_no_numbers() -> None:
    audio = rumbling()
    damaged = audio.copy()
    damaged[:, 5_000], damaged[:, 7_000], damaged[:, 9_000] = np.nan, np.inf, -1e38
    audio[:, [5_000, 7_000, 9_000]] = 0
    assert np.array_equal(high_pass(damaged, RATE), high_pass(audio, RATE))
    # Nor does it remember them, in a state that was made by somebody else.
    filtered, state = HighPass(RATE, 480).step(audio, np.full((1, HIGH_PASS_STATE), np.nan))
    assert np.isfinite(filtered).all() and np.isfinite(state).all()


@pytest.mark.parametrize("frequency", [8, 12, 15, 20, 25])
def test_rumble_goes(frequency: float) -> None:
    audio = tone(frequency, 0.25)
    assert level_db(high_pass(audio, RATE)) < level_db(audio) - 42


@pytest.mark.parametrize("constant", [0.1, -0.3])
def test_a_constant_goes_and_silence_after_it_is_silence(constant: float) -> None:
    audio = np.full((1, 4 * RATE), constant, np.float32)
    audio[:, 2 * RATE :] = 0
    filtered = high_pass(audio, RATE)
    assert np.abs(filtered[:, RATE : 2 * RATE]).max() < 1e-6
    assert not filtered[:, -RATE:].any()


@pytest.mark.parametrize("frequency", [70, 100, 300, 5_000])
def test_voices_above_rumble_keep_their_level(frequency: float) -> None:
    filtered = high_pass(tone(frequency, 0.2) + rumbling(), RATE)
    assert level_db(filtered) == pytest.approx(level_db(tone(frequency, 0.2)), abs=0.1)


@pytest.mark.parametrize("hop", [480, 40, 997, 1])
def test_the_result_depends_neither_on_steps_nor_on_other_channels(hop: int) -> None:
    num_frames = 4_000 // hop + 3
    audio = sound(num_frames * hop, 3) + np.array([[0.3], [0.0], [0.004]], np.float32)
    high_pass = HighPass(8_000, hop)
    whole, last = high_pass.step(audio, high_pass.init_state(3))
    assert not np.array_equal(whole[0], audio[0])
    for channels in (slice(0, 1), slice(1, 3)):
        pieces, state = [], high_pass.init_state(3)[channels]
        for piece in np.split(audio[channels], [hop, hop, 3 * hop], axis=1):
            filtered, state = high_pass.step(piece, state)
            pieces.append(filtered)
        assert np.array_equal(np.concatenate(pieces, axis=1), whole[channels])
        assert np.array_equal(state, last[channels])


def test_sessions_code_what_the_filter_lets_through(codec: Codec) -> None:
    """However the audio is pushed, and many sessions that are stepped together, too."""
    engine = TorchEngine(codec)
    spec = engine.spec
    audio = sound(24 * spec.hop_length) + np.float32(0.3)
    expected = encode(engine, high_pass(audio, spec.sample_rate, spec.hop_length))
    assert not np.array_equal(expected, encode(engine, audio))
    for step in (1, 37, audio.shape[1]):
        encoder = StreamEncoder(engine)
        packets = [
            packet
            for start in range(0, audio.shape[1], step)
            for packet in encoder.push(audio[:, start : start + step])
        ]
        packets += encoder.finish()
        codes = [unpack_codes(p.payload, p.num_frames, encoder.header) for p in packets]
        assert (np.concatenate(codes, axis=2) == expected).mean() > 0.99


def test_tokens_of_a_corpus_are_those_of_a_file_with_rumble(tmp_path: Path) -> None:
    source, target = tmp_path / "a.wav", tmp_path / "a.codes"
    soundfile.write(source, (tone(200, 0.2, 0.9) + rumbling(0.9))[0], RATE)
    engine = load_model().engine
    with open_audio(source, mono=True) as reader:
        coded = code_audio(engine, engine.spec.num_codebooks, reader)
    encode_file(source, target, rate=Constant(plain=True))
    assert np.array_equal(next(read_tokens(target)).frames, coded.frames)


@pytest.mark.parametrize("rumble", ["DC 0.1", "DC -0.3", "15 Hz"])
def test_rumble_hardly_costs_quality(rumble: str, tmp_path: Path) -> None:
    """Without the filter it costs more than one PESQ; figures vary by a tenth."""
    samples = 0.6 * soundfile.read(RECORDING)[0][: 3 * RATE]
    other = rumbling()[0] if rumble == "15 Hz" else float(rumble.split()[1])
    audible = butter(4, 100, "high", fs=RATE, output="sos")

    def score(audio: np.ndarray) -> float:
        source, coded, target = (tmp_path / name for name in ("a.wav", "a.codes", "b.wav"))
        soundfile.write(source, audio, RATE, subtype="FLOAT")
        encode_file(source, coded, rate=6_000, force=True)
        decode_file(coded, target, force=True)
        decoded = soundfile.read(target)[0]
        pair = (soxr.resample(sosfilt(audible, each), RATE, 16_000) for each in (audio, decoded))
        return float(pesq(16_000, *pair, "wb"))

    assert score(samples + other) > score(samples) - 0.25
