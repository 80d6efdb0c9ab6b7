"""Models of ``transformers`` behind the engine seam: small random ones, and no network."""

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

from codec.corpus.tokens import read_tokens
from codec.engines import base
from codec.engines.base import Engine, HearsAhead, encode_block
from codec.engines.pretrained import (
    FAMILIES,
    PretrainedEngine,
    WindowedEngine,
    input_span,
    load_pretrained,
    random_engine,
    random_model,
)
from codec.errors import MissingPackageError, ModelError
from codec.files import decode_file, encode_file
from codec.registry import load_engine
from tests.codec.cli.test_cli import fails, run
from tests.conftest import PRETRAINED, sound
from tests.laws.test_laws import decode, encode

FRAMES = 40


@pytest.fixture(scope="module", params=PRETRAINED)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / f"my-{family}"
    random_model(family, **PRETRAINED[family]).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def engine(family: str, folder: Path) -> PretrainedEngine:
    return load_pretrained(family, folder)


@pytest.fixture(scope="module")
def audio(engine: PretrainedEngine) -> np.ndarray:
    return sound(FRAMES * engine.info.hop_length, 2)


@pytest.fixture(scope="module")
def whole(engine: PretrainedEngine, audio: np.ndarray) -> np.ndarray:
    return base.encode(engine, audio)


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


def test_the_shape_of_the_codes_is_the_published_one(engine: PretrainedEngine) -> None:
    expected = {"encodec": (32, 320, 1024), "dac": (32, 320, 1024), "mimi": (32, 1920, 2048)}
    info = engine.info
    family = info.name.partition("=")[0]
    assert (info.num_codebooks, info.hop_length, info.codebook_size) == expected[family]
    assert info.name == f"{family}=my-{family}"
    assert len(info.fingerprint) == 16 and info.sample_rate == 24_000
    causal = FAMILIES[family].causal
    assert (info.lookahead == info.delay == 0) == causal
    assert isinstance(engine, HearsAhead) != causal


@pytest.mark.parametrize("sizes", [[20, 20], [15, 1, 1, 23]])
def test_steps_make_the_codes_and_audio_of_the_whole_signal(
    engine: PretrainedEngine, audio: np.ndarray, whole: np.ndarray, sizes: list[int]
) -> None:
    """The error at the seams is rounding: 1e-6 of the peak, and codes differ in near-ties only."""
    info = engine.info
    hop, ahead = info.hop_length, info.lookahead
    state, pieces = engine.init_encoder(2), []
    decoder, heard = engine.init_decoder(2), []
    for begin, end in zip(np.cumsum([0, *sizes[:-1]]), np.cumsum(sizes)):
        block, rest = audio[:, begin * hop : end * hop], audio[:, end * hop :][:, :ahead]
        codes, state = encode_block(engine, block, rest, state, info.num_codebooks)
        assert codes.shape[2] == end - begin
        pieces.append(codes)
        step, decoder = engine.decode_step(whole[:, :, begin:end], decoder)
        assert step.shape == block.shape and step.dtype == np.float32
        heard.append(step)
    assert (np.concatenate(pieces, axis=2) == whole).mean() > 0.999
    heard.append(engine.flush_step(decoder))
    streamed = np.concatenate(heard, axis=1)[:, info.delay : info.delay + audio.shape[1]]
    expected = base.decode(engine, whole, audio.shape[1])
    assert np.abs(streamed - expected).max() < 2e-6 * np.abs(expected).max()


