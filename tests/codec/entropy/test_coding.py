"""Packets of codes to bytes and back."""

from __future__ import annotations

import numpy as np
import pytest

from codec.entropy.coding import decode_packets, encode_packets
from codec.entropy.context import NO_CODE, ContextModel, ContextShape
from tests.codec.entropy.oracle import random_context

SHAPE = ContextShape(4, 64, 3, width=8, hidden=5, dilations=(1, 2))


@pytest.fixture(scope="module")
def model() -> ContextModel:
    return ContextModel(SHAPE, random_context(np.random.default_rng(0), SHAPE, largest=25))


def codes(packets: int, channels: int, num_codebooks: int, num_frames: int) -> np.ndarray:
    rng = np.random.default_rng(num_frames)
    return rng.integers(64, size=(packets, channels, num_codebooks, num_frames))


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("num_codebooks", [1, 3, 4])
@pytest.mark.parametrize("packets", [1, 2, 64])
@pytest.mark.parametrize("segments", [1, 4])
def test_codes_come_back(
    model: ContextModel, packets: int, channels: int, num_codebooks: int, segments: int
) -> None:
    sent = codes(packets, channels, num_codebooks, 7)
    payloads, _ = encode_packets(model, sent, segments=segments)
    received, _ = decode_packets(
        model, [(each, 7) for each in payloads], channels, num_codebooks, segments=segments
    )
    assert np.array_equal(received, sent)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num_codebooks", [1, 4])
@pytest.mark.parametrize("segments", [1, 2, 5, 12])
def test_frames_may_have_any_number_of_codes(
    model: ContextModel, channels: int, num_codebooks: int, segments: int
) -> None:
    sent = codes(5, channels, num_codebooks, 9)
    counts = np.random.default_rng(0).integers(1, num_codebooks + 1, (5, channels, 1, 9))
    sent = np.where(np.arange(num_codebooks)[:, None] < counts, sent, NO_CODE)
    payloads, _ = encode_packets(model, sent, segments=segments, variable=True)
    received, _ = decode_packets(
        model,
        [(each, 9) for each in payloads],
        channels,
        num_codebooks,
        segments=segments,
        variable=True,
    )
    assert np.array_equal(received, sent)


@pytest.mark.parametrize("segments", [1, 3, 4])
def test_packets_of_different_lengths_are_decoded_together(
    model: ContextModel, segments: int
) -> None:
    sent = [codes(1, 2, 4, num_frames) for num_frames in (8, 1, 0, 13, 2)]
    payloads = [encode_packets(model, each, segments=segments)[0][0] for each in sent]
    lengths = [each.shape[-1] for each in sent]
    received, _ = decode_packets(
        model, [*zip(payloads, lengths, strict=True)], 2, 4, segments=segments
    )
    for found, expected in zip(received, sent, strict=True):
        assert np.array_equal(found, expected[0])


def test_segments_are_coded_like_packets_of_their_own(model: ContextModel) -> None:
    """Like channels: what is known of one says nothing about the others."""
    sent = codes(1, 1, 4, 12)
    parts = sent.reshape(1, 4, 3, 4).transpose(0, 2, 1, 3)
    assert encode_packets(model, sent, segments=3)[0] == encode_packets(model, parts)[0]
    shorter, _ = encode_packets(model, sent[..., :11], segments=3)
    parts[0, 2, :, 3] = NO_CODE
    assert shorter == encode_packets(model, parts)[0]


def test_a_code_of_one_bit_is_one_digit() -> None:
    shape = ContextShape(2, 2, 1, width=4, hidden=3, dilations=(1,))
    model = ContextModel(shape, random_context(np.random.default_rng(1), shape))
    sent = np.random.default_rng(2).integers(2, size=(3, 1, 2, 20))
    payloads, _ = encode_packets(model, sent)
    assert np.array_equal(decode_packets(model, [(each, 20) for each in payloads], 1, 2)[0], sent)


def test_a_packet_does_not_depend_on_those_beside_it(model: ContextModel) -> None:
    sent = codes(5, 2, 4, 6)
    together, _ = encode_packets(model, sent)
    assert together == [encode_packets(model, sent[n : n + 1])[0][0] for n in range(5)]
    received, _ = decode_packets(model, [(together[3], 6)], 2, 4)
    assert np.array_equal(received, sent[3:4])


def test_a_chain_of_packets_remembers(model: ContextModel) -> None:
    sent = codes(1, 2, 4, 12)
    encoder = decoder = None
    for start in range(0, 12, 3):
        piece = sent[..., start : start + 3]
        payloads, encoder = encode_packets(model, piece, encoder)
        received, decoder = decode_packets(model, [(payloads[0], 3)], 2, 4, decoder)
        assert np.array_equal(received, piece)
    alone, _ = encode_packets(model, sent[..., 9:])
    assert payloads != alone


def test_damage_gives_codes_all_the_same(model: ContextModel) -> None:
    received, _ = decode_packets(model, [(b"", 5), (b"\xff" * 40, 5)], 2, 4)
    for each in received:
        assert each.shape == (2, 4, 5)
        assert 0 <= each.min() <= each.max() < 64


def test_likely_codes_cost_little() -> None:
    """What a model expects with certainty costs a hundredth of a bit."""
    tensors = random_context(np.random.default_rng(0), SHAPE)
    for name in ("first", "second"):
        tensors[name][:] = 0
        tensors[f"{name}_bias"][:] = 0
        tensors[f"{name}_bias"][..., 2] = 20 * 2048
    model = ContextModel(SHAPE, tensors)
    expected = np.argsort(tensors["order"], axis=1)[:, 2 * SHAPE.digits[1] + 2]
    sent = np.broadcast_to(expected[None, None, :, None], (1, 1, 4, 100))
    assert len(encode_packets(model, sent)[0][0]) <= 2
