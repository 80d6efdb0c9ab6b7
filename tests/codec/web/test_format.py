"""The page reads and writes streams as the Python package does."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec import cut_file, encode_file
from codec.activity.pauses import fill_pauses
from codec.arrays import Codes
from codec.codes import Codebook, Geometry
from codec.engines.torch import TorchEngine
from codec.entropy.coding import decode_packets
from codec.entropy.context import NO_CODE, ContextModel, ContextShape
from codec.entropy.context_file import CONTEXT_FILE, load_context, save_context
from codec.entropy.payload import PayloadDecoder, PayloadEncoder
from codec.errors import FormatError
from codec.format.container import (
    MAX_PAYLOAD,
    Coding,
    Gap,
    Header,
    Packet,
    max_variable_bits,
)
from codec.format.reading import read_streams
from codec.highpass import high_pass
from codec.model_folder import DEFAULT_MODEL, find_model, read_description
from codec.network.model import Codec
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.codec.entropy.oracle import random_context
from tests.codec.web.node import in_node
from tests.conftest import GOLDEN, RECORDING, sound

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")

HEADER = Header(
    channels=2,
    codebooks=(Codebook(64),) * 3,
    frames_per_packet=4,
    sample_rate=8000,
    original_sample_rate=44_100,
    hop_length=40,
    fingerprint=bytes(range(16)),
)


def read_in_node(data: list[bytes], context: Path | None = None) -> list[Any]:
    path = str(context) if context else None
    return in_node([{"kind": "read", "data": each.hex(), "context": path} for each in data])


def camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def fields(header: Header) -> dict[str, Any]:
    """Attributes of a header as the page names them."""
    values = dataclasses.asdict(header)
    values |= {"codebooks": described_codebooks(header), "bits": list(header.bits)}
    return {
        camel(name): value.hex() if isinstance(value, bytes) else value
        for name, value in values.items()
    }


def described_codebooks(geometry: Geometry) -> list[dict[str, int]]:
    return [{"bits": each.bits, "perFrame": each.per_frame} for each in geometry.codebooks]


def flat(codes: Codes) -> list[int]:
    """Codes in the order of the stream."""
    order: list[int] = codes.transpose(2, 0, 1).reshape(-1).tolist()
    return order


def described(item: Packet | Gap, payloads: PayloadDecoder, header: Header) -> dict[str, Any]:
    if isinstance(item, Gap):
        payloads.lost()
        return {"lost": item.num_packets, "bytes": item.num_bytes, "silence": item.is_silence}
    (codes,) = payloads.decode([item])
    names = ("sequence", "num_frames", "num_samples", "coding")
    filled = codes if codes is None or not header.pauses else fill_pauses(codes)
    return {camel(name): getattr(item, name) for name in names} | {
        "codes": None if codes is None else flat(codes),
        "filled": None if filled is None else flat(filled),
    }


def read_in_python(data: bytes, context: ContextModel | None = None) -> Any:
    """What the package finds in a stream, in the form in which ``format.mjs`` answers."""
    try:
        found = []
        for stream in read_streams(io.BytesIO(data)):
            payloads = PayloadDecoder(stream.header, context)
            items = [
                described(item, payloads, stream.header)
                for batch in stream.batches
                for item in batch
            ]
            damage = stream.summary.damage()
            found.append({"header": fields(stream.header), "items": items, "damage": damage})
    except FormatError as error:
        return {"error": str(error)}
    return found


def alike(answer: Any) -> Any:
    """An answer without the wording of what is wrong."""
    if isinstance(answer, dict):
        return "error"
    return [each | {"damage": each["damage"] is None} for each in answer]


def assert_read_alike(
    data: list[bytes], context: Path | None = None, model: ContextModel | None = None
) -> list[Any]:
    answers = read_in_node(data, context)
    for number, (each, answer) in enumerate(zip(data, answers, strict=True)):
        assert alike(answer) == alike(read_in_python(each, model)), number
    return answers


@pytest.fixture(scope="module")
def golden() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(GOLDEN.glob("*.codes"))}


@pytest.fixture(scope="module")
def golden_model() -> ContextModel:
    """The context model of the coded ones."""
    found = load_context(GOLDEN, HEADER.fingerprint)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def context_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    shape = ContextShape(4, 64, 3, width=8, hidden=5, dilations=(1, 2))
    tensors = random_context(np.random.default_rng(0), shape, largest=25)
    save_context(folder, shape, tensors, HEADER.fingerprint)
    return folder / CONTEXT_FILE


@pytest.fixture(scope="module")
def model(context_path: Path) -> ContextModel:
    found = load_context(context_path.parent, HEADER.fingerprint)
    assert found is not None
    return found


def some_codes(header: Header, num_frames: int, seed: int = 0) -> Codes:
    rng = np.random.default_rng(seed)
    shape = (header.num_groups(header.channels), header.num_codes(), num_frames)
    codes = rng.integers(1 << np.array(header.bits)[:, None], size=shape)
    if header.variable:
        counts = rng.integers(1, header.num_codebooks + 1, (header.channels, 1, num_frames))
        if header.pauses:
            counts *= with_pauses(rng, header.channels, num_frames)[:, None]
        codes = np.where(np.arange(header.num_codebooks)[:, None] < counts, codes, NO_CODE)
    return codes


def with_pauses(rng: np.random.Generator, channels: int, num_frames: int) -> np.ndarray:
    """Which frames ``[C, T]`` have codes: runs of any length, with and without."""
    lengths = rng.integers(1, 25, (channels, num_frames + 1))
    runs = [np.repeat(np.arange(num_frames + 1), own)[:num_frames] for own in lengths]
    return (np.stack(runs) + rng.integers(2, size=(channels, 1))) % 2


def likely_codes(header: Header, model: ContextModel, num_packets: int) -> Codes:
    """Codes of packets that become shorter and of others that do not."""
    rng = np.random.default_rng(0)
    size, length = header.payload_size(header.frames_per_packet), header.frames_per_packet
    payloads = [rng.bytes(n % 3 * size // 2) for n in range(num_packets)]
    codes, _ = decode_packets(
        model,
        [(each, length) for each in payloads],
        header.channels,
        header.num_codebooks,
        segments=header.segments,
        variable=header.variable,
        pauses=header.pauses,
    )
    codes[2::3] = [some_codes(header, length, seed=n) for n in range(2, num_packets, 3)]
    return np.concatenate(codes, axis=2)


def packets_of(header: Header, codes: Codes, model: ContextModel | None) -> Iterator[Packet]:
    """Full packets and a last one that is shorter."""
    payloads = PayloadEncoder(header, model)
    full, num_frames = header.frames_per_packet, codes.shape[2]
    for number, (start, end) in enumerate(pairwise([*range(0, num_frames + 1, full), num_frames])):
        payload, coding = payloads.encode(codes[:, :, start:end])
        samples = num_frames * header.hop_length * header.original_sample_rate // header.sample_rate
        is_last = end - start < full
        yield Packet(number, end - start, payload, samples if is_last else None, coding)


def stream_of(header: Header, codes: Codes, model: ContextModel | None = None) -> bytes:
    packets = packets_of(header, codes, model)
    return header.to_bytes() + b"".join(packet.to_bytes() for packet in packets)


def test_golden_streams_have_their_codes(
    golden: dict[str, bytes], golden_model: ContextModel
) -> None:
    plain = json.loads((GOLDEN / "golden.json").read_text())
    coded = json.loads((GOLDEN / "coded.json").read_text())
    assert golden.keys() == plain.keys() | coded.keys()
    answers = assert_read_alike([*golden.values()], GOLDEN / CONTEXT_FILE, golden_model)
    for name, (stream,) in zip(golden, answers, strict=True):
        if name in coded:
            found = [item["codes"] for item in stream["items"]]
            assert found == [flat(np.array(codes)) for codes in coded[name]], name
            continue
        codes = [code for item in stream["items"] for code in item["codes"]]
        assert codes == np.array(plain[name]["codes"]).reshape(-1).tolist(), name
        assert stream["items"][-1]["numSamples"] == plain[name]["num_samples"]


def test_golden_streams_have_segments_and_pauses(golden: dict[str, bytes]) -> None:
    headers = [Header.from_bytes(data) for data in golden.values()]
    assert {header.segments for header in headers} >= {1, 2, 3}
    assert any(header.pauses and header.segments > 1 for header in headers)


def test_golden_streams_are_written_again_to_the_byte(golden: dict[str, bytes]) -> None:
    # The page does not write chained packets.
    expected = [data for name, data in golden.items() if name != "chained.codes"]
    context = str(GOLDEN / CONTEXT_FILE)
    streams = [stream for (stream,) in read_in_node(expected, GOLDEN / CONTEXT_FILE)]
    tasks = [
        {
            "kind": "write",
            "header": stream["header"],
            "codes": [code for item in stream["items"] for code in item["codes"]],
            "numSamples": stream["items"][-1]["numSamples"],
            "context": context,
        }
        for stream in streams
    ]
    assert in_node(tasks) == [data.hex() for data in expected]


TABLES: list[dict[str, Any]] = [
    {"codebooks": (Codebook(4096), Codebook(1024), Codebook(1024))},
    {"codebooks": (Codebook(8), Codebook(8, 2), Codebook(8, 4)), "skip": 17},
    {"codebooks": (Codebook(2, 3), Codebook(2**16)), "frames_per_packet": 1},
    {"codebooks": (Codebook(2, 255),)},
    {"channels_coded_together": 2},
    {"channels_coded_together": 2, "channels": 3, "codebooks": (Codebook(32), Codebook(4, 2))},
    {"channels_coded_together": 16, "channels": 255},
]
"""Attributes of headers of format 3."""


@pytest.mark.parametrize("changes", TABLES)
@pytest.mark.parametrize("frames", [0, 1, 11])
def test_streams_with_a_table_of_codebooks_are_read_and_written_alike(
    changes: dict[str, Any], frames: int
) -> None:
    header = dataclasses.replace(HEADER, **changes)
    codes = some_codes(header, frames)
    data = stream_of(header, codes)
    (answer,) = assert_read_alike([data])
    assert answer[0]["header"]["format"] == 3
    assert [code for item in answer[0]["items"] for code in item["codes"]] == flat(codes)
    task = {"kind": "write", "header": fields(header), "codes": flat(codes)}
    task["numSamples"] = answer[0]["items"][-1]["numSamples"]
    assert in_node([task]) == [data.hex()]


def test_damaged_streams_with_a_table_of_codebooks_are_read_alike() -> None:
    header = dataclasses.replace(HEADER, **TABLES[5])
    data = stream_of(header, some_codes(header, 6)) + stream_of(HEADER, some_codes(HEADER, 2))
    answers = assert_read_alike([*flips_and_cuts(data), data[:80] + data[84:]])
    assert sum(isinstance(answer, list) and len(answer) == 2 for answer in answers) > 60


def test_damaged_streams_are_read_alike(golden: dict[str, bytes]) -> None:
    data = golden["mono.codes"]
    flipped = [data[:n] + bytes([data[n] ^ 1 << n % 8]) + data[n + 1 :] for n in range(len(data))]
    cut = [data[:n] for n in range(len(data))]
    without = [data[:n] + data[n + 7 :] for n in range(0, len(data) - 7, 3)]
    answers = assert_read_alike([*flipped, *cut, *without])
    # Something is left of a stream whose header is whole.
    assert sum(isinstance(answer, list) for answer in answers) > len(data)
    assert all("error" in answer or answer[0]["damage"] for answer in answers if answer)


def flips_and_cuts(data: bytes) -> list[bytes]:
    """A file with each of its bytes changed, and cut off before each of them."""
    flipped = [data[:n] + bytes([data[n] ^ 1 << n % 8]) + data[n + 1 :] for n in range(len(data))]
    return [*flipped, *(data[:n] for n in range(len(data)))]


def test_damaged_files_of_joined_streams_are_read_alike(model: ContextModel) -> None:
    """In the headers, between streams, and in the packets before and after them."""
    headers = (
        HEADER,
        dataclasses.replace(HEADER, skip=5),
        dataclasses.replace(HEADER, channels=1, codebooks=HEADER.codebooks[:1]),
    )
    streams = [stream_of(header, some_codes(header, 5)) for header in headers]
    data = [*flips_and_cuts(b"".join(streams)), b"ECDjunkAE".join(streams) + b"AECD\x20AEC"]
    answers = assert_read_alike(data)
    assert sum(isinstance(answer, list) and len(answer) == 2 for answer in answers) > 140
    assert "belong to no stream" in answers[-1][0]["damage"]


def test_what_files_claim_without_bytes_is_refused_alike(model: ContextModel) -> None:
    """Too many frames in a byte, and packets that are missing without a trace."""
    header = dataclasses.replace(
        HEADER, channels=100, codebooks=(Codebook(2),) * 1, context=model.identity
    )
    long = dataclasses.replace(header, frames_per_packet=2000)
    packet = Packet(0, 2000, b"", coding=Coding.CODED)
    plain = dataclasses.replace(packet, payload=bytes(25_000), coding=Coding.PLAIN)
    last = Packet(80, 0, b"", 0, Coding.CODED)
    data = [long.to_bytes() + packet.to_bytes(), header.to_bytes() + last.to_bytes()]
    for each, answer in zip(data, read_in_node(data), strict=True):
        assert "get it again" in answer["error"]
        with pytest.raises(FormatError, match="get it again"):
            list(read_streams(io.BytesIO(each)))
    (answer,) = read_in_node([long.to_bytes() + plain.to_bytes()])
    assert isinstance(answer, list)


def test_every_width_of_codes_comes_back() -> None:
    tasks: list[dict[str, Any]] = []
    streams = []
    for bits in range(1, 17):
        header = dataclasses.replace(HEADER, codebooks=(Codebook(2**bits),) * 3)
        codes = some_codes(header, 11)
        streams.append(stream_of(header, codes))
        tasks.append({"kind": "write", "header": fields(header), "codes": flat(codes)})
    for task, (answer,) in zip(tasks, assert_read_alike(streams), strict=True):
        task["numSamples"] = answer["items"][-1]["numSamples"]
    assert in_node(tasks) == [data.hex() for data in streams]


@pytest.mark.parametrize("frames", [0, 1, 4, 9])
def test_plain_packets_of_format_2_are_read_alike(frames: int) -> None:
    header = dataclasses.replace(HEADER, skip=17)
    data = stream_of(header, some_codes(header, frames))
    (answer,) = assert_read_alike([data])
    assert answer[0]["header"]["format"] == 2


OPTIONS: list[dict[str, Any]] = [
    {},
    {"chained": True},
    {"variable": True},
    {"variable": True, "chained": True},
    {"segments": 3},
    {"segments": 8},  # more than a packet has frames
    {"segments": 2, "variable": True},
    {"variable": True, "pauses": True},
    {"variable": True, "pauses": True, "segments": 3},
]
"""Attributes of headers of coded streams."""


def named(options: dict[str, Any]) -> str:
    return "-".join(f"{name}{value:d}" for name, value in options.items()) or "plain"


@pytest.mark.parametrize("options", OPTIONS, ids=named)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("num_codebooks", [1, 4])
def test_coded_packets_are_read_alike(
    context_path: Path,
    model: ContextModel,
    options: dict[str, Any],
    channels: int,
    num_codebooks: int,
) -> None:
    codebooks = HEADER.codebooks[:1] * num_codebooks
    header = dataclasses.replace(
        HEADER, channels=channels, codebooks=codebooks, context=model.identity, **options
    )
    codes = likely_codes(header, model, 20)[:, :, :-1]
    data = stream_of(header, codes, model)
    damaged = [data[:-30] + data[-29:], data[:90] + data[120:], data[:300] + data[310:]]
    answers = assert_read_alike([data, *damaged], context_path, model)
    items = answers[0][0]["items"]
    assert [code for item in items for code in item["codes"]] == flat(codes)
    codings = {item["coding"] for item in items}
    assert Coding.CODED in codings
    assert (Coding.PLAIN in codings) == (not header.variable)
    assert (Coding.CHAINED in codings) == header.chained


LAST_FRAMES = range(25)
"""Lengths of last packets, which divide into segments in all ways."""


@pytest.mark.parametrize("segments", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("pauses", [False, True])
def test_segments_and_pauses_of_packets_of_any_length_are_read_and_written_alike(
    context_path: Path, model: ContextModel, segments: int, pauses: bool
) -> None:
    header = dataclasses.replace(
        HEADER,
        frames_per_packet=len(LAST_FRAMES),
        context=model.identity,
        segments=segments,
        variable=pauses,
        pauses=pauses,
    )
    all_codes = [some_codes(header, len(LAST_FRAMES) + n, seed=n) for n in LAST_FRAMES]
    if not pauses:  # random codes would be written plain
        likely = likely_codes(header, model, 2)
        all_codes = [likely[:, :, : each.shape[2]] for each in all_codes]
    streams = [stream_of(header, codes, model) for codes in all_codes]
    answers = assert_read_alike(streams, context_path, model)
    items = [item for (stream,) in answers for item in stream["items"]]
    assert Coding.CODED in {item["coding"] for item in items}
    assert any(NO_CODE in item["codes"][:: header.num_codebooks] for item in items) == pauses
    # Frames of a pause are filled wherever something came before it in its packet.
    assert any(item["filled"] != item["codes"] for item in items) == pauses
    tasks = [
        {
            "kind": "write",
            "header": fields(header),
            "codes": flat(codes),
            "numSamples": stream["items"][-1]["numSamples"],
            "context": str(context_path),
        }
        for codes, (stream,) in zip(all_codes, answers, strict=True)
    ]
    assert in_node(tasks) == [data.hex() for data in streams]


def test_long_pauses_are_filled_alike(context_path: Path, model: ContextModel) -> None:
    """From more frames than stand for a pause, and for longer than the order of them repeats."""
    header = dataclasses.replace(
        HEADER, frames_per_packet=400, context=model.identity, variable=True, pauses=True
    )
    codes = some_codes(dataclasses.replace(header, pauses=False), 399)
    codes[0, :, 30:350] = codes[1, :, :10] = codes[1, :, 15:20] = codes[1, :, 24:399] = NO_CODE
    (answer,) = assert_read_alike([stream_of(header, codes, model)], context_path, model)
    (item,) = answer[0]["items"]
    assert item["codes"] == flat(codes)
    filled = np.array(item["filled"]).reshape(399, 2, header.num_codebooks)
    assert len(np.unique(filled[30:350, 0], axis=0)) > 10
    assert (filled[10:, :, 0] != NO_CODE).all() and (filled[:10, 1] == NO_CODE).all()


@pytest.mark.parametrize("options", OPTIONS, ids=named)
def test_headers_are_written_as_they_were(model: ContextModel, options: dict[str, Any]) -> None:
    header = dataclasses.replace(HEADER, context=model.identity, **options)
    (answer,) = read_in_node([header.to_bytes()])
    assert answer[0]["header"] == fields(header)


def test_headers_that_contradict_themselves_are_refused_alike(model: ContextModel) -> None:
    coded = dataclasses.replace(HEADER, context=model.identity, variable=True)
    joint = dataclasses.replace(HEADER, channels_coded_together=2)
    for header, changes in (
        (coded, {9: 9}),  # too many segments
        (coded, {9: 255}),
        (coded, {5: 3, 9: 2}),  # a chained stream with segments
        (coded, {5: 4}),  # pauses where the number of codes does not vary
        (coded, {5: 7}),  # a chained stream with pauses
        (coded, {5: 8}),
        (dataclasses.replace(HEADER, skip=1), {5: 4}),  # pauses without a context model
        (dataclasses.replace(HEADER, skip=1), {8: 0}),  # no bits
        (joint, {5: 8}),
        (joint, {5: 16}),
        (joint, {8: 0}),  # channels of a group
        (joint, {8: 1}),  # format 3 without need
        (joint, {8: 3}),
        (joint, {8: 17}),
        (joint, {9: 1}),
        (joint, {40: 1}),  # a context model
        (joint, {52: 0}),  # bits of a code
        (joint, {52: 17}),
        (joint, {53: 0}),  # codes per frame
        (joint, {53: 254}),
    ):
        data = bytearray(header.to_bytes())
        for position, value in changes.items():
            data[position] = value
        data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
        (answer,) = assert_read_alike([bytes(data)])
        assert "\n" not in answer["error"] and "damaged" not in answer["error"], changes


@pytest.mark.parametrize("coded", [False, True])
def test_recorded_calls_are_read_alike(
    context_path: Path, model: ContextModel, coded: bool
) -> None:
    """With frames of earlier packets, and silence that was not sent; whole and damaged."""
    header = dataclasses.replace(
        HEADER,
        frames_per_packet=1,
        format=2,
        dtx=True,
        context=model.identity if coded else b"",
    )
    data = recorded_call(header, model if coded else None)
    forged = [with_head(data, head) for head in (0x0F, 0x1F, 0xF1, 0x33)]
    answers = assert_read_alike([data, *flips_and_cuts(data), *forged], context_path, model)
    items = answers[0][0]["items"]
    assert [item["lost"] for item in items if item.get("silence")] == [3]
    codings = {item["coding"] for item in items if "coding" in item}
    earlier = Coding.CODED_WITH_EARLIER if coded else Coding.PLAIN_WITH_EARLIER
    assert {earlier, Coding.COMFORT_NOISE} <= codings


def recorded_call(header: Header, model: ContextModel | None) -> bytes:
    """Packets of one frame, some with earlier frames, and some that are silence and not sent."""
    payloads, codes = PayloadEncoder(header, model), some_codes(header, 12)
    if model is not None:  # so that they are shorter when they are coded
        codes = likely_codes(dataclasses.replace(header, dtx=False, frames_per_packet=12), model, 1)
    packets = []
    for n in range(12):
        own = codes[:, :, n : n + 1]
        if n in (7, 8, 9):
            continue
        if n == 6:
            coding = Coding.COMFORT_NOISE
            payload = payloads.encode_noise(codes[:, :2, n - 3 : n + 1])
        elif n >= 2:
            earlier = codes[:, :2, n - 2 : n].copy()
            earlier[:, 1, 0] = NO_CODE
            payload, coding, _ = payloads.encode_with_earlier(own, earlier)
        else:
            payload, found = payloads.encode(own)
            assert found is not None
            coding = found
        packets.append(Packet(n, 1, payload, 480 if n == 11 else None, coding))
    return header.to_bytes() + b"".join(packet.to_bytes() for packet in packets)


def with_head(data: bytes, head: int) -> bytes:
    """A stream whose first packet with earlier frames says something else of them."""
    header = Header.from_bytes(data)
    found = read_streams(io.BytesIO(data))
    packets = [item for batch in next(found).batches for item in batch if isinstance(item, Packet)]
    packets[2] = dataclasses.replace(packets[2], payload=bytes([head]) + packets[2].payload[1:])
    return header.to_bytes() + b"".join(packet.to_bytes() for packet in packets)


def test_no_segments_are_one(model: ContextModel) -> None:
    for header, segments in (
        (dataclasses.replace(HEADER, context=model.identity), 0),
        (dataclasses.replace(HEADER, skip=1), 7),  # of no meaning without a context model
    ):
        data = bytearray(header.to_bytes())
        data[9] = segments
        data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
        (answer,) = assert_read_alike([bytes(data)])
        assert answer[0]["header"]["segments"] == 1


def test_the_longest_packets_are_the_same(model: ContextModel) -> None:
    """At the limit of the size of a packet, which pauses lower."""
    for pauses in (False, True):
        most = MAX_PAYLOAD - 1
        size = 255 * max_variable_bits(2, pauses=pauses) // 8
        header = dataclasses.replace(
            HEADER,
            channels=255,
            codebooks=HEADER.codebooks[:2],
            frames_per_packet=most // size,
            context=model.identity,
            variable=True,
            pauses=pauses,
        )
        data = bytearray(header.to_bytes())
        (answer,) = assert_read_alike([bytes(data)])
        assert isinstance(answer, list)
        data[10] += 1
        data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
        (answer,) = assert_read_alike([bytes(data)])
        assert "the limit is 65536" in answer["error"]


def test_cuts_and_several_streams_in_a_file_are_read_alike(tmp_path: Path) -> None:
    folder = find_model(DEFAULT_MODEL)
    model = load_context(folder, bytes.fromhex(read_description(folder)["fingerprint"]))
    data = []
    for bitrate in (None, 2_000):
        whole, cut = tmp_path / f"whole-{bitrate}.codes", tmp_path / f"cut-{bitrate}.codes"
        encode_file(RECORDING, whole, rate=bitrate)
        cut_file(whole, cut, span=(1.0, 2.5))
        data.append(whole.read_bytes() + cut.read_bytes() + b"AECnothing")
    answers = assert_read_alike(data, folder / CONTEXT_FILE, model)
    for answer in answers:
        assert [each["header"]["skip"] > 0 for each in answer] == [False, True]
        assert [each["header"]["segments"] > 1 for each in answer] == [True, True]
    assert [answer[0]["header"]["pauses"] for answer in answers] == [False, True]


def test_what_is_no_stream_is_an_error() -> None:
    data = [b"", b"RIFF", b"AEC", b"AECD" + b"\x30" * 60, HEADER.to_bytes()[:-1]]
    for answer in assert_read_alike(data):
        assert "\n" not in answer["error"]


def test_rumble_is_filtered_alike() -> None:
    tasks, expected = [], []
    for rate, hop, constant in ((24_000, 480, 0.3), (8_000, 40, 0.004), (44_100, 512, 0.0)):
        audio = sound(8_999) + np.float32(constant)
        tasks.append(
            {"kind": "filter", "samples": audio[0].tolist(), "sampleRate": rate, "hopLength": hop}
        )
        expected.append(high_pass(audio, rate, hop)[0])
    for found, wanted in zip(in_node(tasks), expected, strict=True):
        np.testing.assert_array_equal(np.array(found, np.float32), wanted)


def assert_planned_alike(codec: Codec, channels: int) -> None:
    """Headers of files, and the numbers of frames of their packets."""
    engine = TorchEngine(codec)
    spec = engine.spec
    facts = {
        "sampleRate": spec.sample_rate,
        "hopLength": spec.hop_length,
        "codebooks": described_codebooks(spec),
        "channelsCodedTogether": spec.channels_coded_together,
        "fingerprint": spec.fingerprint.hex(),
        "delay": spec.delay,
    }
    header = StreamEncoder(engine, channels=channels, packing=Packing.file()).header
    full = header.frames_per_packet * spec.hop_length
    lengths = [0, 1, spec.hop_length, 997, full - spec.delay, full - 1, full, full + 1]
    tasks = [
        {"kind": "plan", "info": facts, "channels": channels, "numSamples": n} for n in lengths
    ]
    for num_samples, (header, frames) in zip(lengths, in_node(tasks), strict=True):
        encoder = StreamEncoder(engine, channels=channels, packing=Packing.file())
        packets = encoder.push(sound(num_samples, channels)) + encoder.finish()
        assert header == fields(encoder.header)
        assert frames == [packet.num_frames for packet in packets]


def test_streams_have_equal_headers_and_as_many_frames(codec: Codec) -> None:
    assert_planned_alike(codec, 1)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_joint_streams_have_equal_headers_and_as_many_frames(stereo: Codec, channels: int) -> None:
    assert_planned_alike(stereo, channels)