def test_overlaps_of_windows_are_needed_and_enough() -> None:
    """The derived receptive field is that which perturbing the input shows."""
    engine = random_engine("dac", **PRETRAINED["dac"])
    assert isinstance(engine, WindowedEngine)
    hop, network = engine.info.hop_length, engine.model.encoder.double()
    first, last = input_span(network, 0, 0)
    frame, length = 60, 120 * hop
    x = torch.randn(1, 1, length, dtype=torch.float64, requires_grad=True)
    network(x)[..., frame].sum().backward()
    assert x.grad is not None
    heard = x.grad[0, 0].nonzero().flatten()
    assert (int(heard[0]), int(heard[-1])) == (frame * hop + first, frame * hop + last)

    network = engine.model.decoder.double()
    first, last = input_span(network, 0, hop - 1)
    z = torch.randn(
        1, engine.model.config.hidden_size, 120, dtype=torch.float64, requires_grad=True
    )
    network(z)[..., frame * hop : (frame + 1) * hop].sum().backward()
    assert z.grad is not None
    heard = z.grad[0].abs().sum(0).nonzero().flatten()
    assert (int(heard[0]), int(heard[-1])) == (frame + first, frame + last)
    assert engine.info.delay == last * hop


def test_a_state_is_a_value_and_engines_travel(
    engine: PretrainedEngine, audio: np.ndarray, whole: np.ndarray
) -> None:
    hop = engine.info.hop_length
    first, second = audio[:, : 15 * hop], audio[:, 15 * hop :]
    _, encoder = engine.encode_step(first, engine.init_encoder(2), 3)
    _, decoder = engine.decode_step(whole[:, :, :15], engine.init_decoder(2))
    codes, _ = engine.encode_step(second, encoder, 3)
    heard, _ = engine.decode_step(whole[:, :, 15:], decoder)
    concealed, after = engine.conceal_step(3, decoder)
    flushed = engine.flush_step(decoder)
    assert concealed.shape == (2, 3 * hop)
    assert flushed.shape == (2, engine.info.flush_frames * hop)
    assert engine.flush_step(after).shape == flushed.shape
    for other in (engine, pickle.loads(pickle.dumps(engine)), engine.to("cpu")):
        assert other.info == engine.info
        assert np.array_equal(other.encode_step(second, encoder, 3)[0], codes)
        assert np.array_equal(other.decode_step(whole[:, :, 15:], decoder)[0], heard)
        assert np.array_equal(other.conceal_step(3, decoder)[0], concealed)
        assert np.array_equal(other.flush_step(decoder), flushed)


def test_an_engine_keeps_the_types_and_shapes_it_promises(engine: PretrainedEngine) -> None:
    info = engine.info
    assert isinstance(engine, Engine)
    nothing, state = engine.encode_step(np.zeros((3, 0), np.float32), engine.init_encoder(3))
    assert nothing.shape == (3, info.num_codebooks, 0)
    silence, decoder = engine.decode_step(nothing, engine.init_decoder(3))
    assert silence.shape == (3, 0)
    assert engine.flush_step(decoder).shape == (3, info.flush_frames * info.hop_length)
    assert engine.conceal_step(2, decoder)[0].shape == (3, 2 * info.hop_length)
    codes, _ = engine.encode_step(sound(5 * info.hop_length, 3), state, 2)
    assert codes.shape == (3, 2, 5) and 0 <= codes.min() <= codes.max() < info.codebook_size


def test_bytes_do_not_depend_on_how_the_audio_was_pushed(
    engine: PretrainedEngine, audio: np.ndarray
) -> None:
    """In packets shorter than the lookahead, too; decoded lengths are exact."""
    samples = audio[:, : 23 * engine.info.hop_length + 77]
    for frames_per_packet in (3, 50):
        header, expected = encode(engine, samples, [], frames_per_packet)
        for steps in ([1, 999, 0, 3_000, 1], [samples.shape[1] - 1]):
            _, packets = encode(engine, samples, steps, frames_per_packet)
            assert [each.to_bytes() for each in packets] == [p.to_bytes() for p in expected]
        assert decode(engine, header, expected).shape == samples.shape


