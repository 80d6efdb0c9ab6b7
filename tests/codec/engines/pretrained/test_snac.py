"""SNAC: codes and audio of its package, its frames, and its noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

pytest.importorskip("snac", reason='pip install "aecodec[snac]"')

from codec.codes import Codebook
from codec.engines import base
from codec.engines.pretrained.families import load_pretrained, random_engine, random_model
from codec.engines.pretrained.snac import SnacConfig
from codec.errors import ConfigError
from tests.codec.engines.pretrained.test_families import CASES
from tests.conftest import PRETRAINED, sound


@pytest.mark.parametrize("case", ["snac", "snac-attention"])
def test_codes_and_audio_are_those_of_the_package(case: str) -> None:
    settings: dict[str, Any] = CASES[case][1] | {"noise": False}
    engine, own = random_engine("snac", **settings), random_model("snac", **settings).eval()
    hop, num_frames = engine.spec.hop_length, 12
    audio = sound(num_frames * hop, 2)
    with torch.inference_mode():
        books = own.network.encode(torch.from_numpy(audio)[:, None])
        heard = own.network.decode(books)[:, 0].numpy()
    codes = base.encode(engine, audio)
    # A frame: the code of the slowest codebook, both of the next one, ...
    expected = [
        np.concatenate([np.split(book[n].numpy(), num_frames)[t] for book in books])
        for n in range(2)
        for t in range(num_frames)
    ]
    shaped = np.array(expected).reshape(2, num_frames, -1).transpose(0, 2, 1)
    assert codes.shape == shaped.shape and (codes == shaped).mean() > 0.999
    decoded = base.decode(engine, shaped, audio.shape[1])
    assert np.abs(decoded - heard).max() < 1e-5 * np.abs(heard).max()


def test_published_models_have_their_published_frames_and_bitrates() -> None:
    spec = random_engine("snac", **PRETRAINED["snac"]).spec
    assert spec.codebooks == (Codebook(4096), Codebook(4096, 2), Codebook(4096, 4))
    assert [spec.num_codes(n) for n in (1, 2, 3)] == [1, 3, 7] and spec.codebooks_of(3) == 2
    with pytest.raises(ConfigError, match="give 1, 3, 7"):
        spec.codebooks_of(2)
    assert [round(float(rate)) for rate in spec.plain_bitrates] == [141, 422, 984]
    assert spec.codebooks_for(900) == 2
    shape = SnacConfig(
        sampling_rate=44_100,
        vq_strides=[8, 4, 2, 1],
        attn_window_size=32,
        encoder_rates=[2, 4, 8, 8],
    ).shape
    assert [each.per_frame for each in shape.codebooks] == [4, 8, 16, 32]
    assert (shape.num_codes, shape.hop_length, shape.num_latents) == (60, 16_384, 32)


def test_codes_that_are_not_given_add_nothing() -> None:
    engine = random_engine("snac", **PRETRAINED["snac"], noise=False)
    audio = sound(10 * 2048)
    codes = base.encode(engine, audio)
    assert np.array_equal(base.encode(engine, audio, num_codebooks=2), codes[:, :3])
    network = engine.model.network
    expected = torch.zeros(1, network.latent_dim, 40)
    for layer, rows in enumerate((codes[:, :1], codes[:, 1:3])):
        quantizer = network.quantizer.quantizers[layer]
        in_time = torch.from_numpy(rows.transpose(0, 2, 1).reshape(1, -1))
        values = quantizer.out_proj(quantizer.decode_code(in_time))
        expected = expected + values.repeat_interleave(40 // in_time.shape[1], dim=-1)
    with torch.inference_mode():
        heard = network.decoder(expected)[0].numpy()
    decoded = base.decode(engine, codes[:, :3], audio.shape[1])
    np.testing.assert_allclose(decoded, heard, atol=1e-6)
    with pytest.raises(ConfigError, match="2 codes per frame are not whole codebooks"):
        base.decode(engine, codes[:, :2], audio.shape[1])


def test_noise_is_the_same_in_every_decoding_and_different_in_every_frame() -> None:
    engine = random_engine("snac", **PRETRAINED["snac"])
    quiet = random_engine("snac", **PRETRAINED["snac"], noise=False)
    codes = np.repeat(base.encode(engine, sound(2048)), 30, axis=2)  # the same frame again
    first, again, without = (base.decode(e, codes, 30 * 2048) for e in (engine, engine, quiet))
    assert np.array_equal(first, again)
    frames = first[0, 10 * 2048 : 20 * 2048].reshape(10, 2048)
    assert np.abs(frames[1:] - frames[:-1]).max() > 1e-4
    steady = without[0, 10 * 2048 : 20 * 2048].reshape(10, 2048)
    assert np.abs(steady[1:] - steady[:-1]).max() < 1e-6


def test_weights_are_read_from_both_kinds_of_files_and_nothing_else_in_them(tmp_path: Path) -> None:
    model = random_model("snac", **PRETRAINED["snac"])
    model.save_pretrained(tmp_path / "a")
    model.save_pretrained(tmp_path / "b")
    weights = model.network.state_dict()
    (tmp_path / "b" / "pytorch_model.bin").unlink()
    safetensors.torch.save_file(weights, tmp_path / "b" / "model.safetensors")
    first, second = (load_pretrained("snac", tmp_path / name) for name in "ab")
    assert first.spec.fingerprint == second.spec.fingerprint
    torch.save({"x": Path}, tmp_path / "a" / "pytorch_model.bin")  # refers to code
    with pytest.raises(Exception, match="cannot be loaded as a snac model") as caught:
        load_pretrained("snac", tmp_path / "a")
    assert "\n" not in str(caught.value)
