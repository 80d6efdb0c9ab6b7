"""EnCodec at 48 kHz: codes and audio of ``transformers``, and the level of each chunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason='pip install "aecodec[transformers]"')

from codec.engines import base
from codec.engines.pretrained.engine import PretrainedEngine
from codec.engines.pretrained.families import ENCODEC_48KHZ, random_engine, random_model
from codec.errors import ConfigError
from tests.conftest import PRETRAINED, sound

SETTINGS = PRETRAINED["encodec"] | ENCODEC_48KHZ
STRIDE, OVERLAP, STEP_DB = 47_520, 480, 0.1875


@pytest.fixture(scope="module")
def engine() -> PretrainedEngine:
    return random_engine("encodec", **SETTINGS)


def test_codes_and_audio_are_those_of_transformers(engine: PretrainedEngine) -> None:
    own = random_model("encodec", **SETTINGS).eval()
    audio = sound(3 * STRIDE + OVERLAP, 2)
    audio[1] *= 0.01
    with torch.inference_mode():
        coded = own.encode(torch.from_numpy(audio)[None], bandwidth=24.0)
        exact = torch.stack(coded.audio_scales[:3])[..., 0]  # [chunk, B]
        step = ((20 * exact.log10() + 160) / STEP_DB).round()
        scales = 10 ** ((step * STEP_DB - 160) / 20)
        heard = own.decode(coded.audio_codes[:3], list(scales[..., None])).audio_values[0]
    codes = base.encode(engine, audio)
    # [chunk, B, layer, 30 frames of 5] -> [B, layer and place in the frame, frame]
    rows = coded.audio_codes[:3].unflatten(-1, (30, 5)).permute(1, 2, 4, 0, 3)
    expected = rows.flatten(3, 4).flatten(1, 2).numpy()
    assert codes.shape == (1, 81, 91)  # the third second overlaps with a frame of the next one
    assert (codes[:, 1:, :90] == expected).mean() > 0.999
    np.testing.assert_array_equal(codes[:, 0, :90], step.T.repeat_interleave(30, dim=1))
    same = np.concatenate((codes[:, :1, :90], expected), axis=1)
    decoded = base.decode(engine, same, 3 * STRIDE)
    difference = np.abs(decoded - heard[:, : 3 * STRIDE].numpy())
    assert difference.max() < 1e-5 * np.abs(decoded).max()
    assert ((20 * (scales / exact).log10()).abs() <= STEP_DB / 2 + 1e-4).all()


def test_a_louder_signal_has_the_same_codes_but_for_the_level(engine: PretrainedEngine) -> None:
    audio = sound(STRIDE) * np.float32(0.1)
    quiet, loud = (base.encode(engine, gain * audio) for gain in (np.float32(1), np.float32(8)))
    assert (quiet[:, 1:] == loud[:, 1:]).mean() > 0.999
    assert (loud[:, 0] - quiet[:, 0] == round(20 * np.log10(8) / STEP_DB)).all()
    peaks = [np.abs(base.decode(engine, codes, STRIDE)).max() for codes in (quiet, loud)]
    assert peaks[1] / peaks[0] == pytest.approx(8, rel=0.011)
    silence = base.encode(engine, np.zeros((1, STRIDE), np.float32))
    assert not silence[:, 0].any()
    assert np.abs(base.decode(engine, silence, STRIDE)).max() < 1e-6


def test_a_seam_is_faded_and_does_not_depend_on_the_steps(engine: PretrainedEngine) -> None:
    """The chunks are the model's own: steps of any length make the same codes and samples."""
    hop = engine.spec.hop_length
    audio = sound(100 * hop, 2)
    whole = base.encode(engine, audio)
    expected = base.decode(engine, whole, audio.shape[1])
    for size in (1, 7, 60):
        encoder, decoder = engine.init_encoder(2), engine.init_decoder(2)
        codes, heard = [], []
        for start in range(0, 100 * hop, size * hop):
            block, ahead = np.split(audio[:, start:], [size * hop], axis=1)
            ahead = ahead[:, : engine.spec.lookahead]
            coded, encoder = engine.encode_step(np.ascontiguousarray(block), encoder, 16, ahead)
            codes.append(coded)
            samples, decoder = engine.decode_step(coded, decoder)
            heard.append(samples)
        heard.append(engine.flush_step(decoder))
        assert np.array_equal(np.concatenate(codes, axis=2), whole)
        delayed = np.concatenate(heard, axis=1)[:, engine.spec.delay :]
        assert np.array_equal(delayed[:, : audio.shape[1]], expected)


def test_bitrates_are_those_of_whole_layers(engine: PretrainedEngine) -> None:
    spec = engine.spec
    assert [spec.num_codes(n) for n in range(1, 17)] == [1 + 5 * n for n in range(1, 17)]
    assert spec.channels_coded_together == 2 and spec.codebooks_for(spec.plain_bitrates[3]) == 4
    assert spec.codebooks_for(3_000) == 3  # 2.4 kbit/s: layers of 0.76 kbit/s and the level
    audio = sound(STRIDE)
    codes = base.encode(engine, audio)
    few = base.encode(engine, audio, num_codebooks=4)
    assert np.array_equal(few, codes[:, :21])
    with pytest.raises(ConfigError, match="23 codes per frame are not whole codebooks"):
        base.decode(engine, codes[:, :23], STRIDE)


def test_a_channel_alone_is_coded_as_two_that_are_equal(engine: PretrainedEngine) -> None:
    audio = sound(STRIDE)
    codes = base.encode(engine, audio)
    assert np.array_equal(codes, base.encode(engine, np.repeat(audio, 2, axis=0)))
    both = base.decode(engine, codes, STRIDE)
    alone = base.decode(engine, codes, STRIDE, channels=1)
    assert alone.shape == (1, STRIDE) and np.allclose(alone[0], both.mean(axis=0), atol=1e-7)
