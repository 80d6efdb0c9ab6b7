"""Files of several streams, damaged anywhere; files that claim more than their bytes can hold."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from codec.cli.app import main
from codec.codes import Codebook
from codec.entropy.coding import decode_packets, encode_packets
from codec.entropy.context import ContextModel, ContextShape
from codec.entropy.payload import PayloadDecoder, PayloadEncoder
from codec.errors import CodecError, FormatError
from codec.format.container import (
    MAX_FRAMES_PER_BYTE,
    MAX_PAYLOAD,
    NOISE_SECONDS,
    Coding,
    Gap,
    Header,
    Packet,
    longest_packet,
    max_variable_bits,
)
from codec.format.reading import (
    TOGETHER_SECONDS,
    most_together,
    read_streams,
    summarize_file,
)
from codec.format.summary import StreamSummary
from tests.codec.entropy.oracle import random_context

HEADER = Header(
    channels=1,
    codebooks=(Codebook(32),) * 2,
    frames_per_packet=4,
    sample_rate=8_000,
    original_sample_rate=8_000,
    hop_length=40,
    fingerprint=bytes(range(16)),
)
HEADERS = (
    HEADER,
    dataclasses.replace(HEADER, skip=3, channels=2),
    dataclasses.replace(HEADER, frames_per_packet=2),
)
ONE = HEADER.codebooks[:1]
CALL = dataclasses.replace(HEADER, frames_per_packet=1, dtx=True)


def packets_of(header: Header) -> list[Packet]:
    """Two full packets and a last one, each with other bytes."""
    coding = None if header.format == 1 else Coding.PLAIN
    full = header.frames_per_packet
    sizes = [full, full, 1]
    payloads = [bytes([7 * n + 1] * header.payload_size(size)) for n, size in enumerate(sizes)]
    num_samples = (2 * full + 1) * header.hop_length - header.skip
    return [
        Packet(n, size, payload, num_samples if n == 2 else None, coding)
        for n, (size, payload) in enumerate(zip(sizes, payloads, strict=True))
    ]


PARTS = [
    [header.to_bytes(), *(each.to_bytes() for each in packets_of(header))] for header in HEADERS
]
"""Bytes of the header and the packets of each stream."""
JOINED = b"".join(b"".join(parts) for parts in PARTS)
OWNERS = [
    (stream, part)
    for stream, parts in enumerate(PARTS)
    for part, data in enumerate(parts)
    for _ in data
]
"""The stream of each byte, and its part in it: 0 is the header."""


class InPieces(io.BytesIO):
    """A pipe that gives a few bytes at a time."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(min(13, size or 13))


def found_in(
    data: bytes, kind: Callable[[bytes], io.BytesIO] = io.BytesIO
) -> tuple[list[tuple[Header, list[bytes]]], str | None]:
    """Headers and packets of the streams of a file, and its damage."""
    streams, total = [], None
    for stream in read_streams(kind(data)):
        items = [item for batch in stream.batches for item in batch]
        packets = [item.to_bytes() for item in items if isinstance(item, Packet)]
        streams.append((stream.header, packets))
        if total is None:
            total = stream.summary
        else:
            total.append(stream.summary)
    assert total is not None
    return streams, total.damage()


@pytest.mark.parametrize("kind", [io.BytesIO, InPieces])
def test_a_flipped_byte_of_a_joined_file_costs_what_it_touches(
    kind: Callable[[bytes], io.BytesIO],
) -> None:
    for position, (stream, part) in enumerate(OWNERS):
        for flip in (0x01, 0x20, 0xFF):
            damaged = bytearray(JOINED)
            damaged[position] ^= flip
            expected = [
                (header, [each for n, each in enumerate(PARTS[number]) if n and (number, n) != hit])
                for number, header in enumerate(HEADERS)
                if (number, 0) != (hit := (stream, part))
            ]
            assert found_in(bytes(damaged), kind)[0] == expected, position
            assert found_in(bytes(damaged), kind)[1], position


