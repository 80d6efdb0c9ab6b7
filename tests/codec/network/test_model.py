"""Embeddings, delay and codes of whole models."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from codec.errors import AudioError, ConfigError
from codec.network.bottleneck import Bottleneck, Quantizer
from codec.network.model import Codec
from tests.conftest import LADDER, LAPPED, sound


@pytest.fixture(params=["lapped", "ladder", "fsq", "gru", "lstm", "vae", "fine"])
def any_codec(request: pytest.FixtureRequest) -> Codec:
    codec: Codec = request.getfixturevalue(request.param)
    return codec


def lengths(codec: Codec) -> list[int]:
    hop = codec.config.hop_length
    return [0, 1, hop - 1, hop, hop + 1, 331]


# Embeddings


def test_an_embedding_has_a_vector_per_frame_and_keeps_the_length(any_codec: Codec) -> None:
    config = any_codec.config
    for num_samples in lengths(any_codec):
        audio = torch.from_numpy(sound(num_samples, 2))[:, None]
        embedding = any_codec.embed(audio)
        num_frames = config.num_frames(num_samples)
        assert embedding.shape == (2, config.embedding_dim, num_frames)
        assert any_codec.synthesize(embedding, num_samples).shape == audio.shape
        whole = (2, 1, num_frames * config.hop_length)
        assert any_codec.synthesize(embedding).shape == whole


def test_the_embedding_of_some_codebooks_decodes_like_their_codes(codec: Codec) -> None:
    audio = torch.from_numpy(sound(331))[None]
    codes = codec.encode(audio)
    for count in (1, codec.config.num_codebooks):
        embedding = codec.embed(audio, count)
        expected = codec.decode(codes[:, :count], 331)
        assert torch.equal(codec.synthesize(embedding, 331), expected)
    with pytest.raises(ConfigError, match="99 codebooks asked for"):
        codec.embed(audio, 99)


@torch.no_grad()  # with gradients, torch computes an LSTM in another way
def test_an_embedding_is_the_latent_before_quantization(codec: Codec) -> None:
    hop = codec.config.hop_length
    audio = torch.from_numpy(sound(9 * hop))[None]
    assert torch.equal(codec.embed(audio), codec.encode_latent(audio).mT)


def test_an_embedding_can_be_streamed(any_codec: Codec) -> None:
    hop, delay = any_codec.config.hop_length, any_codec.delay
    audio = torch.from_numpy(sound(24 * hop, 2))[:, None]
    whole, pieces = any_codec.embed(audio), []
    state = any_codec.encoder.init_state(2)
    for block in audio.split([hop, 6 * hop, 17 * hop], dim=-1):
        piece, state = any_codec.embed_step(block, state)
        pieces.append(piece)
    # Different lengths sum floats in different orders.
    torch.testing.assert_close(torch.cat(pieces, -1), whole, rtol=1e-4, atol=1e-4)

    pieces, state = [], any_codec.decoder.init_state(2)
    for part in whole.split([1, 6, 17], dim=-1):
        piece, state = any_codec.synthesize_step(part, state)
        pieces.append(piece)
    pieces.append(any_codec.flush_step(2, state))
    streamed = torch.cat(pieces, -1)[..., delay : delay + 24 * hop]
    torch.testing.assert_close(streamed, any_codec.synthesize(whole), rtol=1e-4, atol=1e-4)


def test_embeddings_and_codes_can_train_other_models(codec: Codec) -> None:
    """Tensors that are created in torch's inference mode could not be used in training."""
    audio = torch.from_numpy(sound(331))[None]
    table = torch.nn.Embedding(codec.config.codebook_size, 3)
    table(codec.encode(audio)).sum().backward()
    layer = torch.nn.Linear(codec.config.embedding_dim, 3)
    layer(codec.embed(audio).mT).sum().backward()
    for weight in (table.weight, layer.weight):
        assert weight.grad is not None and weight.grad.any()


def test_impossible_embeddings_are_refused(any_codec: Codec) -> None:
    width = any_codec.config.embedding_dim
    good = torch.zeros(1, width, 3)
    bad = good.clone()
    bad[0, 0, 0] = torch.nan
    for embedding, num_samples, message in (
        (torch.zeros(1, width + 1, 3), None, rf"give \[B, {width}, T\]"),
        (good[0], None, "give"),
        (good.long(), None, "give floats"),
        (bad, None, "NaN or infinite"),
        (good, -1, "num_samples is -1"),
        (good, 3 * any_codec.config.hop_length + 1, "the frames hold 0 to"),
    ):
        with pytest.raises(AudioError, match=message):
            any_codec.synthesize(embedding, num_samples)
    with pytest.raises(AudioError, match="give floats"):
        any_codec.embed(torch.zeros(1, 1, 9, dtype=torch.int16))


# Delay


def test_the_delay_is_that_of_the_layers_and_the_lookahead() -> None:
    assert Codec(LAPPED).delay == 20
    assert Codec(dataclasses.replace(LAPPED, lookahead=50)).delay == 70
    assert Codec(dataclasses.replace(LAPPED, strides=(10, 2))).delay == 10
    ladder = Codec(LADDER)
    assert (ladder.delay, ladder.flush_frames, ladder.latency) == (7, 1, 36 + 7)
    assert ladder.latency_seconds == (36 + 7) / 11025
    assert Codec(dataclasses.replace(LADDER, lookahead=0)).flush_frames == 0


def test_a_lookahead_delays_streamed_audio_and_keeps_whole_audio_aligned() -> None:
    config = dataclasses.replace(LAPPED, lookahead=33)
    torch.manual_seed(0)
    codec = Codec(config).eval()
    audio = torch.from_numpy(sound(20 * 40))[None]
    with torch.no_grad():
        latent = codec.encode_latent(audio)
        whole = codec.decode_latent(latent, 800)
        first, state = codec.decoder(latent, codec.decoder.init_state(1))
        rest = codec.flush_step(1, state)
    streamed = torch.cat((first.mT, rest), -1)
    assert rest.shape[-1] == codec.flush_frames * 40 >= codec.delay
    torch.testing.assert_close(streamed[..., codec.delay :][..., :800], whole, rtol=1e-4, atol=1e-4)


def test_codes_and_latents_convert_both_ways(codec: Codec, vae: Codec) -> None:
    audio = torch.from_numpy(sound(331))[None]
    codes = codec.encode(audio, 2)
    padded = torch.nn.functional.pad(audio, (0, -331 % codec.config.hop_length))
    with torch.no_grad():
        assert torch.equal(codec.quantize(codec.encode_latent(padded), 2), codes)
        latent = codec.dequantize(codes)
        assert torch.equal(codec.decode_latent(latent, 331), codec.decode(codes, 331))
    with pytest.raises(ConfigError, match="no codes"):
        vae.quantize(latent)
    with pytest.raises(ConfigError, match="no codes"):
        vae.dequantize(codes)


def test_only_quantizers_promise_codes(codec: Codec, vae: Codec) -> None:
    assert isinstance(codec.quantizer, Quantizer)
    assert isinstance(vae.quantizer, Bottleneck) and not isinstance(vae.quantizer, Quantizer)
    for name in ("encode", "decode", "restart"):
        assert hasattr(codec.quantizer, name) and not hasattr(vae.quantizer, name)
