"""Models of other projects behind the engine seam: small random ones, and no network."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("transformers", reason='pip install "aecodec[transformers]"')
pytest.importorskip("snac", reason='pip install "aecodec[snac]"')

from codec import decode_file, encode_file
from codec.corpus import read_tokens
from codec.engines import base
from codec.engines.base import Engine
from codec.engines.pretrained.causal import CausalEngine
from codec.engines.pretrained.engine import PretrainedEngine
from codec.engines.pretrained.families import ENCODEC_48KHZ, load_pretrained, random_model
from codec.errors import MissingPackageError, ModelError
from codec.registry import load_model
from codec.session.decoder import StreamDecoder
from tests.codec.cli.test_cli import fails, run
from tests.conftest import PRETRAINED, sound
from tests.laws.test_laws import decode, encode

FRAMES = 40
CASES = {
    **{name: (name, settings) for name, settings in PRETRAINED.items()},
    "encodec-48khz": ("encodec", PRETRAINED["encodec"] | ENCODEC_48KHZ),
    # As the models at 32 and 44.1 kHz, on shorter windows.
    "snac-attention": (
        "snac",
        {
            **{"encoder_dim": 16, "encoder_rates": [4, 3], "decoder_dim": 64, "codebook_dim": 4},
            **{"decoder_rates": [3, 4], "attn_window_size": 8, "vq_strides": [8, 4, 2, 1]},
        },
    ),
}
"""Families and settings of every kind of engine."""


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def family(case: str) -> str:
    return CASES[case][0]


@pytest.fixture(scope="module")
def folder(case: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / f"my-{case}"
    family, settings = CASES[case]
    random_model(family, **settings).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def engine(family: str, folder: Path) -> PretrainedEngine:
    return load_pretrained(family, folder)


@pytest.fixture(scope="module")
def audio(engine: PretrainedEngine) -> np.ndarray:
    return sound(FRAMES * engine.spec.hop_length, 2)


@pytest.fixture(scope="module")
def whole(engine: PretrainedEngine, audio: np.ndarray) -> np.ndarray:
    return base.encode(engine, audio)


def test_a_random_model_has_codes_that_follow_the_sound(whole: np.ndarray) -> None:
    """Otherwise the tests below would compare constants."""
    assert (np.diff(whole, axis=2) != 0).mean() > 0.5


@pytest.mark.parametrize("case", ["encodec", "dac", "mimi"], indirect=True)
def test_whole_signals_are_coded_as_transformers_codes_them(
    family: str, engine: PretrainedEngine, audio: np.ndarray, whole: np.ndarray
) -> None:
    own = random_model(family, **PRETRAINED[family]).eval()
    batch = torch.from_numpy(audio)[:, None]
    with torch.inference_mode():
        if family == "encodec":
            expected = own.encode(batch, bandwidth=24.0).audio_codes[0]
            heard = own.decode(expected[None], [None]).audio_values
        else:
            expected = own.encode(batch).audio_codes
            heard = own.decode(audio_codes=expected).audio_values
    assert whole.dtype == np.int64 and whole.shape == expected.shape
    assert (whole == expected.numpy()).mean() > 0.999  # folded weight norms round differently
    decoded = base.decode(engine, expected.numpy(), audio.shape[1])
    flat = heard.reshape(2, -1).numpy()
    np.testing.assert_allclose(
        decoded[:, : flat.shape[1]], flat, atol=1e-5 * np.abs(flat).max(), rtol=0
    )
    assert np.array_equal(engine.decode_whole(whole)[:, : flat.shape[1]].shape, flat.shape)


def test_the_shape_of_the_codes_is_the_published_one(
    case: str, family: str, engine: PretrainedEngine
) -> None:
    expected = {
        "encodec": (24_000, 32, 320, 1024),
        "dac": (24_000, 32, 320, 1024),
        "mimi": (24_000, 32, 1920, 2048),
        "snac": (24_000, 7, 2048, 4096),
        "encodec-48khz": (48_000, 81, 1584, 1024),
        "snac-attention": (24_000, 15, 96, 4096),
    }
    spec = engine.spec
    shape = (spec.sample_rate, spec.num_codes(), spec.hop_length, spec.codebooks[0].size)
    assert shape == expected[case]
    assert spec.name == f"{family}=my-{case}" and len(spec.fingerprint) == 16
    causal = isinstance(engine, CausalEngine)
    assert causal == (case in ("encodec", "mimi"))
    assert (spec.lookahead == spec.delay == 0) == causal
    assert (spec.lookahead > 0) != causal


@pytest.mark.parametrize("sizes", [[20, 20], [15, 1, 1, 23]])
def test_steps_make_the_codes_and_audio_of_the_whole_signal(
    engine: PretrainedEngine, audio: np.ndarray, whole: np.ndarray, sizes: list[int]
) -> None:
    """The error at the seams is rounding: 1e-6 of the peak, and codes differ in near-ties only."""
    spec = engine.spec
    hop, ahead = spec.hop_length, spec.lookahead
    state, pieces = engine.init_encoder(2), []
    decoder, heard = engine.init_decoder(2), []
    for begin, end in zip(np.cumsum([0, *sizes[:-1]]), np.cumsum(sizes)):
        block, rest = audio[:, begin * hop : end * hop], audio[:, end * hop :][:, :ahead]
        codes, state = engine.encode_step(
            np.ascontiguousarray(block), state, spec.num_codebooks, rest
        )
        assert codes.shape[2] == end - begin
        pieces.append(codes)
        step, decoder = engine.decode_step(whole[:, :, begin:end], decoder)
        assert step.shape == block.shape and step.dtype == np.float32
        heard.append(step)
    assert (np.concatenate(pieces, axis=2) == whole).mean() > 0.999
    heard.append(engine.flush_step(decoder))
    streamed = np.concatenate(heard, axis=1)[:, spec.delay : spec.delay + audio.shape[1]]
    expected = base.decode(engine, whole, audio.shape[1])
    assert np.abs(streamed - expected).max() < 2e-6 * np.abs(expected).max()


def test_a_state_is_a_value_and_engines_travel(
    engine: PretrainedEngine, audio: np.ndarray, whole: np.ndarray
) -> None:
    hop = engine.spec.hop_length
    first, second = audio[:, : 15 * hop], audio[:, 15 * hop :]
    _, encoder = engine.encode_step(first, engine.init_encoder(2), 3)
    _, decoder = engine.decode_step(whole[:, :, :15], engine.init_decoder(2))
    codes, _ = engine.encode_step(second, encoder, 3)
    heard, _ = engine.decode_step(whole[:, :, 15:], decoder)
    concealed, after = engine.conceal_step(3, decoder)
    flushed = engine.flush_step(decoder)
    assert concealed.shape == (2, 3 * hop)
    assert flushed.shape == (2, engine.spec.flush_frames * hop)
    assert engine.flush_step(after).shape == flushed.shape
    for other in (engine, pickle.loads(pickle.dumps(engine)), engine.to("cpu")):
        assert other.spec == engine.spec
        assert np.array_equal(other.encode_step(second, encoder, 3)[0], codes)
        assert np.array_equal(other.decode_step(whole[:, :, 15:], decoder)[0], heard)
        assert np.array_equal(other.conceal_step(3, decoder)[0], concealed)
        assert np.array_equal(other.flush_step(decoder), flushed)


def test_a_first_packet_that_is_lost_is_concealed(
    engine: PretrainedEngine, audio: np.ndarray
) -> None:
    header, packets = encode(engine, audio, [], 10)
    decoder = StreamDecoder(header, engine)
    pieces = [decoder.lost()] + [decoder.push(packet) for packet in packets[1:]]
    heard = np.concatenate(pieces, axis=1)
    assert heard.shape == audio.shape and heard[:, -engine.spec.hop_length :].any()


def test_an_engine_keeps_the_types_and_shapes_it_promises(engine: PretrainedEngine) -> None:
    spec = engine.spec
    assert isinstance(engine, Engine)
    channels = 3 * spec.channels_coded_together
    empty = np.zeros((channels, 0), np.float32)
    nothing, state = engine.encode_step(empty, engine.init_encoder(channels))
    assert nothing.shape == (3, spec.num_codes(), 0)
    silence, decoder = engine.decode_step(nothing, engine.init_decoder(channels))
    assert silence.shape == (channels, 0)
    assert engine.flush_step(decoder).shape == (channels, spec.flush_frames * spec.hop_length)
    assert engine.conceal_step(2, decoder)[0].shape == (channels, 2 * spec.hop_length)
    codes, _ = engine.encode_step(sound(5 * spec.hop_length, channels), state, 2)
    assert (
        codes.shape == (3, spec.num_codes(2), 5)
        and 0 <= codes.min() <= codes.max() < spec.codebooks[0].size
    )


def test_bytes_do_not_depend_on_how_the_audio_was_pushed(
    engine: PretrainedEngine, audio: np.ndarray
) -> None:
    """In packets shorter than the lookahead, too; decoded lengths are exact."""
    samples = audio[:, : 23 * engine.spec.hop_length + 77]
    for frames_per_packet in (3, 50):
        header, expected = encode(engine, samples, [], frames_per_packet)
        for steps in ([1, 999, 0, 3_000, 1], [samples.shape[1] - 1]):
            _, packets = encode(engine, samples, steps, frames_per_packet)
            assert [each.to_bytes() for each in packets] == [p.to_bytes() for p in expected]
        assert decode(engine, header, expected).shape == samples.shape


@pytest.mark.parametrize("extra", [0, 1, -1])
def test_lengths_are_exact(engine: PretrainedEngine, extra: int) -> None:
    hop = engine.spec.hop_length
    for num_frames in (0, 1, 5, 12):
        samples = sound(max(0, num_frames * hop + extra), 1)
        header, packets = encode(engine, samples, [samples.shape[1] // 3], 5)
        frames = sum(packet.num_frames for packet in packets)
        assert frames == engine.spec.num_frames(samples.shape[1])
        assert decode(engine, header, packets).shape == samples.shape


def test_files_tokens_and_info_work_with_it(
    family: str, folder: Path, engine: PretrainedEngine, tmp_path: Path
) -> None:
    model = f"{family}={folder}"
    codebooks = "2"
    (tmp_path / "in").mkdir()
    # Longer than a packet and no whole number of frames, at another rate.
    source, codes, out = tmp_path / "in" / "a.wav", tmp_path / "a.codes", tmp_path / "b.wav"
    soundfile.write(source, sound(42_007)[0], 16_000)
    assert run("encode", source, codes, "-m", model, "-k", codebooks).exit_code == 0
    assert run("decode", codes, out, "-m", model).exit_code == 0
    facts = soundfile.info(out)
    assert (facts.frames, facts.samplerate) == (42_007, 16_000)
    fails(run("decode", codes, tmp_path / "c.wav"), 1, "give the right folder with --model")

    lines = run("info", "--json", "-m", model, codes).stdout.splitlines()
    about_model, about_stream = map(json.loads, lines)
    assert about_model["model"] == about_stream["model"] == engine.spec.name
    assert about_stream["model_fingerprint"] == engine.spec.fingerprint.hex()
    assert json.loads(run("info", "--json", codes).stdout)["model"] is None

    assert run("tokenize", tmp_path / "in", "-o", tmp_path / "t", "-m", model).exit_code == 0
    row = next(iter(read_tokens(tmp_path / "t")))
    assert row.kind.model == engine.spec.name
    encode_file(source, tmp_path / "full.codes", model=engine)
    full = next(iter(read_tokens(tmp_path / "full.codes")))
    assert np.array_equal(row.frames, full.frames)
    options = ("-o", tmp_path / "d", "-m", model)
    assert run("detokenize", tmp_path / "t", *options).exit_code == 0
    decode_file(tmp_path / "full.codes", tmp_path / "full.wav", model=engine)
    detokenized = tmp_path / "d" / "a.wav"
    assert soundfile.info(detokenized).channels == engine.spec.channels_coded_together
    if engine.spec.channels_coded_together == 1:
        assert detokenized.read_bytes() == (tmp_path / "full.wav").read_bytes()


def test_it_is_evaluated(
    family: str, folder: Path, engine: PretrainedEngine, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "noise_a.wav", sound(12_000)[0], 24_000)
    options = ("--no-naturalness", "--json", tmp_path / "figures.json")
    assert run("evaluate", f"{family}={folder}", tmp_path, *options).exit_code == 0
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert all(row["si_sdr"] is not None for row in rows)
    counts = [row["num_codebooks"] for row in rows]
    assert len(counts) > 2 and set(counts) <= set(range(1, engine.spec.num_codebooks + 1))
    assert counts[-1] == engine.spec.num_codebooks


def test_what_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model("mimi", **PRETRAINED["mimi"]).save_pretrained(tmp_path / "mimi")
    for name, key, value in (("level", "normalize", False), ("odd", "overlap", 0.0101)):
        made = random_model("encodec", **PRETRAINED["encodec"] | ENCODEC_48KHZ | {key: value})
        made.save_pretrained(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "bad" / name).write_text('{"model_type": "mimi"}')
    for model, message in (
        (f"encodec={tmp_path}/mimi", "type mimi, not encodec"),
        (f"encodec={tmp_path}/level", "give facebook/encodec_24khz or facebook/encodec_48khz"),
        (f"encodec={tmp_path}/odd", "its chunks, scales or channels"),
        (f"snac={tmp_path}/mimi", "type mimi, not snac"),
        (f"snac={tmp_path}/empty", r"config\.json and model\.safetensors or pytorch_model\.bin"),
        (f"dac={tmp_path}/empty", "config.json and model.safetensors"),
        (f"dac={tmp_path}/none", "neither a folder nor a name"),
        (f"mimi={tmp_path}/bad", "cannot be loaded as a mimi model"),
        ("opus=x", "no model 'opus=x'"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            load_model(model)
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackageError, match=r'pip install "aecodec\[transformers\]"'):
        load_model(f"mimi={tmp_path}/mimi")
    monkeypatch.setitem(sys.modules, "snac", None)
    monkeypatch.delitem(sys.modules, "codec.engines.pretrained.snac")
    with pytest.raises(
        MissingPackageError, match=r'SNAC needs snac.*pip install "aecodec\[snac\]"'
    ):
        load_model(f"snac={tmp_path}/mimi")