def test_a_joined_file_that_is_cut_off_anywhere_gives_what_came_before() -> None:
    ends = [*accumulate(len(b"".join(parts)) for parts in PARTS)]
    for length in range(len(PARTS[0][0]), len(JOINED)):
        streams, damage = found_in(JOINED[:length])
        packets = [each for _, own in streams for each in own]
        whole = [each for parts in PARTS for each in parts[1:]]
        assert packets == whole[: len(packets)]
        headers = sum(map(len, (parts[0] for parts in PARTS[: len(streams)])))
        rest = length - headers - sum(map(len, packets))
        assert 0 <= rest < max(len(each) for parts in PARTS for each in parts)
        assert (damage is None) == (length in ends), length


def test_bytes_between_and_around_streams_are_damage_and_cost_nothing() -> None:
    streams = [b"".join(parts) for parts in PARTS]
    whole, damage = found_in(JOINED)
    assert damage is None
    for junk in (b"\0", b"AEC", b"AECD", b"AECD\x10" + bytes(60), b"\xae\x00" * 70_000):
        for data in (junk + JOINED, JOINED + junk, junk.join(streams), junk.join([junk, JOINED])):
            found, damage = found_in(data)
            assert found == whole
            assert damage is not None and "bytes belong to no stream" in damage
            assert str(len(data) - len(JOINED)) in damage and "\n" not in damage


def test_a_header_inside_a_packet_is_part_of_the_packet() -> None:
    header = dataclasses.replace(HEADER, frames_per_packet=48, codebooks=(Codebook(2**16),) * 2)
    inner = HEADER.to_bytes()
    packets = [
        Packet(0, 48, inner.ljust(header.payload_size(48), b"\xae")),
        Packet(1, 0, b"", 48 * header.hop_length),
    ]
    data = stream(header, *packets)
    assert found_in(data) == ([(header, [each.to_bytes() for each in packets])], None)


def test_a_file_that_holds_no_stream_is_refused_with_what_its_beginning_lacks() -> None:
    damaged = JOINED[:20] + b"?" + JOINED[21 : len(PARTS[0][0])]
    for data, message in ((b"", "not a .codes"), (b"RIFF" * 99, "not a"), (damaged, "damaged")):
        with pytest.raises(FormatError, match=message):
            found_in(data)


def test_a_stream_that_is_not_read_does_not_stop_the_next_one() -> None:
    assert [stream.header for stream in read_streams(io.BytesIO(JOINED))] == [*HEADERS]


def test_commands_report_what_belongs_to_no_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.codes"
    position = len(b"".join(PARTS[0])) + 1  # in the second "AECD"
    path.write_bytes(JOINED[:position] + b"?" + JOINED[position + 1 :])
    lost = len(b"".join(PARTS[1]))
    for command in ("verify", "info"):
        result = CliRunner().invoke(main, [command, str(path)])
        assert result.exit_code == 1
        assert f"{lost} bytes belong to no stream: not a .codes stream" in result.output
    summary = summarize_file(path)
    assert (summary.num_streams, summary.num_unread) == (2, lost)
    assert summary.num_bytes + lost == len(JOINED)


def test_the_length_of_damaged_streams_is_that_of_what_is_played() -> None:
    """Without a last packet, with a gap and with a beginning that is skipped."""
    header = dataclasses.replace(HEADER, skip=40)
    packets = [dataclasses.replace(each, coding=Coding.PLAIN) for each in packets_of(HEADER)]
    cut = StreamSummary(header)
    for item in (packets[0], Gap(1, 20)):
        cut.count(item)
    assert cut.duration_seconds == (8 * 40 - 40) / 8_000
    whole = StreamSummary(header)
    for packet in packets:
        whole.count(packet)
    whole.append(cut)
    assert whole.num_samples is None
    assert whole.duration_seconds == (9 * 40 + 8 * 40 - 40) / 8_000


def test_packets_that_depend_on_lost_ones_are_counted() -> None:
    header = dataclasses.replace(HEADER, context=b"contexts", chained=True)
    summary = StreamSummary(header)
    kinds = [Coding.CODED, Coding.CHAINED, None, Coding.CHAINED, Coding.CHAINED, Coding.CODED]
    for number, kind in enumerate(kinds):
        summary.count(Gap(1, 0) if kind is None else Packet(number, 4, b"", None, kind))
    summary.count(Packet(6, 0, b"", 960, Coding.CHAINED))
    assert summary.damage() == "1 packets are damaged or missing, 2 more depend on them"


