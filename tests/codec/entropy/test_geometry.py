"""Payloads of codebooks of different sizes and rates, and of channels that are coded together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from codec.arrays import Codes
from codec.codes import Codebook
from codec.entropy.context import NO_CODE
from codec.entropy.payload import PayloadDecoder, PayloadEncoder, earlier_counts
from codec.errors import FormatError
from codec.format.container import Coding, Header, Packet, PacketReader
from codec.rate.redundancy import Redundancy, RedundancyControl

HEADER = Header(
    channels=3,
    codebooks=(Codebook(4096), Codebook(32, 2), Codebook(1024, 4)),
    channels_coded_together=2,
    frames_per_packet=1,
    sample_rate=24_000,
    original_sample_rate=24_000,
    hop_length=2_048,
    fingerprint=bytes(16),
    dtx=True,
)
"""Two groups, of which the second has one channel; frames of 12 + 10 + 40 bits."""


def some_codes(num_frames: int, seed: int = 0) -> Codes:
    sizes = np.left_shift(1, HEADER.bits)[:, None]
    return np.random.default_rng(seed).integers(0, sizes, (2, 7, num_frames))


def test_redundant_frames_have_whole_codebooks() -> None:
    encoder, decoder = PayloadEncoder(HEADER, None), PayloadDecoder(HEADER, None)
    codes = some_codes(3)
    earlier = codes[:, :3, :2].copy()
    earlier[:, 1:, 0] = NO_CODE  # of the older one, the first codebook alone
    payload, coding, bits = encoder.encode_with_earlier(codes[:, :, 2:], earlier)
    assert coding == Coding.PLAIN_WITH_EARLIER and payload[0] == 2 << 4 | 1
    assert bits == 2 * (12 + 12 + 10) and len(payload) == 1 + -(-2 * (34 + 62) // 8)
    packet = Packet(0, 1, payload, coding=coding)
    assert earlier_counts(packet) == (2, 1)
    (own,) = decoder.decode([packet])
    assert own is not None and np.array_equal(own, codes[:, :, 2:])
    for age, count in ((1, 3), (2, 1)):
        found = decoder.decode_earlier(packet, age)
        assert found is not None and np.array_equal(found, codes[:, :count, 2 - age : 3 - age])
    assert decoder.decode_earlier(packet, 3) is None
    reader = PacketReader(HEADER)
    assert reader.push(packet.to_bytes()) == [packet]


@pytest.mark.parametrize("size", [1, 2, 20, 23, 25, 99])
def test_redundant_frames_of_another_size_are_refused(size: int) -> None:
    packet = Packet(0, 1, bytes([2 << 4 | 1]) + bytes(size), coding=Coding.PLAIN_WITH_EARLIER)
    with pytest.raises(FormatError, match="does not fit"):
        PayloadDecoder(HEADER, None).decode([packet])
    more = Packet(0, 1, bytes([2 << 4 | 3]) + bytes(size), coding=Coding.PLAIN_WITH_EARLIER)
    with pytest.raises(FormatError, match="does not fit"):  # four codebooks
        PayloadDecoder(HEADER, None).decode([more])


def test_comfort_noise_has_whole_codebooks() -> None:
    codes = some_codes(5)[:, :3]
    payload = PayloadEncoder(HEADER, None).encode_noise(codes)
    assert payload[0] == 4 << 4 | 1 and len(payload) == 1 + -(-5 * 2 * 22 // 8)
    packet = Packet(0, 1, payload, coding=Coding.COMFORT_NOISE)
    assert np.array_equal(PayloadDecoder(HEADER, None).decode_noise(packet), codes)
    for damaged in (payload[:-1], payload + b"\0", bytes([4 << 4 | 3]) + payload[1:], b""):
        with pytest.raises(FormatError, match="does not fit"):
            PayloadDecoder(HEADER, None).decode_noise(replace(packet, payload=damaged))


def test_redundancy_spends_the_bits_of_its_codebooks() -> None:
    control = RedundancyControl(Redundancy(1, bitrate=200), HEADER)
    past, spent = [some_codes(1)], []
    for _ in range(400):
        earlier = control.choose(past)
        bits = sum(HEADER.bits[: earlier.shape[1]]) * len(earlier)
        control.spent(bits, earlier)
        spent.append(bits)
        assert earlier.shape[1] in (0, 1, 3, 7)
    # Of each group, which are two channels.
    assert np.mean(spent) * float(HEADER.frame_rate) / 2 == pytest.approx(2 * 200, rel=0.05)
