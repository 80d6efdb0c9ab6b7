"""Public functions say in one line what is wrong with an argument, and take NumPy's numbers."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from codec import (
    AudioError,
    CodecError,
    Constant,
    Header,
    JitterBuffer,
    Packet,
    PacketReader,
    PacketWriter,
    Packing,
    Quality,
    Redundancy,
    StreamDecoder,
    StreamEncoder,
    concat_files,
    cut_file,
    decode,
    decode_file,
    encode,
    encode_file,
    load_model,
    model_for,
    peel_file,
)
from codec.calls.rtp import RtpDepacketizer, RtpPacketizer
from codec.codes import Codebook
from codec.corpus import read_tokens
from codec.corpus.detokenize import detokenize
from codec.corpus.tokenize import Shards, Tokenizer, tokenize
from codec.files.listing import list_packets
from codec.format.container import Coding
from codec.format.reading import summarize_file

NO_NUMBERS: tuple[Any, ...] = ("6k", "", b"1", [1], {}, object(), float("nan"), 1j)
NOT_WHOLE = (*NO_NUMBERS, 0.5, 2.0, True, -1, 2**70, -(10**5000), float("inf"))
NOT_POSITIVE = (*NO_NUMBERS, 0, -1, float("inf"), -float("inf"), 10**5000)
NO_TIMES = (*NO_NUMBERS, -1, float("inf"), 1e305, 10**5000, True)
NO_PATHS: tuple[Any, ...] = (None, 5, 0.5, b"a", [], object(), "a\0b", "q" * 300 + ".wav", "\ud800")
NO_MODELS: tuple[Any, ...] = (
    None,
    5,
    b"a",
    [],
    object(),
    StreamEncoder,
    "a\0b",
    "q" * 300,
    "",
    "\ud800",
)
NO_FLAGS: tuple[Any, ...] = ("no", "", 0, 1, 1.0, [], np.array([True, False]))
NO_BYTES: tuple[Any, ...] = (None, 5, "a", [], 0.5)
NO_PACKETS: tuple[Any, ...] = (None, 5, "a", b"", [], {}, float("nan"))
NO_ENGINES: tuple[Any, ...] = ("tflite", 5, [], object(), np.array(["core", "torch"]))

HEADER = Header(
    channels=1,
    codebooks=(Codebook(1024),) * 20,
    frames_per_packet=1,
    sample_rate=24_000,
    original_sample_rate=24_000,
    hop_length=480,
    fingerprint=bytes(16),
)

NO_SPANS = (5, "1", (1,), (1, 2, 3), (3, 2), *((each, None) for each in NO_TIMES[:-1]))
"""No beginning and end of a part; None stands for all."""
NO_AUDIO = (
    *(None, 5.0, "a", b"a", [1, 2], [[0.1], [0.1, 0.2]], [True], np.zeros((1, 1, 1))),
    *(np.zeros((256, 9)), np.array([0.1, np.nan]), np.array([1e300]), np.array([1e20])),
)

Use = tuple[str, tuple[Any, ...], Callable[[Any], object]]
"""What is used, arguments that are wrong, and the use of one of them."""


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording and its stream."""
    folder = tmp_path_factory.mktemp("coded")
    soundfile.write(folder / "a.wav", np.sin(np.arange(2_400) / 9) / 9, 24_000)
    encode_file(folder / "a.wav", folder / "a.codes")
    return folder


def options(
    function: Callable[..., object], *given: Any, **wrong: tuple[Any, ...]
) -> Iterator[Use]:
    """The use of a function with one wrong option at a time."""

    def use(name: str, value: Any) -> object:
        return function(*given, **{name: value})

    for name, values in wrong.items():
        yield f"{function} {name}", values, partial(use, name)


