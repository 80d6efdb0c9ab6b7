"""Embeddings and how far a model looks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from codec.config import CodecConfig
from codec.errors import AudioError, ConfigError
from codec.network.model import Codec
from tests.conftest import GRU, LADDER, LAPPED, sound


@pytest.fixture(params=["lapped", "ladder", "fsq", "gru", "lstm", "vae"])
def any_codec(request: pytest.FixtureRequest) -> Codec:
    codec: Codec = request.getfixturevalue(request.param)
    return codec


def lengths(codec: Codec) -> list[int]:
    hop = codec.config.hop_length
    return [0, 1, hop - 1, hop, hop + 1, 331]


# Embeddings


def test_an_embedding_has_a_vector_per_frame_and_comes_back_as_long(any_codec: Codec) -> None:
    config = any_codec.config
    for num_samples in lengths(any_codec):
        audio = torch.from_numpy(sound(num_samples, 2))[:, None]
        embedding = any_codec.embed(audio)
        num_frames = config.num_frames(num_samples)
        assert embedding.shape == (2, config.embedding_dim, num_frames)
        assert any_codec.synthesize(embedding, num_samples).shape == audio.shape
        whole = (2, 1, num_frames * config.hop_length)
        assert any_codec.synthesize(embedding).shape == whole


def test_the_embedding_of_some_codebooks_sounds_like_their_codes(codec: Codec) -> None:
    audio = torch.from_numpy(sound(331))[None]
    codes = codec.encode(audio)
    for count in (1, codec.config.num_codebooks):
        embedding = codec.embed(audio, count)
        expected = codec.decode(codes[:, :count], 331)
        assert torch.equal(codec.synthesize(embedding, 331), expected)
    with pytest.raises(ConfigError, match="99 codebooks asked for"):
        codec.embed(audio, 99)


@torch.no_grad()  # where torch computes an LSTM in another way
def test_an_embedding_is_the_latent_before_quantization(codec: Codec) -> None:
    hop = codec.config.hop_length
    audio = torch.from_numpy(sound(9 * hop))[None]
    assert torch.equal(codec.embed(audio), codec.encode_latent(audio).mT)


def test_an_embedding_can_be_streamed(any_codec: Codec) -> None:
    hop, delay = any_codec.config.hop_length, any_codec.config.delay
    audio = torch.from_numpy(sound(24 * hop, 2))[:, None]
    whole, pieces = any_codec.embed(audio), []
    state = any_codec.encoder.init_state(2)
    for block in audio.split([hop, 6 * hop, 17 * hop], dim=-1):
        piece, state = any_codec.embed_step(block, state)
        pieces.append(piece)
    # Different lengths add up floats in different orders.
    torch.testing.assert_close(torch.cat(pieces, -1), whole, rtol=1e-4, atol=1e-4)

    pieces, state = [], any_codec.decoder.init_state(2)
    for part in whole.split([1, 6, 17], dim=-1):
        piece, state = any_codec.synthesize_step(part, state)
        pieces.append(piece)
    pieces.append(any_codec.flush_step(2, state))
    streamed = torch.cat(pieces, -1)[..., delay : delay + 24 * hop]
    torch.testing.assert_close(streamed, any_codec.synthesize(whole), rtol=1e-4, atol=1e-4)


def test_embeddings_and_codes_can_be_learned_from(codec: Codec) -> None:
    """What is made in torch's inference mode is refused by the training of another model."""
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
        (good, 3 * any_codec.config.hop_length + 1, "what is given holds 0 to"),
    ):
        with pytest.raises(AudioError, match=message):
            any_codec.synthesize(embedding, num_samples)
    with pytest.raises(AudioError, match="give floats"):
        any_codec.embed(torch.zeros(1, 1, 9, dtype=torch.int16))


# Receptive fields


def hears(output: Tensor, changed: Tensor) -> bool:
    return not torch.equal(output, changed)


@pytest.mark.parametrize("name", ["lapped", "ladder"])
def test_the_encoder_hears_as_far_as_it_says(name: str, request: pytest.FixtureRequest) -> None:
    codec: Codec = request.getfixturevalue(name)
    hop, field = codec.config.hop_length, codec.config.encoder_receptive_field
    assert field is not None
    num_samples = (codec.config.num_frames(field) + 2) * hop
    audio = torch.from_numpy(sound(num_samples))[None]
    expected = codec.embed(audio)[..., -1]
    oldest = num_samples - field
    within, before = audio.clone(), audio.clone()
    within[..., oldest] += 1
    before[..., :oldest] += 1
    assert hears(codec.embed(within)[..., -1], expected)
    assert not hears(codec.embed(before)[..., -1], expected)


@pytest.mark.parametrize("name", ["lapped", "ladder"])
def test_the_decoder_hears_as_far_as_it_says(name: str, request: pytest.FixtureRequest) -> None:
    codec: Codec = request.getfixturevalue(name)
    hop, field = codec.config.hop_length, codec.config.decoder_receptive_field
    assert field is not None
    latent = torch.randn(1, field + 3, codec.config.latent_dim)

    def last_frame(latent: Tensor) -> Tensor:
        return codec.decoder(latent, codec.decoder.init_state(1))[0][0, -hop:, 0]

    expected = last_frame(latent)
    within, before = latent.clone(), latent.clone()
    within[:, -field] += 10
    before[:, :-field] += 10
    # The first sample of a frame overlaps most of the past.
    assert hears(last_frame(within)[0], expected[0])
    assert not hears(last_frame(before), expected)


@pytest.mark.parametrize("config", [LAPPED, LADDER])
def test_the_whole_hears_what_its_parts_hear(config: CodecConfig) -> None:
    """By gradient, from one sample after the last code back to the input."""
    torch.manual_seed(0)
    codec, field = Codec(config), config.receptive_field
    assert field is not None
    for parameter in codec.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # what starts at zero hears nothing
    hop = config.hop_length
    audio = torch.randn(1, 1, (config.num_frames(field) + 2) * hop, requires_grad=True)
    latent = codec.encode_latent(audio)
    decoded, _ = codec.decoder(latent, codec.decoder.init_state(1))
    (gradient,) = torch.autograd.grad(decoded[0, -hop, 0], audio)
    heard = gradient[0, 0].nonzero()
    assert len(gradient[0, 0]) - int(heard[0]) == field


def test_a_recurrent_layer_hears_all_that_was() -> None:
    assert GRU.encoder_receptive_field is None
    assert GRU.decoder_receptive_field is None
    assert GRU.receptive_field is None
