"""A model that codes two channels together, with random weights."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from codec.codes import Codebook
from codec.engines.base import Engine, decode, encode
from codec.errors import AudioError, FormatError, ModelError
from codec.format.container import Coding, Packet
from codec.network.model import Codec
from codec.rate.modes import Constant
from codec.rate.redundancy import Redundancy
from codec.registry import Model, as_model, check_model
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.engines import ENGINES, make_engine


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, stereo: Codec) -> Engine:
    return make_engine(request.param, stereo)


def noise(channels: int, num_samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((channels, num_samples))).astype(np.float32)


def coded(encoder: StreamEncoder, audio: np.ndarray) -> list[Packet]:
    return encoder.push(audio) + encoder.finish()


def test_two_channels_share_the_codes_of_their_frames(engine: Engine) -> None:
    spec, audio = engine.spec, noise(4, 10 * engine.spec.hop_length)
    assert spec.channels_coded_together == 2 and not spec.has_simple_codes
    codes = encode(engine, audio)
    assert codes.shape == (2, 3, 10)
    assert np.array_equal(codes[1:], encode(engine, audio[2:]))
    assert not np.array_equal(codes[1:], encode(engine, audio[[3, 2]]))
    decoded = decode(engine, codes, 350)
    assert decoded.shape == (4, 350) and not np.allclose(decoded[0], decoded[1])
    assert np.allclose(decoded[2:], decode(engine, codes[1:], 350), atol=1e-5)
    assert spec.plain_bitrate(2) == spec.frame_rate * 3  # of each of two channels: 6 bits a frame


def test_engines_agree_on_joint_codes(stereo: Codec) -> None:
    engines, audio = [make_engine(name, stereo) for name in ENGINES], noise(2, 1_000)
    (first, second) = (encode(each, audio) for each in engines)
    assert (first != second).mean() < 0.1
    one, other = (decode(each, first, 1_000) for each in engines)
    assert np.allclose(one, other, atol=0.05 * np.abs(one).max())


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_stream_of_any_number_of_channels_comes_back_without_a_packet_too_many(
    engine: Engine, channels: int
) -> None:
    audio = noise(channels, 1_234)
    encoder = StreamEncoder(engine, channels=channels)
    header, packets = encoder.header, coded(encoder, audio)
    assert header.channels_coded_together == min(channels, 2)
    assert header.format == (3 if channels > 1 else 1)
    decoder = StreamDecoder(header, engine)
    pieces = [
        decoder.lost() if number in (0, 5, 6) else decoder.push(packet)
        for number, packet in enumerate(packets)
    ]
    assert np.concatenate(pieces, axis=1).shape == audio.shape
    assert decoder.num_concealed == 3


def test_channels_of_a_full_group_are_those_of_the_engine(engine: Engine) -> None:
    audio = noise(2, 20 * engine.spec.hop_length)
    encoder = StreamEncoder(engine, channels=2, packing=Packing.live(5))
    decoder = StreamDecoder(encoder.header, engine)
    streamed = decoder.push_all(coded(encoder, audio))
    codes = encode(engine, audio)
    assert np.allclose(streamed[:, :600], decode(engine, codes, 720)[:, :600], atol=1e-4)


def test_one_channel_is_coded_as_two_that_are_equal_and_decoded_as_their_mean(
    engine: Engine,
) -> None:
    audio = noise(1, 20 * engine.spec.hop_length)
    codes = encode(engine, audio)
    assert np.array_equal(codes, encode(engine, np.repeat(audio, 2, axis=0)))
    both, one = decode(engine, codes, 700), decode(engine, codes, 700, channels=1)
    assert one.shape == (1, 700) and np.allclose(one[0], both.mean(axis=0), atol=1e-6)


def test_joint_codes_of_earlier_frames_replace_lost_packets(engine: Engine) -> None:
    packing = Packing.live(redundancy=Redundancy(2, bitrate=4_000))
    encoder = StreamEncoder(engine, channels=4, packing=packing)
    packets = coded(encoder, noise(4, 2_000))
    assert {each.coding for each in packets[2:-1]} == {Coding.PLAIN_WITH_EARLIER}
    decoder = StreamDecoder(encoder.header, engine)
    pieces = [decoder.push(packet) for packet in packets[:10]]
    pieces.append(decoder.lost(later=packets[11]))
    pieces += [decoder.push(packet) for packet in packets[11:]]
    assert decoder.num_recovered == 1
    assert np.concatenate(pieces, axis=1).shape == (4, 2_000)


def test_silence_of_joint_channels_is_left_out(engine: Engine) -> None:
    audio = noise(2, 12_000)
    audio[:, 4_000:] *= 0.0005
    encoder = StreamEncoder(engine, channels=2, packing=Packing.live(dtx=True))
    packets, decoder = coded(encoder, audio), StreamDecoder(encoder.header, engine)
    assert len(packets) < 300
    pieces = [decoder.push(packets[0])]
    for before, packet in pairwise(packets):
        if missing := (packet.sequence - before.sequence) % 2**16 - 1:
            pieces.append(decoder.lost(missing))
        pieces.append(decoder.push(packet))
    assert decoder.num_silent > 20 and decoder.num_concealed == 0
    assert np.concatenate(pieces, axis=1).shape == (2, 12_000)


def test_sessions_of_whole_groups_can_be_joined(engine: Engine) -> None:
    audio = noise(6, engine.spec.hop_length)
    states = [engine.init_encoder(2), engine.init_encoder(4)]
    codes, after = engine.encode_step(audio, engine.join_states(states))
    first, _ = engine.split_state(after, channels=[2, 4])
    alone, state = engine.encode_step(audio[:2], engine.init_encoder(2))
    assert np.array_equal(codes[:1], alone)
    one, other = (engine.encode_step(audio[:2], each)[0] for each in (first, state))
    assert np.array_equal(one, other)
    sounds = engine.join_states([engine.init_decoder(2), engine.init_decoder(4)])
    decoded, after = engine.decode_step(codes, sounds)
    assert decoded.shape == audio.shape
    assert engine.flush_step(engine.split_state(after, [2, 4])[1]).shape[0] == 4


def test_a_stream_with_fewer_codebooks_is_smaller_and_one_can_decode_fewer(engine: Engine) -> None:
    audio = noise(2, 2_000)
    encoders = [StreamEncoder(engine, rate=Constant(n), channels=2) for n in (1, 3)]
    few, all_of_them = (coded(each, audio) for each in encoders)
    assert len(few[0].payload) == 1 and len(all_of_them[0].payload) == 2
    low = StreamDecoder(encoders[0].header, engine).push_all(few)
    peeled = StreamDecoder(encoders[1].header, engine, codebooks=1).push_all(all_of_them)
    assert np.array_equal(low, peeled)


def test_a_stream_whose_geometry_is_not_that_of_its_model_is_refused(engine: Engine) -> None:
    header = StreamEncoder(engine, channels=4).header
    check_model(as_model(engine), replace(header, channels_coded_together=1))
    for changes in (
        {"channels_coded_together": 4},
        {"codebooks": (Codebook(8), Codebook(16))},
        {"codebooks": (Codebook(8, 2), Codebook(8))},
        {"codebooks": (Codebook(8),) * 4},
    ):
        with pytest.raises(FormatError, match="contradicts"):
            check_model(as_model(engine), replace(header, **changes))


def test_a_context_model_of_joint_codes_is_refused(engine: Engine) -> None:
    from codec.registry import load_model

    with pytest.raises(ModelError, match="fit it again with aecodec fit-context, or remove it"):
        _ = Model(engine, load_model().context).context


def test_tensors_of_another_number_of_channels_are_refused(stereo: Codec) -> None:
    import torch

    with pytest.raises(AudioError, match=r"give \[B, 2, N\]"):
        stereo.encode(torch.zeros(1, 1, 720))