def file_uses(folder: Path) -> Iterator[Use]:
    wav, codes, out, audio = (folder / each for each in ("a.wav", "a.codes", "out.codes", "b.wav"))
    yield from options(
        lambda *paths, **each: encode_file(*paths, force=True, **each),
        *(wav, out),
        rate=(*NOT_POSITIVE, 10, True, [3_000], "constant"),
        mono=(None, *NO_FLAGS),
        effort=NOT_WHOLE,
        model=NO_MODELS[1:],
    )
    yield from options(
        lambda *paths, **each: decode_file(*paths, force=True, **each),
        *(codes, audio),
        codebooks=(*NOT_WHOLE, 0, 256),
        sample_rate=(*NOT_WHOLE, 0, "original"),
        span=NO_SPANS,
        model=NO_MODELS[1:],
    )
    yield from options(
        lambda *paths, **each: cut_file(*paths, force=True, **each),
        *(codes, out),
        span=NO_SPANS,
    )
    yield from options(
        lambda **each: peel_file(codes, out, force=True, **each), codebooks=(None, *NOT_WHOLE, 0)
    )
    yield "encode audio", NO_AUDIO, lambda value: encode(value, 24_000)
    yield "encode rate", (None, 7_999, 192_001, *NOT_WHOLE), lambda value: encode([0.1], value)
    yield "decode", (None, "a", 5, b"", b"RIFF"), decode
    yield "encode_file force", NO_FLAGS, lambda value: encode_file(wav, out, force=value)
    yield "decode_file force", NO_FLAGS, lambda value: decode_file(codes, audio, force=value)
    yield "cut_file force", NO_FLAGS, lambda value: cut_file(codes, out, span=None, force=value)
    yield "concat_files", (None, 5, "a"), lambda value: concat_files(value, out, force=True)
    yield "encode_file source", NO_PATHS, lambda value: encode_file(value, out, force=True)
    yield "encode_file target", NO_PATHS, lambda value: encode_file(wav, value, force=True)
    yield "decode_file source", NO_PATHS, lambda value: decode_file(value, audio, force=True)
    yield "cut_file source", NO_PATHS, lambda value: cut_file(value, out, span=None, force=True)
    yield "concat_files source", NO_PATHS, lambda value: concat_files([value], out, force=True)


def session_uses() -> Iterator[Use]:
    yield from options(
        StreamEncoder,
        rate=(*NOT_POSITIVE, True, Constant, Packing.live()),
        channels=(None, 0, *NOT_WHOLE),
        packing=(*NOT_WHOLE, "live", Constant()),
        original_sample_rate=(0, *NOT_WHOLE),
        effort=(None, *NOT_WHOLE),
        model=NO_MODELS[1:],
    )
    encoder = StreamEncoder()
    decoder = StreamDecoder(encoder.header)
    yield "StreamDecoder.push", NO_PACKETS, decoder.push
    yield "StreamDecoder.push_all", (*NO_PACKETS[:4], [5]), decoder.push_all
    yield "StreamDecoder.lost", NO_PACKETS[1:], lambda value: decoder.lost(1, later=value)
    arrays = (None, 5, "a", [[1, 2]], [[0.5], [0.5, 1.0]], [0.5], np.zeros((2, 5), np.float32))
    yield "StreamEncoder.push", arrays, encoder.push
    yield "StreamEncoder.finish", NOT_WHOLE, encoder.finish
    yield "StreamDecoder header", (None, 5, b""), lambda value: StreamDecoder(value)
    yield from options(
        lambda **each: StreamDecoder(encoder.header, **each), codebooks=(0, *NOT_WHOLE)
    )
    yield (
        "StreamDecoder.lost",
        (None, *NOT_WHOLE),
        StreamDecoder(encoder.header).lost,
    )
    yield from options(load_model, model=NO_MODELS, backend=NO_ENGINES)
    yield from transport_uses(encoder.header)
    yield "model_for", NO_PACKETS, model_for
    numbers = {field.name: (None, 0, *NOT_WHOLE) for field in dataclasses.fields(Header)[:7]}
    yield from options(
        lambda **each: dataclasses.replace(HEADER, **each), skip=(None, *NOT_WHOLE), **numbers
    )
    flags = {name: (None, *NO_FLAGS) for name in ("chained", "variable", "pauses", "dtx")}
    yield from options(
        lambda **each: dataclasses.replace(HEADER, **each),
        format=(None, 0, 4, *NOT_WHOLE),
        fingerprint=NO_BYTES,
        context=NO_BYTES,
        **flags,
    )
    yield "Redundancy frames", (None, *NOT_WHOLE), lambda value: Redundancy(value, 1000)
    yield "Redundancy bitrate", (None, *NO_TIMES), lambda value: Redundancy(1, value)


