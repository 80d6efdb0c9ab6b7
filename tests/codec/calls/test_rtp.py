"""RTP: packets come back as they were, and nothing hostile ends in a traceback."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from codec.calls.jitter import JitterBuffer
from codec.calls.rtp import RtpDepacketizer, RtpPacketizer
from codec.engines.torch import TorchEngine
from codec.entropy.redundancy import Redundancy
from codec.errors import FormatError
from codec.format.container import Coding, Header, Packet
from codec.network.model import Codec
from codec.stream import StreamDecoder, StreamEncoder
from tests.conftest import sound

HEADER = Header(
    channels=1,
    num_codebooks=4,
    bits_per_code=5,
    frames_per_packet=1,
    sample_rate=8_000,
    original_sample_rate=8_000,
    hop_length=40,
    fingerprint=bytes(16),
    format=2,
)


def packet(number: int, payload: bytes = b"abc") -> Packet:
    return Packet(number % 65_536, 1, payload, coding=Coding.PLAIN)


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("redundancy", [None, Redundancy(2, 3_000)])
@pytest.mark.parametrize("frames_per_packet", [1, 4])
def test_packets_come_back_as_they_were(
    lapped: Codec, together: int, redundancy: Redundancy | None, frames_per_packet: int
) -> None:
    if redundancy and frames_per_packet > 1:
        redundancy = Redundancy(0, 0)
    encoder = StreamEncoder(lapped, redundancy=redundancy, frames_per_packet=frames_per_packet)
    packets = encoder.push(sound(1_990)) + encoder.finish()
    packetizer = RtpPacketizer(encoder.header)
    depacketizer = RtpDepacketizer(encoder.header)
    found = []
    for start in range(0, len(packets), together):
        data = packetizer.packetize(packets[start : start + together])
        found += depacketizer.depacketize(data)
    assert found == packets
    decoder = StreamDecoder(lapped, encoder.header)
    assert sum(decoder.push(each).shape[1] for each in found) == 1_990


def test_the_fields_of_rtp_are_those_of_rfc_3550() -> None:
    packetizer = RtpPacketizer(
        HEADER, payload_type=100, ssrc=0x01020304, sequence=65_535, timestamp=2**32 - 40
    )
    first = packetizer.packetize([packet(5)])
    assert first.hex() == "80" + "e4" + "ffff" + "ffffffd8" + "01020304" + "00" + "616263"
    second = packetizer.packetize([packet(6), packet(7, b"d")])
    assert second.hex() == "80640000" + "00000000" + "01020304" + "800003616263" + "0064"
    after_a_pause = packetizer.packetize([packet(10)])
    assert after_a_pause[:8].hex() == "80e40001" + f"{4 * 40:08x}"


def test_numbers_count_on_for_hours_and_in_any_order() -> None:
    """Timestamps wrap at a number that is no whole number of packets."""
    packetizer = RtpPacketizer(HEADER, timestamp=2**32 - 100_020)
    depacketizer = RtpDepacketizer(HEADER)
    datas = [packetizer.packetize([packet(number)]) for number in range(70_000)]
    order = np.arange(70_000).reshape(-1, 5)[:, ::-1].reshape(-1)
    found = [depacketizer.depacketize(datas[number])[0].sequence for number in order]
    assert found == [int(number - 4) % 65_536 for number in order]


def test_csrc_extension_and_padding_are_skipped() -> None:
    plain = RtpPacketizer(HEADER).packetize([packet(0)])
    head, payload = bytearray(plain[:12]), plain[12:]
    head[0] |= 0x30 | 2
    extension = bytes(8) + bytes.fromhex("beef0001") + bytes(4)
    data = bytes(head) + extension + payload + bytes([0, 0, 3])
    assert RtpDepacketizer(HEADER).depacketize(data) == [packet(0)]


def test_strangers_are_refused() -> None:
    depacketizer = RtpDepacketizer(HEADER)
    depacketizer.depacketize(RtpPacketizer(HEADER, ssrc=1).packetize([packet(0)]))
    with pytest.raises(FormatError, match="source 00000002, the stream is of 00000001"):
        depacketizer.depacketize(RtpPacketizer(HEADER, ssrc=2).packetize([packet(0)]))
    with pytest.raises(FormatError, match="payload type 98, 97 was agreed on"):
        depacketizer.depacketize(RtpPacketizer(HEADER, payload_type=98).packetize([packet(0)]))
    with pytest.raises(FormatError, match="give one from 0 to 127"):
        RtpPacketizer(HEADER, payload_type=128)
    for packets in ([], [packet(0), packet(2)]):
        with pytest.raises(FormatError, match=r"at least one|follow one another"):
            RtpPacketizer(HEADER).packetize(packets)


def test_hostile_bytes_give_packets_or_an_error(lapped: Codec) -> None:
    engine = TorchEngine(lapped)
    encoder = StreamEncoder(engine, redundancy=Redundancy(2, 3_000))
    packets = encoder.push(sound(400)) + encoder.finish()
    packetizer = RtpPacketizer(encoder.header)
    data = packetizer.packetize(packets[-3:])
    rng = np.random.default_rng(0)
    errors = 0
    for _ in range(2_000):
        broken = bytearray(data[: rng.integers(len(data) + 1)])
        for position in rng.integers(len(broken), size=2) if broken else ():
            broken[position] = rng.integers(256)
        buffer = JitterBuffer(engine, encoder.header, first_depth=0.0)
        try:
            for each in RtpDepacketizer(encoder.header).depacketize(bytes(broken)):
                buffer.push(each, 0.0)
        except FormatError:
            errors += 1
        for tick in range(3):
            assert buffer.pull(0.005 * tick).shape == (1, 40)
    assert 200 < errors < 1_990


def test_a_stream_of_format_1_has_packets_without_coding() -> None:
    header = dataclasses.replace(HEADER, format=1)
    data = RtpPacketizer(header).packetize([Packet(3, 1, b"abc")])
    assert RtpDepacketizer(header).depacketize(data) == [Packet(0, 1, b"abc")]
    with pytest.raises(FormatError, match="unknown kind 0x01"):
        RtpDepacketizer(header).depacketize(data[:12] + b"\x01" + data[13:])
