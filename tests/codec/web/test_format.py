"""The page reads and writes streams as the Python package does."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.cli.web import PAGE
from codec.edit import cut_file
from codec.entropy.coding import decode_packets
from codec.entropy.context import NO_CODE, ContextModel, ContextShape
from codec.entropy.context_file import CONTEXT_FILE, load_context, save_context
from codec.entropy.payload import PayloadDecoder, PayloadEncoder
from codec.errors import FormatError
from codec.files import encode_file
from codec.format.container import Coding, Gap, Header, Packet
from codec.format.payload import Codes
from codec.format.reading import read_streams
from tests.codec.entropy.oracle import random_context
from tests.conftest import GOLDEN, RECORDING

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")

HEADER = Header(
    channels=2,
    num_codebooks=3,
    bits_per_code=6,
    frames_per_packet=4,
    sample_rate=8000,
    original_sample_rate=44_100,
    hop_length=40,
    fingerprint=bytes(range(16)),
)


def in_node(tasks: list[dict[str, Any]]) -> list[Any]:
    """What the page's modules answer to tasks, see ``format.mjs``."""
    script = Path(__file__).parent / "format.mjs"
    result = subprocess.run(
        ["node", script, f"{PAGE.as_uri()}/"],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answers: list[Any] = json.loads(result.stdout)
    return answers


def read_in_node(data: list[bytes], context: Path | None = None) -> list[Any]:
    path = str(context) if context else None
    return in_node([{"kind": "read", "data": each.hex(), "context": path} for each in data])


def camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def fields(header: Header) -> dict[str, Any]:
    """Attributes of a header as the page names them."""
    values = dataclasses.asdict(header)
    return {
        camel(name): value.hex() if isinstance(value, bytes) else value
        for name, value in values.items()
    }


def flat(codes: Codes) -> list[int]:
    """Codes in the order of the stream."""
    order: list[int] = codes.transpose(2, 0, 1).reshape(-1).tolist()
    return order


def described(item: Packet | Gap, payloads: PayloadDecoder) -> dict[str, Any]:
    if isinstance(item, Gap):
        payloads.lost()
        return {"lost": item.num_packets, "bytes": item.num_bytes}
    (codes,) = payloads.decode([item])
    names = ("sequence", "num_frames", "num_samples", "coding")
    return {camel(name): getattr(item, name) for name in names} | {
        "codes": None if codes is None else flat(codes)
    }


def read_in_python(data: bytes, context: ContextModel | None = None) -> Any:
    """What the package finds in a stream, in the form in which ``format.mjs`` answers."""
    try:
        found = []
        for stream in read_streams(io.BytesIO(data)):
            payloads = PayloadDecoder(stream.header, context)
            items = [described(item, payloads) for batch in stream.batches for item in batch]
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
    shape = (header.channels, header.num_codebooks, num_frames)
    codes = rng.integers(1 << header.bits_per_code, size=shape)
    if header.variable:
        counts = rng.integers(1, header.num_codebooks + 1, (header.channels, 1, num_frames))
        codes = np.where(np.arange(header.num_codebooks)[:, None] < counts, codes, NO_CODE)
    return codes


def likely_codes(header: Header, model: ContextModel, num_packets: int) -> Codes:
    """Codes of packets that become shorter and of others that do not."""
    rng = np.random.default_rng(0)
    size, length = header.payload_size(header.frames_per_packet), header.frames_per_packet
    payloads = [rng.bytes(n % 3 * size // 2) for n in range(num_packets)]
    lengths, most = [length] * num_packets, header.num_codebooks
    codes, _ = decode_packets(
        model, payloads, lengths, header.channels, most, variable=header.variable
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


def test_golden_streams_have_their_codes(golden: dict[str, bytes]) -> None:
    expected = json.loads((GOLDEN / "golden.json").read_text())
    for name, (stream,) in zip(golden, assert_read_alike([*golden.values()]), strict=True):
        codes = [code for item in stream["items"] for code in item["codes"]]
        assert codes == np.array(expected[name]["codes"]).reshape(-1).tolist(), name
        assert stream["items"][-1]["numSamples"] == expected[name]["num_samples"]


def test_golden_streams_are_written_again_to_the_byte(golden: dict[str, bytes]) -> None:
    streams = [stream for (stream,) in read_in_node([*golden.values()])]
    tasks = [
        {
            "kind": "write",
            "header": stream["header"],
            "codes": [code for item in stream["items"] for code in item["codes"]],
            "numSamples": stream["items"][-1]["numSamples"],
        }
        for stream in streams
    ]
    assert in_node(tasks) == [data.hex() for data in golden.values()]


def test_damaged_streams_are_read_alike(golden: dict[str, bytes]) -> None:
    data = golden["mono.codes"]
    flipped = [data[:n] + bytes([data[n] ^ 1 << n % 8]) + data[n + 1 :] for n in range(len(data))]
    cut = [data[:n] for n in range(len(data))]
    without = [data[:n] + data[n + 7 :] for n in range(0, len(data) - 7, 3)]
    answers = assert_read_alike([*flipped, *cut, *without])
    # Something is left of a stream whose header is whole.
    assert sum(isinstance(answer, list) for answer in answers) > len(data)
    assert all("error" in answer or answer[0]["damage"] for answer in answers if answer)


def test_every_width_of_codes_comes_back() -> None:
    tasks = []
    for bits in range(1, 17):
        header = dataclasses.replace(HEADER, bits_per_code=bits)
        codes = some_codes(header, 11)
        data = stream_of(header, codes)
        assert_read_alike([data])
        tasks.append({"kind": "write", "header": fields(header), "codes": flat(codes)})
        tasks[-1]["numSamples"] = read_in_python(data)[0]["items"][-1]["numSamples"]
        tasks[-1]["expected"] = data.hex()
    assert in_node(tasks) == [task["expected"] for task in tasks]


@pytest.mark.parametrize("frames", [0, 1, 4, 9])
def test_plain_packets_of_format_2_are_read_alike(frames: int) -> None:
    header = dataclasses.replace(HEADER, skip=17)
    data = stream_of(header, some_codes(header, frames))
    (answer,) = assert_read_alike([data])
    assert answer[0]["header"]["format"] == 2


@pytest.mark.parametrize("options", [{}, {"chained": True}, {"variable": True}])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("num_codebooks", [1, 4])
def test_coded_packets_are_read_alike(
    context_path: Path,
    model: ContextModel,
    options: dict[str, bool],
    channels: int,
    num_codebooks: int,
) -> None:
    header = dataclasses.replace(
        HEADER,
        channels=channels,
        num_codebooks=num_codebooks,
        context=model.identity,
        **options,  # type: ignore[arg-type]
    )
    data = stream_of(header, likely_codes(header, model, 20)[:, :, :-1], model)
    damaged = [data[:-30] + data[-29:], data[:90] + data[120:], data[:300] + data[310:]]
    answers = assert_read_alike([data, *damaged], context_path, model)
    codings = {item["coding"] for item in answers[0][0]["items"]}
    assert Coding.CODED in codings
    assert (Coding.PLAIN in codings) == (not header.variable)
    assert (Coding.CHAINED in codings) == header.chained


def test_coded_packets_are_written_to_the_byte(context_path: Path, model: ContextModel) -> None:
    header = dataclasses.replace(HEADER, context=model.identity, frames_per_packet=25)
    codes = likely_codes(header, model, 5)[:, :, :-3]
    data = stream_of(header, codes, model)
    items = read_in_python(data, model)[0]["items"]
    assert {item["coding"] for item in items} == {0, 1}
    task = {"kind": "write", "header": fields(header), "codes": flat(codes)}
    task |= {"numSamples": items[-1]["numSamples"], "context": str(context_path)}
    assert in_node([task]) == [data.hex()]


def test_cuts_and_several_streams_in_a_file_are_read_alike(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.codes", tmp_path / "cut.codes"
    encode_file(RECORDING, whole)
    cut_file(whole, cut, start=1.0, end=2.5)
    (answer,) = assert_read_alike([whole.read_bytes() + cut.read_bytes() + b"AECnothing"])
    assert [each["header"]["skip"] > 0 for each in answer] == [False, True]


def test_what_is_no_stream_is_an_error() -> None:
    data = [b"", b"RIFF", b"AEC", b"AECD" + b"\x30" * 60, HEADER.to_bytes()[:-1]]
    for answer in assert_read_alike(data):
        assert "\n" not in answer["error"]