def transport_uses(header: Header) -> Iterator[Use]:
    """What carries packets: their bytes, RTP and the jitter buffer."""
    packet = Packet(0, 1, b"a", coding=Coding.PLAIN)
    yield from options(
        lambda **each: dataclasses.replace(packet, **each),
        sequence=(None, 2**16, *NOT_WHOLE),
        num_frames=(None, 2**16, *NOT_WHOLE),
        num_samples=NOT_WHOLE,
        payload=(*NO_BYTES, bytes(2**16)),
        coding=(0, "coded", 2.0),
    )
    yield "Packet of format 1", (256,), lambda value: Packet(value, 1, b"")
    for read in (Header.from_bytes, Packet.from_bytes, PacketReader(header).push):
        yield f"{read}", NO_BYTES, read
    yield "PacketReader", NO_PACKETS, PacketReader
    yield "PacketWriter", NO_PACKETS, lambda value: PacketWriter(io.BytesIO(), value)
    writer = PacketWriter(io.BytesIO(), header)
    yield "PacketWriter.write", NO_PACKETS, writer.write
    yield "JitterBuffer header", NO_PACKETS, lambda value: JitterBuffer(value)
    shares = (None, *NO_TIMES)
    yield from options(
        lambda **each: JitterBuffer(header, **each),
        late=(0, 1, *shares),
        first_depth=shares,
        max_depth=shares,
    )
    buffer = JitterBuffer(header)
    times = (None, *NO_NUMBERS, float("inf"), 10**5000)
    yield "JitterBuffer.push", NO_PACKETS, lambda value: buffer.push(value, 0.0)
    yield "JitterBuffer.push now", times, lambda value: buffer.push(packet, value)
    yield "JitterBuffer.pull", times, buffer.pull
    yield "RtpPacketizer header", NO_PACKETS, RtpPacketizer
    numbers = {"payload_type": (None, 128), "ssrc": (2**32,), "sequence": (2**16,)}
    yield from options(
        lambda **each: RtpPacketizer(header, **each),
        **{name: (*NOT_WHOLE, *more) for name, more in numbers.items()},
        timestamp=(*NOT_WHOLE, 2**32),
    )
    packetize = RtpPacketizer(header).packetize
    yield "RtpPacketizer.packetize", (*NO_PACKETS, [5]), packetize
    yield "RtpDepacketizer header", NO_PACKETS, RtpDepacketizer
    yield "RtpDepacketizer.depacketize", NO_BYTES, RtpDepacketizer(header).depacketize


def assert_refused(uses: Iterator[Use]) -> None:
    for what, wrong, use in uses:
        for value in wrong:
            try:
                use(value)
            except CodecError as error:
                assert len(str(error).splitlines()) == 1 and len(str(error)) < 1_000, what
            except Exception as error:
                raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
            else:
                raise AssertionError(f"{what} takes {value!r}"[:200])


def test_wrong_arguments_of_files_give_one_line(coded: Path) -> None:
    assert_refused(file_uses(coded))


def corpus_uses(folder: Path) -> Iterator[Use]:
    corpus: dict[str, Any] = {"sources": [folder], "out": folder / "tokens"}
    tokens: dict[str, Any] = {"source": folder / "a.codes", "out": folder / "out"}
    yield from options(
        lambda **each: tokenize(**corpus | each),
        sources=("a", 5, [5], [None], np.array([1, 2])),
        out=NO_PATHS,
        max_errors=NOT_WHOLE,
        workers=(None, 0, "auto", True),
        force=NO_FLAGS,
    )
    layouts: tuple[Any, ...] = (None, 5, "x", [], np.array(["codes", "parquet"]))
    yield from options(Shards, layout=layouts, hours=(None, *NO_TIMES[:-1]))
    yield from options(Tokenizer, model=NO_MODELS[1:], path_column=(5, []))
    yield from options(
        lambda **each: detokenize(**tokens | each),
        source=NO_PATHS,
        out=NO_PATHS,
        suffix=(None, 5, []),
    )
    yield "read_tokens", NO_PATHS, lambda value: list(read_tokens(value))
    yield "list_packets", NO_PATHS, lambda value: list(list_packets(value))
    yield "summarize_file", NO_PATHS, summarize_file