@pytest.mark.parametrize("extra", [0, 1, -1])
def test_lengths_are_exact(engine: PretrainedEngine, extra: int) -> None:
    hop = engine.info.hop_length
    for num_frames in (0, 1, 5, 12):
        samples = sound(max(0, num_frames * hop + extra), 1)
        header, packets = encode(engine, samples, [samples.shape[1] // 3], 5)
        frames = sum(packet.num_frames for packet in packets)
        assert frames == engine.info.num_frames(samples.shape[1])
        assert decode(engine, header, packets).shape == samples.shape


def test_files_tokens_and_info_work_with_it(
    family: str, folder: Path, engine: PretrainedEngine, tmp_path: Path
) -> None:
    model = f"{family}={folder}"
    (tmp_path / "in").mkdir()
    # Longer than a packet and no whole number of frames, at another rate.
    source, codes, out = tmp_path / "in" / "a.wav", tmp_path / "a.codes", tmp_path / "b.wav"
    soundfile.write(source, sound(42_007)[0], 16_000)
    assert run("encode", source, codes, "-m", model, "-b", "2.2k").exit_code == 0
    assert run("decode", codes, out, "-m", model).exit_code == 0
    facts = soundfile.info(out)
    assert (facts.frames, facts.samplerate) == (42_007, 16_000)
    fails(run("decode", codes, tmp_path / "c.wav"), 1, "give the right folder with --model")

    lines = run("info", "--json", "-m", model, codes).stdout.splitlines()
    about_model, about_stream = map(json.loads, lines)
    assert about_model["model"] == about_stream["model"] == f"{family}=my-{family}"
    assert about_stream["model_fingerprint"] == engine.info.fingerprint.hex()
    assert json.loads(run("info", "--json", codes).stdout)["model"] is None

    assert run("tokenize", tmp_path / "in", "-o", tmp_path / "t", "-m", model).exit_code == 0
    row = next(iter(read_tokens(tmp_path / "t")))
    assert row.kind.model == f"{family}=my-{family}"
    encode_file(source, tmp_path / "full.codes", model=engine)
    full = next(iter(read_tokens(tmp_path / "full.codes")))
    assert np.array_equal(row.frames, full.frames)
    options = ("-o", tmp_path / "d", "-m", model)
    assert run("detokenize", tmp_path / "t", *options).exit_code == 0
    decode_file(tmp_path / "full.codes", tmp_path / "full.wav", model=engine)
    assert (tmp_path / "d" / "a.wav").read_bytes() == (tmp_path / "full.wav").read_bytes()


def test_it_is_evaluated(tmp_path: Path) -> None:
    random_model("encodec", **PRETRAINED["encodec"]).save_pretrained(tmp_path / "model")
    soundfile.write(tmp_path / "noise_a.wav", sound(12_000)[0], 24_000)
    options = ("-b", "1.5k,6k", "--no-naturalness", "--json", tmp_path / "figures.json")
    assert run("evaluate", f"encodec={tmp_path}/model", tmp_path, *options).exit_code == 0
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert len(rows) >= 2 and all(row["si_sdr"] is not None for row in rows)


def test_what_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model("mimi", **PRETRAINED["mimi"]).save_pretrained(tmp_path / "mimi")
    stereo = {"normalize": True, "chunk_length_s": 1.0, "audio_channels": 2}
    more = {"norm_type": "time_group_norm", "use_causal_conv": False, "overlap": 0.01}
    made = random_model("encodec", **PRETRAINED["encodec"], **stereo, **more)
    made.save_pretrained(tmp_path / "stereo")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "bad" / name).write_text('{"model_type": "mimi"}')
    for model, message in (
        (f"encodec={tmp_path}/mimi", "type mimi, not encodec"),
        (f"encodec={tmp_path}/stereo", "give facebook/encodec_24khz"),
        (f"dac={tmp_path}/empty", "config.json and model.safetensors"),
        (f"dac={tmp_path}/none", "neither a folder nor a name"),
        (f"mimi={tmp_path}/bad", "cannot be loaded as a mimi model"),
        ("opus=x", "no model 'opus=x'"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            load_engine(model)
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackageError, match=r'pip install "aecodec\[transformers\]"'):
        load_engine(f"mimi={tmp_path}/mimi")