def test_losses_of_all_streams_of_a_file_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "joined.codes"
    others = [each.to_bytes() for each in packets_of(HEADER)][1:]
    without_first = HEADER.to_bytes() + b"".join(others)
    without_end = HEADER.to_bytes() + others[0]
    for data, problem in (
        (3 * without_first, ""),
        (without_first + without_end + without_first, "no last packet: it was cut short, and "),
    ):
        source.write_bytes(data)
        damage = summarize_file(source).damage()
        assert damage is not None
        assert damage.endswith(f"{problem}3 packets are damaged or missing")


def test_packets_that_depend_on_one_before_the_first_are_damage() -> None:
    header = dataclasses.replace(HEADER, format=2, chained=True, context=bytes(range(8)))
    summary = StreamSummary(header)
    for packet in (
        Packet(0, 4, b"", None, Coding.CHAINED),
        Packet(1, 0, b"", 4 * header.hop_length, Coding.CODED),
    ):
        summary.count(packet)
    assert summary.damage() == "1 packets depend on missing ones"


# What a file may claim


def stream(header: Header, *packets: Packet) -> bytes:
    return header.to_bytes() + b"".join(each.to_bytes() for each in packets)


def noise(sequence: int) -> Packet:
    """Comfort noise of one frame and one code."""
    return Packet(sequence, 1, bytes(2), coding=Coding.COMFORT_NOISE)


def test_silence_after_comfort_noise_lasts_a_second_and_the_rest_is_missing() -> None:
    second = round(NOISE_SECONDS * 200)
    end = Packet(0, 0, b"", 0, Coding.PLAIN)
    for left_out, expected in (
        (1, [Gap(1, 0, True)]),
        (second, [Gap(second, 0, True)]),
        (second + 7, [Gap(second, 0, True), Gap(7, 0)]),
    ):
        last = dataclasses.replace(end, sequence=1 + left_out)
        found = next(read_streams(io.BytesIO(stream(CALL, noise(0), last))))
        assert [item for batch in found.batches for item in batch if isinstance(item, Gap)] == (
            expected
        )
        assert found.summary.num_lost == sum(gap.num_packets for gap in expected[1:])
    last = dataclasses.replace(end, sequence=60_000)
    with pytest.raises(FormatError, match="too damaged"):
        found_in(stream(CALL, noise(0), last))


def test_a_day_of_silence_that_was_not_sent_is_no_damage() -> None:
    """A packet of 22 bytes each 0.4 seconds, as encoders write them, for as long as one likes."""
    header = dataclasses.replace(CALL, codebooks=(Codebook(1024),) * 2)
    packets = [
        Packet(80 * n % 2**16, 1, b"\x70" + bytes(10), coding=Coding.COMFORT_NOISE)
        for n in range(2_000)
    ]
    num_frames = 80 * 1_999 + 1
    last = Packet(num_frames % 2**16, 0, b"", num_frames * 40, Coding.PLAIN)
    found = next(read_streams(io.BytesIO(stream(header, *packets, last))))
    assert found.read_on().damage() is None and found.summary.num_frames == num_frames


