"""RTP: packets come back as they were, and nothing hostile ends in a traceback."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from codec.calls.jitter import JitterBuffer
from codec.calls.rtp import RtpDepacketizer, RtpPacketizer
from codec.calls.schedule import Schedule
from codec.engines.torch import TorchEngine
from codec.errors import CodecError, FormatError
from codec.format.container import Coding, Header, Packet
from codec.network.model import Codec
from codec.rate.redundancy import Redundancy
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
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

HOSTILE = 100_000
"""Hostile datagrams in one run of the tests."""


def packet(number: int, payload: bytes = b"abc") -> Packet:
    return Packet(number % 65_536, 1, payload, coding=Coding.PLAIN)


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("redundancy", [None, Redundancy(2, 3_000)])
@pytest.mark.parametrize("frames_per_packet", [1, 4])
def test_packets_come_back_as_they_were(
    lapped: Codec, together: int, redundancy: Redundancy | None, frames_per_packet: int
) -> None:
    if redundancy and frames_per_packet > 1:
        redundancy = None
    encoder = StreamEncoder(lapped, packing=Packing.live(frames_per_packet, redundancy=redundancy))
    packets = encoder.push(sound(1_990)) + encoder.finish()
    packetizer = RtpPacketizer(encoder.header)
    depacketizer = RtpDepacketizer(encoder.header)
    found = []
    for start in range(0, len(packets), together):
        data = packetizer.packetize(packets[start : start + together])
        found += depacketizer.depacketize(data)
    assert found == packets
    decoder = StreamDecoder(encoder.header, lapped)
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
    with pytest.raises(FormatError, match="from 0 to 127"):
        RtpPacketizer(HEADER, payload_type=128)
    for packets in ([], [packet(0), packet(2)]):
        with pytest.raises(FormatError, match=r"at least one|follow one another"):
            RtpPacketizer(HEADER).packetize(packets)


def test_hostile_bytes_give_packets_or_an_error(lapped: Codec) -> None:
    engine = TorchEngine(lapped)
    encoder = StreamEncoder(engine, packing=Packing.live(redundancy=Redundancy(2, 3_000)))
    packets = encoder.push(sound(400)) + encoder.finish()
    packetizer = RtpPacketizer(encoder.header)
    data = packetizer.packetize(packets[-3:])
    rng = np.random.default_rng(0)
    errors = 0
    for _ in range(2_000):
        broken = bytearray(data[: rng.integers(len(data) + 1)])
        for position in rng.integers(len(broken), size=2) if broken else ():
            broken[position] = rng.integers(256)
        buffer = JitterBuffer(encoder.header, engine, first_depth=0.0)
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


def test_timestamps_may_jump_by_any_amount() -> None:
    """As those of mixers do; one that is forged changes nothing for those after it."""
    for jump in (1, 19, 20, 21, 48_100, -7, -100_003, 2**31 - 1, 2**31, -(2**31) + 5):
        packetizer, depacketizer = RtpPacketizer(HEADER, timestamp=5), RtpDepacketizer(HEADER)
        found = []
        for number in range(60):
            data = bytearray(packetizer.packetize([packet(number)]))
            if number >= 20:
                timestamp = int.from_bytes(data[4:8], "big") + jump
                data[4:8] = (timestamp % 2**32).to_bytes(4, "big")
            found.append(depacketizer.depacketize(bytes(data))[0].sequence)
            if number in (10, 40, 41):
                data[4:8] = bytes([number, 1, 2, 3])
                depacketizer.depacketize(bytes(data))
        for begin, end in ((0, 20), (20, 60)):
            steps = np.diff(found[begin:end]) % 65_536
            assert (steps != 1).sum() <= 2, f"a jump of {jump}"


def test_timestamps_by_another_clock_count_packets() -> None:
    """Of a sender whose packets last 41 samples by the clock of a mixer, not 40."""
    packetizer, depacketizer = RtpPacketizer(HEADER), RtpDepacketizer(HEADER)
    found = []
    for number in range(200):
        data = bytearray(packetizer.packetize([packet(number)]))
        data[4:8] = (1_000 + 41 * number).to_bytes(4, "big")
        found += depacketizer.depacketize(bytes(data))
    assert [each.sequence for each in found] == list(range(200))


def test_a_source_that_has_restarted_is_followed_after_three_packets() -> None:
    depacketizer = RtpDepacketizer(HEADER)
    first, second = (RtpPacketizer(HEADER, ssrc=ssrc) for ssrc in (1, 2))
    assert depacketizer.depacketize(first.packetize([packet(0)])) == [packet(0)]
    for number in range(1, 10):  # one beside the source of the stream is not
        with pytest.raises(FormatError, match="source 00000002"):
            depacketizer.depacketize(second.packetize([packet(number)]))
        assert depacketizer.depacketize(first.packetize([packet(number)])) == [packet(number)]
    stray = RtpPacketizer(HEADER, ssrc=3).packetize([packet(0)])
    for data in (stray, stray, second.packetize([packet(10)]), second.packetize([packet(11)])):
        with pytest.raises(FormatError, match="3 packets in sequence are followed"):
            depacketizer.depacketize(data)
    for number in range(12, 20):
        found = depacketizer.depacketize(second.packetize([packet(number)]))
        assert [each.sequence for each in found] == [number - 2]


def test_the_call_goes_on_after_a_hundred_thousand_hostile_datagrams() -> None:
    """Of all lengths: no error but a `CodecError`, and no packet after them is refused."""
    rng = np.random.default_rng(0)
    data = RtpPacketizer(HEADER, ssrc=1).packetize([packet(0), packet(1), packet(2)])
    depacketizer = RtpDepacketizer(HEADER)
    schedule = Schedule(HEADER, late=0.01, first_depth=0.04, max_depth=0.5)
    for number in range(HOSTILE):
        broken = bytearray(rng.bytes(number % 60) if number % 3 else data[: number % len(data)])
        if number % 5 and len(broken) > 1:
            broken[0] = 0x80 | broken[0] & 0x3F
            broken[1] = broken[1] & 0x80 | 97
        if number % 7 == 0 and len(broken) > 12:
            broken[8:12] = (1).to_bytes(4, "big")
        try:
            found = depacketizer.depacketize(bytes(broken))
        except CodecError:
            continue
        for each in found:
            schedule.push(each, number * 1e-4)
    sender, now, found = RtpPacketizer(HEADER, ssrc=9), HOSTILE * 1e-4, []
    for number in range(500):
        try:
            found = depacketizer.depacketize(sender.packetize([packet(number)]))
        except CodecError:
            assert number < 2
        for each in found:
            schedule.push(each, now + number * 0.005)
        if schedule.is_playing(now + number * 0.005) and not schedule.finished:
            taken = schedule.take()
            schedule.note(decoded=taken is not None, concealed=taken is None, silent=False)
            if number > 200:
                assert taken is not None
