"""Files and tokens of a model that codes two channels together, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec import (
    Constant,
    Packing,
    Quality,
    StreamEncoder,
    concat_files,
    cut_file,
    decode,
    decode_file,
    encode,
    encode_file,
    peel_file,
)
from codec.corpus import read_tokens
from codec.corpus.detokenize import detokenize
from codec.corpus.tokenize import Shards, Tokenizer, tokenize
from codec.corpus.tokens.format import TokenFormat
from codec.corpus.tokens.writing import write_stream
from codec.engines.torch import TorchEngine
from codec.errors import ConfigError, FormatError
from codec.format.reading import summarize_file
from codec.network.model import Codec
from codec.network.weights import save_codec
from tests.codec.cli.test_cli import run
from tests.conftest import sound


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_file_has_as_many_channels_and_samples_as_the_audio(stereo: Codec, channels: int) -> None:
    audio = sound(20_001, channels)
    data = encode(audio, 44_100, model=stereo)
    decoded, rate = decode(data, model=stereo)
    assert decoded.shape == audio.shape and rate == 44_100
    assert data[4] >> 4 == (2 if channels == 1 else 3)


def test_two_channels_take_the_bits_of_one(stereo: Codec) -> None:
    one, two = (encode(sound(60_000, n), 11_025, model=stereo) for n in (1, 2))
    assert len(two) == len(one) + 6  # the table of three codebooks


def test_a_file_is_cut_joined_peeled_and_described(stereo: Codec, tmp_path: Path) -> None:
    whole, rate = tmp_path / "whole.codes", 11_025
    soundfile.write(tmp_path / "in.wav", sound(100_000, 2).T, rate)
    encode_file(tmp_path / "in.wav", whole, model=stereo)
    decoded, _ = decode(whole.read_bytes(), model=stereo)
    cut_file(whole, tmp_path / "cut.codes", span=(4.0, 6.0))
    part, _ = decode((tmp_path / "cut.codes").read_bytes(), model=stereo)
    assert np.allclose(part, decoded[:, 4 * rate : 6 * rate], atol=1e-5)
    concat_files([whole, tmp_path / "cut.codes"], tmp_path / "both.codes")
    both, _ = decode((tmp_path / "both.codes").read_bytes(), model=stereo)
    assert both.shape == (2, 100_000 + 2 * rate)
    peel_file(whole, tmp_path / "small.codes", codebooks=2)
    encode_file(tmp_path / "in.wav", tmp_path / "direct.codes", model=stereo, rate=Constant(2))
    assert (tmp_path / "small.codes").read_bytes() == (tmp_path / "direct.codes").read_bytes()
    summary = summarize_file(whole)
    assert summary.damage() is None
    assert float(summary.payload_bitrate) == pytest.approx(float(stereo.config.plain_bitrate()))
    facts = json.loads(run("info", whole, "--json").stdout)
    assert facts["channels_coded_together"] == 2
    assert facts["codebook_sizes"] == [8, 8, 8] and facts["codes_per_frame"] == [1, 1, 1]


@pytest.mark.parametrize("layout", ["parquet", "webdataset", "codes"])
def test_tokens_come_back_as_stereo(stereo: Codec, tmp_path: Path, layout: str) -> None:
    (tmp_path / "in").mkdir()
    for channels in (1, 2, 3):
        audio = sound(9_000, channels).T
        soundfile.write(tmp_path / "in" / f"{channels}.wav", audio, 11_025, subtype="FLOAT")
    tokenize([tmp_path / "in"], tmp_path / "out", Tokenizer(stereo), shards=Shards(layout))
    rows = {each.id: each for each in read_tokens(tmp_path / "out")}
    assert len(rows) == 3
    for each in rows.values():
        assert each.kind.channels_coded_together == 2 and each.codes.shape[:2] == (1, 3)
        assert each.num_samples == 9_000
    (pair,) = (each for name, each in rows.items() if name.startswith("2"))
    file = tmp_path / "2.codes"
    with file.open("wb") as out:
        write_stream(pair, out)
    direct = encode(sound(9_000, 2), 11_025, model=stereo, rate=Constant(plain=True))
    assert file.read_bytes() == direct
    assert detokenize(tmp_path / "out", tmp_path / "back", model=stereo) == 0
    found = [soundfile.info(path) for path in (tmp_path / "back").rglob("*.wav")]
    assert [(each.channels, each.frames) for each in found] == [(2, 9_000)] * 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("codebooks", []),
        ("codebooks", [[8]]),
        ("codebooks", [[8, 0]]),
        ("codebooks", [[9, 1]]),
        ("codebooks", [[2**17, 1]]),
        ("codebooks", 8),
        ("channels_coded_together", 0),
        ("channels_coded_together", 17),
        ("channels_coded_together", True),
        ("hop_length", "40"),
        ("fingerprint", "x"),
        ("format", 3),
    ],
)
def test_a_forged_description_of_tokens_is_refused(stereo: Codec, key: str, value: object) -> None:
    facts = TokenFormat.of(TorchEngine(stereo).spec).to_dict()
    assert facts["format"] == 2 and TokenFormat.from_dict(facts, "x").to_dict() == facts
    with pytest.raises(FormatError, match="x "):
        TokenFormat.from_dict(facts | {key: value}, "x")


def test_a_quality_and_a_context_model_are_refused_in_one_line(stereo: Codec) -> None:
    with pytest.raises(ConfigError, match="constant number of codebooks"):
        encode(sound(4_000, 2), 11_025, model=stereo, rate=Quality(5))
    from train.context.fit import code_values

    with pytest.raises(ConfigError, match="use plain codes"):
        code_values(stereo)


def test_a_saved_model_keeps_its_channels(stereo: Codec, tmp_path: Path) -> None:
    save_codec(stereo, tmp_path / "model", name="stereo")
    audio = sound(3_000, 2)
    soundfile.write(tmp_path / "in.wav", audio.T, 11_025)
    encode_file(tmp_path / "in.wav", tmp_path / "a.codes", model=tmp_path / "model")
    decode_file(tmp_path / "a.codes", tmp_path / "b.wav", model=tmp_path / "model")
    assert soundfile.info(tmp_path / "b.wav").channels == 2
    header = StreamEncoder(stereo, channels=2, packing=Packing.live(2)).header
    assert header.fingerprint == stereo.fingerprint