def test_wrong_arguments_for_a_corpus_give_one_line(coded: Path) -> None:
    assert_refused(corpus_uses(coded))
    assert not (coded / "tokens").exists() and not (coded / "out").exists()


def test_wrong_arguments_of_sessions_give_one_line() -> None:
    assert_refused(session_uses())


def test_samples_that_float32_cannot_hold_are_refused_without_a_warning() -> None:
    for value in (1e305, -1e39, np.inf, np.nan):
        with pytest.raises(AudioError, match="infinite"):
            StreamEncoder().push(np.full((1, 5), value))


@pytest.mark.parametrize("options", [{}, {"rate": 3_000}, {"packing": Packing.live(dtx=True)}])
def test_samples_of_any_size_are_coded_or_refused_without_a_warning(
    options: dict[str, Any],
) -> None:
    loud = np.where(np.arange(1_440) % 2, 1, -1).astype(np.float32)[None]
    with pytest.raises(AudioError, match="samples of 1e\\+20: scale it"):
        StreamEncoder(**options).push(loud * 1e20)
    for size in (1e15, 1e-45):
        encoder = StreamEncoder(**options)
        decoder = StreamDecoder(encoder.header)
        for packet in encoder.push(loud * np.float32(size)):
            assert np.isfinite(decoder.push(packet)).all()


def test_a_text_in_place_of_a_flag_replaces_no_file(coded: Path) -> None:
    before = (coded / "a.codes").read_bytes()
    force: Any = "no"
    with pytest.raises(CodecError, match="force is 'no': give True or False"):
        encode_file(coded / "a.wav", coded / "a.codes", rate=500, force=force)
    assert (coded / "a.codes").read_bytes() == before


def test_anything_that_holds_bytes_can_be_read() -> None:
    encoder = StreamEncoder()
    packet = encoder.push(np.zeros((1, 480), np.float32))[0]
    kinds: tuple[Any, ...] = (bytes, bytearray, memoryview)
    for kind in kinds:
        assert Header.from_bytes(kind(encoder.header.to_bytes())) == encoder.header
        assert Packet.from_bytes(kind(packet.to_bytes())) == packet
        data = RtpPacketizer(encoder.header).packetize([packet])
        (found,) = RtpDepacketizer(encoder.header).depacketize(kind(data))
        assert found == packet


def test_numbers_of_numpy_count(coded: Path) -> None:
    wav, codes, out = coded / "a.wav", coded / "n.codes", coded / "n.wav"
    wholes: tuple[Any, ...] = (np.int64, np.uint16, np.int32)
    for whole in wholes:
        encode_file(wav, codes, rate=whole(3000), force=True)
        encode_file(wav, codes, rate=Constant(whole(5)), force=True)
        decode_file(codes, out, codebooks=whole(3), sample_rate=whole(8000), force=True)
        assert soundfile.info(out).frames == 800
    numbers: tuple[Any, ...] = (np.float32, np.float64, Fraction)
    for number in numbers:
        encode_file(wav, codes, rate=Quality(number(5)), force=True)
        decode_file(codes, out, span=(number(0.0625), number(0.09375)), force=True)
        assert soundfile.info(out).frames == 750
        StreamEncoder(rate=number(3000))
    header = StreamEncoder(channels=wholes[2](2), original_sample_rate=wholes[0](16_000)).header
    assert Header.from_bytes(header.to_bytes()) == header


def test_sessions_of_a_packaged_model_share_its_engine() -> None:
    first, second = StreamEncoder(), StreamEncoder("speech24k")
    decoder = StreamDecoder(first.header)
    assert first._analyzer._engine is second._analyzer._engine is decoder._engine
    assert load_model().engine is not decoder._engine
