"""Redundancy: layouts, bitrates, and codes that come back as they were, plain or coded."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from codec.engines.torch import TorchEngine
from codec.entropy.payload import (
    MAX_EARLIER_CODEBOOKS,
    MAX_FRAMES,
    PayloadDecoder,
    earlier_counts,
    layout,
)
from codec.errors import ConfigError, FormatError
from codec.format.container import Coding, Packet, PacketReader
from codec.network.model import Codec
from codec.rate.redundancy import Redundancy, best_layout
from codec.registry import Model
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.codec.entropy.oracle import matching_context
from tests.conftest import sound


def tone(num_samples: int, channels: int = 1) -> np.ndarray:
    wave = 0.3 * np.sin(np.arange(num_samples) / 5)
    return (wave + 0.02 * sound(num_samples, channels)).astype(np.float32)


@pytest.fixture(scope="module")
def with_context(lapped: Codec) -> Model:
    codes = lapped.encode(torch.from_numpy(tone(20_000)[None]))[0].numpy()
    context = matching_context(np.random.default_rng(0), codes, lapped.config.codebook_size)
    return Model(TorchEngine(lapped), context)


KINDS = [("plain", {}), ("coded", {}), ("coded", {"rate": 3_000})]


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_packets_bring_the_first_codes_of_earlier_frames(
    with_context: Model, lapped: Codec, kind: str, options: dict[str, Any], channels: int
) -> None:
    engine = with_context if kind == "coded" else Model(TorchEngine(lapped))
    encoder = StreamEncoder(
        engine, channels=channels, packing=Packing.live(redundancy=Redundancy(3, 6_000)), **options
    )
    packets = encoder.push(tone(4_000, channels)) + encoder.finish()
    decoder = PayloadDecoder(encoder.header, engine.context)
    codes = [each for each in decoder.decode(packets) if each is not None]
    seen = 0
    for number, packet in enumerate(packets):
        counts = earlier_counts(packet)
        assert list(counts) == sorted(counts, reverse=True) and len(counts) <= min(3, number)
        for age, count in enumerate(counts, 1):
            found = decoder.decode_earlier(packet, age)
            assert found is not None
            assert np.array_equal(found, codes[number - age][:, :count])
            seen += 1
        assert decoder.decode_earlier(packet, len(counts) + 1) is None
    assert seen > 200
    wanted = Coding.PLAIN_WITH_EARLIER if kind == "plain" else Coding.CODED_WITH_EARLIER
    assert wanted in {packet.coding for packet in packets}


def test_redundancy_does_not_change_the_sound(with_context: Model) -> None:
    heard = []
    for redundancy in (None, Redundancy(2, 4_000)):
        encoder = StreamEncoder(with_context, packing=Packing.live(redundancy=redundancy))
        packets = encoder.push(tone(3_001)) + encoder.finish()
        decoder = StreamDecoder(encoder.header, with_context)
        heard.append(np.concatenate([decoder.push(packet) for packet in packets], axis=1))
    assert np.array_equal(heard[0], heard[1])


@pytest.mark.parametrize("kind", ["plain", "coded"])
@pytest.mark.parametrize("bitrate", [1_300, 4_000])
def test_the_bitrate_is_met(with_context: Model, lapped: Codec, kind: str, bitrate: int) -> None:
    """In bits of codes, plain ones to the bit."""
    engine = with_context if kind == "coded" else Model(TorchEngine(lapped))
    sizes = []
    for redundancy in (Redundancy(0, 0), Redundancy(3, bitrate)):
        encoder = StreamEncoder(engine, packing=Packing.live(redundancy=redundancy))
        packets = encoder.push(tone(40_000))
        sizes.append(sum(len(packet.payload) for packet in packets))
    added = 8 * (sizes[1] - sizes[0] - len(packets)) / 5  # without the byte that tells how many
    # Bytes are whole: up to 7 bits of each packet may be lost, at 200 packets per second.
    assert 0.75 * bitrate - 200 < added < 1.05 * bitrate + 700


def test_redundancy_may_change_while_running(lapped: Codec) -> None:
    encoder = StreamEncoder(lapped, packing=Packing.live(redundancy=Redundancy(0, 0)))
    plans = [Redundancy(0, 0), Redundancy(1, 2_000), Redundancy.for_loss(0.3), None]
    packets: list[Packet] = []
    counts = []
    for number, plan in enumerate(plans):
        encoder.redundancy = plan
        assert encoder.redundancy is plan
        packets += encoder.push(sound(800, seed=number))
        counts.append(max(len(earlier_counts(packet)) for packet in packets[20 * number + 5 :]))
    assert counts == [0, 1, 4, 0]
    packets += encoder.finish()
    decoder = StreamDecoder(encoder.header, lapped)
    assert sum(decoder.push(packet).shape[1] for packet in packets) == 3_200


def test_streams_with_redundancy_are_read_from_bytes(with_context: Model) -> None:
    """As files, in pieces and with damage."""
    encoder = StreamEncoder(with_context, packing=Packing.live(redundancy=Redundancy(2, 3_000)))
    packets = encoder.push(tone(2_000)) + encoder.finish()
    data = bytearray(b"".join(packet.to_bytes() for packet in packets))
    assert list(PacketReader(encoder.header).push(bytes(data))) == packets
    data[len(data) // 2] ^= 1
    reader = PacketReader(encoder.header)
    found = [each for each in reader.push(bytes(data)) if isinstance(each, Packet)]
    assert len(found) == len(packets) - 1


def test_lost_packets_are_recovered_or_concealed(lapped: Codec) -> None:
    encoder = StreamEncoder(lapped, packing=Packing.live(redundancy=Redundancy(2, 6_000)))
    packets = encoder.push(sound(2_000)) + encoder.finish()
    decoder = StreamDecoder(encoder.header, lapped)
    for packet in packets[:10]:
        decoder.push(packet)
    decoder.lost(2, packets[13], ahead=1)  # the second one is in it
    assert (decoder.num_recovered, decoder.num_concealed) == (1, 1)
    decoder.lost(1, packets[13])
    assert (decoder.num_recovered, decoder.num_concealed) == (2, 1)
    for packet in packets[13:]:
        decoder.push(packet)
    assert decoder.num_emitted == 2_000


def test_what_cannot_carry_redundancy_is_refused(lapped: Codec, with_context: Model) -> None:
    with pytest.raises(ConfigError, match=r"carry redundancy: give frames=1"):
        StreamEncoder(lapped, packing=Packing.live(2, redundancy=Redundancy(1, 1_000)))
    for packing in (Packing.live(2), Packing.file()):
        several = StreamEncoder(with_context, packing=packing)
        with pytest.raises(ConfigError, match="only live packets of one frame carry redundancy"):
            several.redundancy = Redundancy(1, 1_000)
    encoder = StreamEncoder(lapped)
    with pytest.raises(ConfigError, match=r"redundancy=Redundancy\(0, 0\)\) to add some later"):
        encoder.redundancy = Redundancy(1, 1_000)
    for frames, bitrate in ((16, 1_000), (-1, 1_000), (1, -1)):
        with pytest.raises(ConfigError):
            Redundancy(frames, bitrate)
    with pytest.raises(ConfigError, match="loss is 10: it must be a number from 0 to 1"):
        Redundancy.for_loss(10)


def test_packets_that_do_not_fit_are_refused(lapped: Codec) -> None:
    encoder = StreamEncoder(lapped, packing=Packing.live(redundancy=Redundancy(2, 6_000)))
    packet = encoder.push(sound(400))[-1]
    assert packet.coding == Coding.PLAIN_WITH_EARLIER
    payload = packet.payload
    for broken in (b"", payload[:-1], payload + b"a", b"\x0f" + payload[1:], b"\xff" + payload[1:]):
        decoder = StreamDecoder(encoder.header, lapped)
        with pytest.raises(FormatError, match="does not fit"):
            decoder.push(dataclasses.replace(packet, payload=broken))
    with pytest.raises(FormatError, match="names no context model"):
        decoder.push(dataclasses.replace(packet, coding=Coding.CODED_WITH_EARLIER))
    assert decoder.push(packet).shape == (1, 40 - lapped.delay)


def test_more_loss_means_more_redundancy() -> None:
    plans = [Redundancy.for_loss(loss) for loss in (0.0, 0.02, 0.1, 0.2, 0.5)]
    assert plans[0].frames == 0
    for fewer, more in itertools.pairwise(plans):
        assert fewer.frames < more.frames and fewer.bitrate < more.bitrate


COSTS = range(0, 10 * MAX_EARLIER_CODEBOOKS + 1, 10)


def test_layouts_have_fewer_codes_for_older_frames() -> None:
    for frames in range(1, MAX_FRAMES + 1):
        for newest in range(1, MAX_EARLIER_CODEBOOKS + 1):
            counts = layout(frames, newest)
            assert counts[0] == newest and len(counts) == frames and min(counts) >= 1
            assert list(counts) == sorted(counts, reverse=True)
            assert best_layout(frames, 10 * sum(counts), COSTS) == counts or newest == 1
    assert best_layout(3, 9.0, COSTS) == () == best_layout(0, 1000, COSTS)


def test_a_layout_counts_the_bits_of_every_codebook() -> None:
    costs = (0, 12, 36, 84)  # one, two and four codes of 12 bits
    assert best_layout(2, 48.0, costs) == (2, 1)
    assert best_layout(2, 47.9, costs) == (1, 1)
    assert best_layout(1, 84.0, costs) == best_layout(1, 999.0, costs) == (3,)