def test_packets_of_many_frames_in_few_bytes_are_refused() -> None:
    header = dataclasses.replace(
        HEADER,
        channels=100,
        codebooks=ONE,
        frames_per_packet=1000,
        context=b"contexts",
    )
    frames = 100 * 1000
    enough = -(-frames // MAX_FRAMES_PER_BYTE) - header.head_size
    assert header.least_payload(1000) == enough
    for size in (0, enough - 1, enough):
        packets = [Packet(n, 1000, bytes(size), coding=Coding.CODED) for n in range(3)]
        if size == enough:
            assert found_in(stream(header, *packets))[0]
        else:
            with pytest.raises(FormatError, match="limit is 128 for each byte"):
                found_in(stream(header, *packets))


def test_encoders_write_enough_bytes_for_their_frames() -> None:
    """Codes of many channels that a context model foresees, so that they take no bytes at all."""
    rng, shape = np.random.default_rng(0), ContextShape(1, 64, 3, width=8, hidden=5, dilations=(1,))
    model = ContextModel(shape, random_context(rng, shape, largest=1), b"contexts")
    header = dataclasses.replace(
        HEADER, channels=80, codebooks=(Codebook(64),) * 1, frames_per_packet=30
    )
    header = dataclasses.replace(header, context=b"contexts")
    (codes,), _ = decode_packets(model, [(b"", 30)], 80, 1)
    (shortest,), _ = encode_packets(model, codes[None])
    payload, coding = PayloadEncoder(header, model).encode(codes)
    assert coding == Coding.CODED and len(shortest) < len(payload) == header.least_payload(30)
    (found,) = PayloadDecoder(header, model).decode([Packet(0, 30, payload, coding=coding)])
    assert found is not None and np.array_equal(found, codes)


def test_what_is_missing_without_a_trace_is_limited_in_a_file_and_not_in_a_stream() -> None:
    """8 channels of 10 seconds, or a second in each of many streams."""
    last = Packet(1, 0, b"", 0)
    for header, missing in (
        (dataclasses.replace(HEADER, channels=8, frames_per_packet=200), 10),
        (
            dataclasses.replace(HEADER, channels=255, codebooks=ONE, frames_per_packet=100),
            1,
        ),
    ):
        with pytest.raises(FormatError, match="missing without a trace"):
            found_in(stream(header, dataclasses.replace(last, sequence=missing)))
    second = dataclasses.replace(HEADER, frames_per_packet=200)
    found_in(20 * stream(second, last))
    with pytest.raises(FormatError, match="21 seconds are missing without a trace"):
        found_in(21 * stream(second, last))


def test_damage_that_left_its_bytes_is_concealed_in_any_number_of_channels() -> None:
    header = dataclasses.replace(HEADER, channels=16, frames_per_packet=400)
    payload = bytes(header.payload_size(400))
    blank = bytes(header.head_size + len(payload))
    packets = b"".join(Packet(n, 400, payload).to_bytes() for n in (4, 5))
    streams, damage = found_in(header.to_bytes() + 4 * blank + packets)
    assert len(streams[0][1]) == 2 and damage is not None and "4 packets" in damage


def test_packets_that_are_decoded_side_by_side_last_a_minute_together() -> None:
    header = dataclasses.replace(
        HEADER,
        channels=2,
        codebooks=ONE,
        frames_per_packet=200,
        context=b"contexts",
    )
    packets = [Packet(n, 200, bytes(9), coding=Coding.CODED) for n in range(100)]
    found = next(read_streams(io.BytesIO(stream(header, *packets))))
    sizes = [len(batch) for batch in found.batches]
    assert max(sizes) == TOGETHER_SECONDS / 2 and sum(sizes) == 100


# The longest packets


@pytest.mark.parametrize("pauses", [False, True])
def test_the_longest_packet_of_every_number_of_channels_is_one_that_a_header_takes(
    pauses: bool,
) -> None:
    """And one more frame is too long, for constant and variable numbers of codes."""
    for channels in range(1, 256):
        for codebooks in (1, 7, 20, 32):
            header = dataclasses.replace(
                HEADER, channels=channels, codebooks=(Codebook(1024),) * codebooks, hop_length=1
            )
            header = dataclasses.replace(header, context=b"contexts", sample_rate=1_000_000)
            for variable in (pauses, True):
                bits = 10 * codebooks
                if variable:
                    bits = max_variable_bits(codebooks, pauses=pauses)
                frames = longest_packet(bits, channels)
                if frames > 0xFFFF:
                    continue
                longest = dataclasses.replace(
                    header, frames_per_packet=frames, variable=variable, pauses=pauses
                )
                assert longest.max_payload(frames) < MAX_PAYLOAD
                with pytest.raises(CodecError, match="the limit is 65536"):
                    dataclasses.replace(longest, frames_per_packet=frames + 1)


def test_packets_that_are_decoded_side_by_side_last_a_minute_in_all_channels_together() -> None:
    header = dataclasses.replace(HEADER, frames_per_packet=100)  # half a second
    assert most_together(header) == 2 * TOGETHER_SECONDS
    assert most_together(dataclasses.replace(header, channels=2)) == TOGETHER_SECONDS
    assert most_together(dataclasses.replace(header, channels=255)) == 1
