"""Header, packets and the reader's way through damage; hostile bytes included."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings, strategies as st

from codec.errors import FormatError
from codec.format.container import (
    MAX_PAYLOAD,
    Coding,
    Gap,
    Header,
    Packet,
    PacketReader,
    PacketWriter,
)

HEADER = Header(
    channels=2,
    num_codebooks=3,
    bits_per_code=5,
    frames_per_packet=4,
    sample_rate=8000,
    original_sample_rate=44_100,
    hop_length=40,
    fingerprint=bytes(range(16)),
)


CODED = dataclasses.replace(HEADER, context=b"contexts", chained=True)


@pytest.fixture(params=[HEADER, CODED], ids=["format 1", "format 2"])
def header(request: pytest.FixtureRequest) -> Header:
    found: Header = request.param
    return found


def make_packets(count: int, header: Header = HEADER) -> list[Packet]:
    full = header.payload_size(4)
    if header.context:
        coded = [
            Packet(n, 4, bytes([n % 251] * (full - n % 5)), coding=Coding(n % 3))
            for n in range(count)
        ]
        return [*coded, Packet(count, 1, b"c", num_samples=12345, coding=Coding.CODED)]
    packets = [Packet(n % 256, 4, bytes([n % 251] * full)) for n in range(count)]
    return [*packets, Packet(count % 256, 1, bytes(HEADER.payload_size(1)), num_samples=12345)]


def serialise(packets: Iterable[Packet], header: Header = HEADER) -> bytes:
    file = io.BytesIO()
    writer = PacketWriter(file, header)
    for packet in packets:
        writer.write(packet)
    return file.getvalue()[header.size :]


def read(
    data: bytes, step: int | None = None, header: Header = HEADER
) -> tuple[list[Packet | Gap], bool]:
    reader = PacketReader(header)
    items: list[Packet | Gap] = []
    for start in range(0, len(data), step or max(1, len(data))):
        items += reader.push(data[start : start + (step or len(data))])
    items += reader.finish()
    return items, reader.ended


def test_a_header_survives_bytes_and_lies_where_the_format_says() -> None:
    data = HEADER.to_bytes()
    assert len(data) == Header.SIZE == 44
    assert Header.from_bytes(data) == HEADER
    assert data[:10] == b"AECD\x10\x00\x02\x03\x05\x00"
    assert struct.unpack("<HIII", data[10:24]) == (4, 8000, 44_100, 40)
    assert data[24:40] == bytes(range(16))
    assert struct.unpack("<I", data[40:]) == (zlib.crc32(data[:40]),)


def test_a_packet_survives_bytes_and_lies_where_the_format_says() -> None:
    packet = Packet(7, 1, b"abcd")
    data = packet.to_bytes()
    assert data == b"\xae\x07\x01\x00" + struct.pack("<I", zlib.crc32(data[:4] + b"abcd")) + b"abcd"
    last = Packet(255, 0, b"", num_samples=2**40)
    assert last.to_bytes()[0] == 0xAF
    assert last.to_bytes()[8:] == struct.pack("<Q", 2**40)
    for each in (packet, last):
        assert Packet.from_bytes(each.to_bytes()) == each
        assert each.size == len(each.to_bytes())


def test_a_coded_stream_lies_where_the_format_says() -> None:
    data = CODED.to_bytes()
    assert len(data) == CODED.size == Header.size_of(data[:5]) == 56
    assert Header.from_bytes(data + b"more") == CODED
    assert data[4:6] == b"\x20\x01" and data[40:52] == b"contexts" + bytes(4)
    assert struct.unpack("<I", data[52:]) == (zlib.crc32(data[:52]),)
    packet = Packet(0x1234, 4, b"abcd", coding=Coding.CHAINED)
    head = b"\xa4\x34\x12\x04\x00\x04\x00"
    assert packet.to_bytes() == head + struct.pack("<I", zlib.crc32(head + b"abcd")) + b"abcd"
    last = Packet(3, 0, b"", num_samples=2**40, coding=Coding.PLAIN)
    assert last.to_bytes()[:1] == b"\xa1" and last.to_bytes()[11:] == struct.pack("<Q", 2**40)
    for each in (packet, last):
        assert Packet.from_bytes(each.to_bytes()) == each
        assert each.size == len(each.to_bytes())


def test_a_header_names_its_segments() -> None:
    header = dataclasses.replace(CODED, chained=False, segments=3)
    data = header.to_bytes()
    assert data[9] == 3 and CODED.to_bytes()[9] == 1 and HEADER.to_bytes()[9] == 0
    assert Header.from_bytes(data) == header
    # Of streams that were written before there were segments.
    head = data[:9] + b"\0" + data[10:-4]
    assert Header.from_bytes(head + struct.pack("<I", zlib.crc32(head))).segments == 1
    for changes in ({"segments": 9}, {"segments": 0}, {"chained": True}, {"context": b""}):
        with pytest.raises(FormatError, match="segments"):
            dataclasses.replace(header, **changes)


def test_a_packet_of_another_size_than_it_says_is_refused() -> None:
    head = b"\xa2\x00\x00\x04\x00\x03\x00"
    data = head + struct.pack("<I", zlib.crc32(head + b"abcd")) + b"abcd"
    with pytest.raises(FormatError, match="4 bytes, it says 3"):
        Packet.from_bytes(data)


@pytest.mark.parametrize("step", [1, 2, 7, 31, None])
def test_the_reader_does_not_see_how_bytes_arrive(step: int | None, header: Header) -> None:
    packets = make_packets(5, header)
    assert read(serialise(packets, header), step, header) == (packets, True)


def test_bytes_after_the_end_are_not_read(header: Header) -> None:
    packets = make_packets(1, header)
    data = serialise(packets, header)
    assert read(data + data, None, header) == (packets, True)


def test_every_cut_gives_the_packets_before_it_and_no_end(header: Header) -> None:
    packets = make_packets(3, header)
    data = serialise(packets, header)
    sizes = [len(packet.to_bytes()) for packet in packets]
    for length in range(len(data)):
        items, ended = read(data[:length], None, header)
        whole = sum(length >= sum(sizes[: n + 1]) for n in range(len(sizes)))
        assert [item for item in items if isinstance(item, Packet)] == packets[:whole]
        assert not ended


def test_every_flipped_byte_costs_only_its_packet(header: Header) -> None:
    packets = make_packets(4, header)
    data = serialise(packets, header)
    owners = [n for n, packet in enumerate(packets) for _ in packet.to_bytes()]
    for position, hit in enumerate(owners):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        items, ended = read(bytes(damaged), 13, header)
        good = [packet for n, packet in enumerate(packets) if n != hit]
        assert [item for item in items if isinstance(item, Packet)] == good
        assert sum(item.num_packets for item in items if isinstance(item, Gap)) == 1
        assert ended == (hit != 4)


@pytest.mark.parametrize("lost", [1, 2, 255, 256, 257, 600])
def test_a_gap_of_any_length_is_counted(lost: int, header: Header) -> None:
    packets = make_packets(700, header)
    kept = packets[:10] + packets[10 + lost :]
    blank = bytes(len(packets[0].to_bytes()) * lost)
    middle = len(serialise(packets[:10], header))
    data = serialise(kept, header)
    items, ended = read(data[:middle] + blank + data[middle:], None, header)
    assert ended
    assert [item for item in items if isinstance(item, Packet)] == kept
    assert [item for item in items if isinstance(item, Gap)] == [Gap(lost, len(blank))]


def test_packets_missing_without_a_trace_are_counted_by_their_numbers(header: Header) -> None:
    packets = make_packets(20, header)
    items, _ = read(serialise(packets[:3] + packets[8:], header), None, header)
    assert items[3] == Gap(5, 0)


def test_sequence_numbers_of_coded_streams_fit_long_calls() -> None:
    packets = [Packet(n % 2**16, 4, b"", coding=Coding.CODED) for n in range(2**16 + 3)]
    items, _ = read(serialise([packets[0], *packets[2**16 - 1 :]], CODED), None, CODED)
    assert items == [packets[0], Gap(2**16 - 2, 0), *packets[2**16 - 1 :]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channels", 0),
        ("num_codebooks", 0),
        ("bits_per_code", 0),
        ("bits_per_code", 17),
        ("frames_per_packet", 0),
        ("sample_rate", 0),
        ("original_sample_rate", 2**32 - 1),
        ("hop_length", 0),
    ],
)
def test_a_forged_header_is_refused_with_its_value(field: str, value: int) -> None:
    with pytest.raises(FormatError, match=rf"{field} is {value}:"):
        dataclasses.replace(HEADER, **{field: value})  # type: ignore[arg-type]


def test_packets_of_forged_size_are_refused() -> None:
    with pytest.raises(FormatError, match=f"the limit is {MAX_PAYLOAD}"):
        dataclasses.replace(HEADER, frames_per_packet=800, channels=255)


def test_every_damaged_or_cut_header_is_refused(header: Header) -> None:
    data = header.to_bytes()
    for position in range(len(data)):
        with pytest.raises(FormatError):
            Header.from_bytes(data[:position])
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises(FormatError):
            Header.from_bytes(bytes(damaged))


def test_a_newer_format_is_named() -> None:
    head = bytearray(HEADER.to_bytes()[:40])
    head[4] = 0x31
    with pytest.raises(FormatError, match=r"format 3\.1, .* reads formats 1 and 2: upgrade"):
        Header.from_bytes(bytes(head) + struct.pack("<I", zlib.crc32(head)))


def test_a_stream_made_to_waste_time_is_refused(header: Header) -> None:
    # Every byte looks like the start of the largest possible packet.
    start = 0xA4 if header.context else 0xAE
    largest = dataclasses.replace(
        header,
        channels=1,
        num_codebooks=1,
        bits_per_code=8,
        frames_per_packet=start * 0x101,
        hop_length=1,
    )
    reader = PacketReader(largest)
    with pytest.raises(FormatError, match="too damaged"):
        list(reader.push(bytes([start]) * 500_000))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_random_bytes_never_raise_anything_else(data: bytes, step: int) -> None:
    for header in (HEADER, CODED):
        items, ended = read(serialise(make_packets(1, header), header)[:20] + data, step, header)
        assert not ended or any(isinstance(item, Packet) and item.is_last for item in items)
