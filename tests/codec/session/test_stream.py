"""Sessions: what they refuse, and with which words."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from codec.errors import AudioError, ConfigError, FormatError, ModelError
from codec.format.container import Coding, Packet
from codec.network.model import Codec
from codec.rate.modes import Constant
from codec.registry import load_model
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.conftest import sound


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused_and_change_nothing(
    codec: Codec, value: float
) -> None:
    samples = sound(200)
    bad = samples.copy()
    bad[0, 77] = value
    encoder, clean = StreamEncoder(codec), StreamEncoder(codec)
    with pytest.raises(AudioError, match="NaN or infinite"):
        encoder.push(bad)
    assert [*encoder.push(samples), *encoder.finish()] == [*clean.push(samples), *clean.finish()]
    with pytest.raises(AudioError, match="NaN or infinite"):
        codec.encode(torch.from_numpy(bad)[None])


@pytest.mark.parametrize("shape", [(100,), (2, 100), (1, 1, 100)])
def test_samples_of_the_wrong_shape_are_refused(codec: Codec, shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match="this stream takes"):
        StreamEncoder(codec).push(np.zeros(shape, np.float32))


def test_any_float_is_taken_and_integers_are_not(codec: Codec) -> None:
    samples = sound(200)
    expected = StreamEncoder(codec).push(samples)
    assert StreamEncoder(codec).push(torch.from_numpy(samples)) == expected
    assert StreamEncoder(codec).push(samples.astype(np.float64)) == expected
    with pytest.raises(AudioError, match="32768"):
        StreamEncoder(codec).push((samples * 32767).astype(np.int16))
    with pytest.raises(AudioError, match="give floats"):
        codec.encode(torch.zeros(1, 1, 100, dtype=torch.int16))
    doubled = codec.encode(torch.from_numpy(samples)[None].double())
    assert torch.equal(doubled, codec.encode(torch.from_numpy(samples)[None]))


def test_losing_nothing_gives_nothing(codec: Codec) -> None:
    decoder = StreamDecoder(StreamEncoder(codec).header, codec)
    assert decoder.lost(0).shape == (1, 0)
    with pytest.raises(FormatError, match="num_packets is -1: it must be a whole number from 0"):
        decoder.lost(-1)
    hop = codec.config.hop_length
    assert decoder.lost(3).shape == (1, 3 * hop - codec.delay)
    assert decoder.finish().shape == (1, codec.delay)


@pytest.mark.parametrize(
    ("codes", "num_samples", "message"),
    [
        ([[[8000]]], None, "outside"),
        ([[[-1]]], None, "outside"),
        ([[[0]]], 10**6, "the frames hold 0 to"),
    ],
)
def test_impossible_codes_are_refused(
    codec: Codec, codes: list[list[list[int]]], num_samples: int | None, message: str
) -> None:
    with pytest.raises(AudioError, match=message):
        codec.decode(torch.tensor(codes), num_samples)


def test_a_wrong_length_at_the_end_is_refused(codec: Codec) -> None:
    encoder = StreamEncoder(codec, original_sample_rate=2 * codec.config.sample_rate)
    encoder.push(sound(100))
    with pytest.raises(AudioError, match=r"300 samples .* are 150"):
        encoder.finish(300)
    assert encoder.finish(199)[-1].num_samples == 199


def test_a_stream_without_an_end_gives_all_that_was_decoded(codec: Codec) -> None:
    hop = codec.config.hop_length
    encoder = StreamEncoder(codec)
    packets = encoder.push(sound(5 * hop))
    decoder = StreamDecoder(encoder.header, codec)
    count = sum(decoder.push(packet).shape[1] for packet in packets)
    assert count == 5 * hop - codec.delay
    assert decoder.finish().shape[1] == codec.delay


def test_the_wrong_model_is_named(lapped: Codec, ladder: Codec) -> None:
    header = StreamEncoder(lapped).header
    with pytest.raises(ModelError, match=f"{lapped.fingerprint.hex()}.*{ladder.fingerprint.hex()}"):
        StreamDecoder(header, ladder)
    forged = dataclasses.replace(header, hop_length=header.hop_length + 1)
    with pytest.raises(FormatError, match="contradicts"):
        StreamDecoder(forged, lapped)


def test_a_model_that_was_never_saved_cannot_make_streams(lapped: Codec) -> None:
    with pytest.raises(ModelError, match="save_codec"):
        StreamEncoder(Codec(lapped.config))


def test_a_packet_that_does_not_fit_is_refused(codec: Codec) -> None:
    for frames, coding in ((1, None), (2, Coding.PLAIN)):
        decoder = StreamDecoder(StreamEncoder(codec, packing=Packing.live(frames)).header, codec)
        for count, payload in ((frames + 1, bytes(100)), (frames, b""), (1, bytes(100))):
            with pytest.raises(FormatError, match="does not fit"):
                decoder.push(Packet(0, count, payload, coding=coding))


def test_codebooks_out_of_range_are_refused(codec: Codec) -> None:
    for codebooks in (codec.config.num_codebooks + 1, 255):
        with pytest.raises(ConfigError, match=f"codebooks is {codebooks}: this model has 1 to"):
            StreamEncoder(codec, rate=Constant(codebooks))
    with pytest.raises(ConfigError, match="codebooks is 0: it must be a whole number from 1"):
        StreamDecoder(StreamEncoder(codec).header, codec, codebooks=0)


def test_decoding_more_than_the_stream_has_gives_all_of_it(codec: Codec) -> None:
    encoder = StreamEncoder(codec)
    packets = encoder.push(sound(300)) + encoder.finish()
    outputs = []
    for codebooks in (None, 255):
        decoder = StreamDecoder(encoder.header, codec, codebooks=codebooks)
        outputs.append(np.concatenate([decoder.push(packet) for packet in packets], axis=1))
    assert np.array_equal(outputs[0], outputs[1])


def test_concealment_holds_the_sound_fades_out_and_comes_back_at_once() -> None:
    """The packaged model and a tone: full level at first, silence after 120 ms, no clicks."""
    engine = load_model()
    tone = 0.3 * np.sin(np.arange(120 * 480) * 2 * np.pi * 200 / 24_000)
    encoder = StreamEncoder(engine)
    packets = encoder.push(tone[None].astype(np.float32))
    decoder, whole = (StreamDecoder(encoder.header, engine) for _ in range(2))
    expected = np.concatenate([whole.push(packet) for packet in packets], axis=1)[0]
    lost = {20, *range(50, 60)}
    heard = np.concatenate(
        [
            decoder.lost() if number in lost else decoder.push(packet)
            for number, packet in enumerate(packets)
        ],
        axis=1,
    )[0]
    delay = engine.spec.delay
    assert heard.shape == expected.shape

    def level(sound: np.ndarray, frame: float, frames: float = 1) -> float:
        part = sound[round(frame * 480) - delay :][: round(frames * 480)]
        return float(np.sqrt(np.square(part).mean()))

    assert level(heard, 20) > 0.7 * level(expected, 20)
    assert level(heard, 50) > 0.7 * level(expected, 50)
    levels = [level(heard, 50 + number) for number in range(10)]
    assert all(after < before for before, after in itertools.pairwise(levels[1:6]))
    assert levels[6:] == [0.0] * 4
    # Two frames after a loss it is as loud as it was, and as it would have been.
    for frame in (23, 63):
        assert level(heard, frame) == pytest.approx(level(expected, frame), rel=0.1)
    largest = np.abs(np.diff(expected[2_000:])).max()
    assert np.abs(np.diff(heard[2_000:])).max() < 1.3 * largest
