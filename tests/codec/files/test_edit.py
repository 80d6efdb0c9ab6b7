"""Streams that are changed without decoding: the same samples as before, to the last one."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from codec import concat_files, cut_file, decode_file, encode_file, peel_file
from codec.cli.app import main
from codec.codes import Codebook
from codec.engines.torch import DecoderState, TorchEngine
from codec.errors import CodecError, FormatError
from codec.files.listing import list_packets
from codec.format.container import Packet, PacketWriter
from codec.format.reading import read_streams, summarize_file
from codec.network.model import Codec
from codec.rate.modes import Constant, RateLike
from codec.registry import Model
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.codec.entropy.oracle import matching_context
from tests.codec.session.streams import chained
from tests.codec.session.test_coded_streams import tone
from tests.conftest import encode_in_packets, sound


@pytest.fixture(scope="module")
def with_context(lapped: Codec) -> Model:
    codes = lapped.encode(torch.from_numpy(tone(20_000)[None]))[0].numpy()
    context = matching_context(np.random.default_rng(0), codes, lapped.config.codebook_size)
    return Model(TorchEngine(lapped), context)


@pytest.fixture(scope="module", params=["plain", "coded"])
def engine(request: pytest.FixtureRequest, lapped: Codec, with_context: Model) -> Model:
    return with_context if request.param == "coded" else Model(TorchEngine(lapped))


def encoded(folder: Path, engine: Model, sample_rate: int, rate: RateLike = None) -> Path:
    """Ten seconds of two channels."""
    audio = tone(10 * sample_rate, 2)
    audio *= np.linspace(0.2, 1, 10 * sample_rate, dtype=np.float32)
    soundfile.write(folder / "in.wav", audio.T, sample_rate)
    encode_in_packets(folder / "in.wav", folder / "a.codes", 37, model=engine, rate=rate)
    return folder / "a.codes"


def write_chained(path: Path, model: Model, audio: np.ndarray, rate: RateLike) -> None:
    """A stream with inter-packet prediction, in packets of three frames."""
    encoder = StreamEncoder(model, rate=rate, packing=Packing.live(3))
    packets = encoder.push(audio) + encoder.finish()
    header, packets = chained(model, encoder.header, packets)
    with path.open("wb") as file:
        writer = PacketWriter(file, header)
        for packet in packets:
            writer.write(packet)


def decoded(path: Path, engine: Model) -> np.ndarray:
    summary = decode_file(path, path.with_suffix(".wav"), model=engine, force=True)
    assert summary.damage() is None and summarize_file(path).damage() is None
    audio, _ = soundfile.read(path.with_suffix(".wav"))
    assert summary.num_samples == len(audio)
    return np.asarray(audio)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100])
@pytest.mark.parametrize(
    ("start", "end"), [(0, 0.0007), (0, 4), (3.21, 3.22), (2.5, None), (7.123, 9.987), (0, None)]
)
def test_a_cut_decodes_to_the_samples_of_the_whole(
    engine: Model, tmp_path: Path, rate: int, start: float, end: float | None
) -> None:
    source = encoded(tmp_path, engine, rate)
    whole = decoded(source, engine)
    cut_file(source, tmp_path / "b.codes", span=(start, end), model=engine)
    part = decoded(tmp_path / "b.codes", engine)
    first, last = round(start * rate), len(whole) if end is None else round(end * rate)
    np.testing.assert_allclose(part, whole[first:last], atol=1.1 / 32768)
    # At 11,025 Hz only every eighth packet begins at a whole sample.
    longest = (last - first) / rate + 2.0 + 0.1 + 9 * 37 / 200
    assert summarize_file(tmp_path / "b.codes").num_frames <= 200 * longest


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100])
@pytest.mark.parametrize("out_rate", [None, 16_000])
@pytest.mark.parametrize(
    ("start", "end"), [(0, 0.0007), (0, 4), (3.21, 3.22), (2.5, None), (7.123, 9.987), (9.99, 20)]
)
def test_a_part_decodes_to_the_samples_of_the_whole(
    engine: Model,
    tmp_path: Path,
    rate: int,
    out_rate: int | None,
    start: float,
    end: float | None,
) -> None:
    source = encoded(tmp_path, engine, rate)
    whole, part = tmp_path / "whole.wav", tmp_path / "part.wav"
    decode_file(source, whole, model=engine, sample_rate=out_rate)
    found = decode_file(source, part, model=engine, sample_rate=out_rate, span=(start, end))
    assert found.damage() is None and found.num_bytes == source.stat().st_size
    expected, rate = soundfile.read(whole)
    expected = expected[round(start * rate) : None if end is None else round(end * rate)]
    np.testing.assert_allclose(soundfile.read(part)[0], expected, atol=1.1 / 32768)


def test_only_the_part_and_its_preroll_are_decoded(
    engine: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute, of which two packets before the part are lost: what follows stays in its place."""
    audio = tone(60 * 8_000) * np.linspace(0.2, 1, 60 * 8_000, dtype=np.float32)
    soundfile.write(tmp_path / "in.wav", audio.T, 8_000)
    source = tmp_path / "a.codes"
    encode_in_packets(tmp_path / "in.wav", source, 100, model=engine)
    whole = decoded(source, engine)
    with source.open("rb") as file:
        stream = next(read_streams(file))
        packets = [item for batch in stream.batches for item in batch]
    with source.open("wb") as damaged:
        writer = PacketWriter(damaged, stream.header)
        for number, packet in enumerate(packets):
            if number not in (17, 40) and isinstance(packet, Packet):
                writer.write(packet)
    frames = 0
    step = engine.engine.decode_step

    def counted(codes: np.ndarray, state: DecoderState) -> tuple[np.ndarray, DecoderState]:
        nonlocal frames
        frames += codes.shape[2]
        return step(codes, state)

    monkeypatch.setattr(engine.engine, "decode_step", counted)
    decode_file(source, tmp_path / "b.wav", model=engine, span=(45.3, 50.1))
    part, _ = soundfile.read(tmp_path / "b.wav")
    np.testing.assert_allclose(part, whole[362_400:400_800], atol=1.1 / 32768)
    assert frames <= 200 * (4.8 + 2.1 + 2 * 0.5)


def test_a_part_of_joined_files_is_found(engine: Model, tmp_path: Path) -> None:
    source = encoded(tmp_path, engine, 8_000)
    cut_file(source, tmp_path / "b.codes", span=(3.3, 7.7), model=engine)
    concat_files([source, tmp_path / "b.codes", source], tmp_path / "joined.codes")
    whole = decoded(tmp_path / "joined.codes", engine)
    for start, end in ((9.1, 10.2), (10.5, 12.0), (12.0, 15.0), (14.0, None), (24.3, 24.4)):
        part = tmp_path / "part.wav"
        decode_file(tmp_path / "joined.codes", part, model=engine, span=(start, end), force=True)
        expected = whole[round(start * 8_000) : None if end is None else round(end * 8_000)]
        np.testing.assert_allclose(soundfile.read(part)[0], expected, atol=1.1 / 32768)
    for start, end, message in ((24.5, None, "ends before 24.5"), (5, 5, "nothing lies between")):
        with pytest.raises(CodecError, match=message):
            decode_file(
                tmp_path / "joined.codes", tmp_path / "c.wav", model=engine, span=(start, end)
            )
        assert not (tmp_path / "c.wav").exists()


def test_a_part_of_a_chained_stream_is_found(engine: Model, tmp_path: Path) -> None:
    if engine.context is None:
        pytest.skip("chained streams need a context model")
    write_chained(tmp_path / "a.codes", engine, tone(20 * 8_000), None)
    whole = decoded(tmp_path / "a.codes", engine)
    for start, end in ((7.77, 8.01), (11.2, None)):
        decode_file(
            tmp_path / "a.codes", tmp_path / "b.wav", model=engine, span=(start, end), force=True
        )
        expected = whole[round(start * 8_000) : None if end is None else round(end * 8_000)]
        part, _ = soundfile.read(tmp_path / "b.wav")
        np.testing.assert_allclose(part, expected, atol=1.1 / 32768)


def test_cuts_that_are_joined_are_the_whole(engine: Model, tmp_path: Path) -> None:
    source = encoded(tmp_path, engine, 8_000)
    whole, pieces = decoded(source, engine), []
    for number, (start, end) in enumerate(itertools.pairwise((0, 1.2345, 6, 6.01, 8.5, None))):
        assert start is not None
        pieces.append(tmp_path / f"{number}.codes")
        cut_file(source, pieces[-1], span=(start, end), model=engine)
    concat_files(pieces, tmp_path / "joined.codes")
    joined = decoded(tmp_path / "joined.codes", engine)
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=1.1 / 32768)
    # What was joined can be cut again, across the places where it was joined.
    cut_file(tmp_path / "joined.codes", tmp_path / "c.codes", span=(5.9, 6.2), model=engine)
    again = decoded(tmp_path / "c.codes", engine)
    np.testing.assert_allclose(again, whole[47_200:49_600], atol=1.1 / 32768)


@pytest.fixture(params=["variable", "segments", "pauses", "chained", "live"])
def coded_file(
    request: pytest.FixtureRequest, with_context: Model, tmp_path: Path
) -> tuple[Path, int]:
    """Ten seconds with a pause, as a stream of each kind, and the sampling rate."""
    rate = {"segments": 44_100, "pauses": 11_025}.get(request.param, 8_000)
    audio = tone(10 * rate)
    audio[:, 4 * rate : 7 * rate] = 1e-4 * sound(3 * rate)
    path = tmp_path / "a.codes"
    if request.param in ("chained", "live"):
        write_chained(path, with_context, audio, 3_000 if request.param == "live" else Constant(3))
    else:
        soundfile.write(tmp_path / "in.wav", audio.T, rate)
        average = None if request.param == "segments" else 2_000
        num_frames = 37 if request.param == "variable" else 400
        encode_in_packets(tmp_path / "in.wav", path, num_frames, model=with_context, rate=average)
    header = summarize_file(path).header
    assert header.variable == (request.param in ("variable", "pauses", "live"))
    assert header.chained == (request.param in ("chained", "live"))
    assert (header.segments > 1) == (request.param in ("segments", "pauses"))
    if request.param == "pauses":
        assert min(each.codebooks or 0 for each in list_packets(path, with_context)) < 0.5
    return path, rate


@pytest.mark.parametrize("seed", range(3))
def test_streams_of_any_kind_are_cut_anywhere(
    coded_file: tuple[Path, int], with_context: Model, tmp_path: Path, seed: int
) -> None:
    """Cut at odd samples, joined and decoded; and the same parts decoded from the whole."""
    source, rate = coded_file
    whole = decoded(source, with_context)
    rng = np.random.default_rng(seed)
    places = np.unique([0, *rng.integers(1, 10 * rate, 4), rng.integers(1, 300), 10 * rate])
    pieces = []
    for number, (first, last) in enumerate(itertools.pairwise(places.tolist())):
        pieces.append(tmp_path / f"{number}.codes")
        start, end = first / rate, last / rate
        cut_file(source, pieces[-1], span=(start, end), model=with_context)
        part = tmp_path / "part.wav"
        decode_file(source, part, model=with_context, span=(start, end), force=True)
        found, _ = soundfile.read(part)
        np.testing.assert_allclose(found, whole[first:last], atol=1.1 / 32768)
    concat_files(pieces, tmp_path / "joined.codes")
    joined = decoded(tmp_path / "joined.codes", with_context)
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=1.1 / 32768)


def test_what_was_cut_can_be_cut_and_peeled_again(with_context: Model, tmp_path: Path) -> None:
    """In any order: the part of a part, and fewer codebooks, of a variable stream with a pause."""
    audio = tone(80_000)
    audio[:, 30_000:60_000] = 1e-4 * sound(30_000)
    soundfile.write(tmp_path / "in.wav", audio.T, 8_000)
    encode_file(tmp_path / "in.wav", tmp_path / "a.codes", model=with_context, rate=3_000)
    steps: list[Path] = [tmp_path / "a.codes"]

    def step(name: str) -> tuple[Path, Path]:
        steps.append(tmp_path / f"{name}.codes")
        return steps[-2], steps[-1]

    cut_file(*step("b"), span=(2.0001, 9.5), model=with_context)
    cut_file(*step("c"), span=(1.23, None), model=with_context)
    peel_file(*step("d"), codebooks=2, model=with_context)
    cut_file(*step("e"), span=(None, 5.5), model=with_context)
    decode_file(tmp_path / "a.codes", tmp_path / "low.wav", model=with_context, codebooks=2)
    low, _ = soundfile.read(tmp_path / "low.wav")
    first = round(2.0001 * 8_000) + round(1.23 * 8_000)
    found = decoded(tmp_path / "e.codes", with_context)
    np.testing.assert_allclose(found, low[first : first + 44_000], atol=1.1 / 32768)


def test_joining_is_putting_bytes_together(engine: Model, tmp_path: Path) -> None:
    source = encoded(tmp_path, engine, 8_000)
    concat_files([source, source], tmp_path / "b.codes")
    assert (tmp_path / "b.codes").read_bytes() == 2 * source.read_bytes()
    summary = summarize_file(tmp_path / "b.codes")
    assert (summary.num_streams, summary.num_samples) == (2, 160_000)
    assert summary.num_bytes == (tmp_path / "b.codes").stat().st_size


@pytest.mark.parametrize("rate", [None, 3_000])
def test_peeling_gives_what_fewer_codebooks_give(
    engine: Model, tmp_path: Path, rate: int | None
) -> None:
    if rate and engine.context is None:
        pytest.skip("variable bitrates need a context model")
    source = encoded(tmp_path, engine, 8_000, rate)
    peel_file(source, tmp_path / "b.codes", codebooks=2, model=engine)
    assert (tmp_path / "b.codes").stat().st_size < source.stat().st_size
    decode_file(source, tmp_path / "low.wav", model=engine, codebooks=2)
    low, _ = soundfile.read(tmp_path / "low.wav")
    assert np.array_equal(decoded(tmp_path / "b.codes", engine), low)
    peel_file(source, tmp_path / "c.codes", codebooks=5, model=engine)  # it has four
    assert (tmp_path / "c.codes").read_bytes() == source.read_bytes()


def test_a_stream_with_a_codebook_for_each_code_is_peeled_to_whole_codebooks(
    lapped: Codec, tmp_path: Path
) -> None:
    """As streams of models with several codes of a codebook in a frame once were."""
    engine = TorchEngine(lapped)
    source = encoded(tmp_path, Model(engine), 8_000)
    engine.spec = dataclasses.replace(engine.spec, codebooks=(Codebook(32, 3), Codebook(32)))
    peeled, expected = tmp_path / "peeled.codes", tmp_path / "expected.codes"
    for codebooks, codes in ((1, 3), (2, 4)):
        peel_file(source, peeled, codebooks=codebooks, model=engine, force=True)
        peel_file(source, expected, codebooks=codes, force=True)
        assert peeled.read_bytes() == expected.read_bytes()
        assert len(decoded(peeled, Model(engine))) == 80_000
    peel_file(source, peeled, codebooks=1, force=True)
    with pytest.raises(FormatError, match=r"1 codes per frame.* --model"):
        decoded(peeled, Model(engine))


def test_what_cannot_be_changed_is_said_and_nothing_is_written(
    engine: Model, tmp_path: Path
) -> None:
    source = encoded(tmp_path, engine, 8_000)
    target = tmp_path / "b.codes"
    data = source.read_bytes()
    for start, end, message in ((10, None, "ends before 10"), (5, 5, "nothing lies between")):
        with pytest.raises(CodecError, match=message):
            cut_file(source, target, span=(start, end), model=engine)
    other = tmp_path / "other.codes"
    soundfile.write(tmp_path / "mono.wav", tone(800)[0], 8_000)
    encode_file(tmp_path / "mono.wav", other, model=engine)
    with pytest.raises(CodecError, match="another model"):
        concat_files([source, other], target)
    damaged = tmp_path / "damaged.codes"
    flipped = bytearray(data)
    flipped[2000] ^= 0xFF
    for bad in (data[:-9], bytes(flipped)):
        damaged.write_bytes(bad)
        with pytest.raises(FormatError, match="is damaged"):
            cut_file(damaged, target, span=(9, None), model=engine)
        with pytest.raises(FormatError, match="is damaged"):
            concat_files([source, damaged], target)
        with pytest.raises(FormatError, match="is damaged"):
            peel_file(damaged, target, codebooks=2, model=engine)
    assert not target.exists()


def test_a_session_says_that_a_cut_is_for_files(engine: Model, tmp_path: Path) -> None:
    source = encoded(tmp_path, engine, 8_000)
    cut_file(source, tmp_path / "b.codes", span=(5, None), model=engine)
    header = summarize_file(tmp_path / "b.codes").header
    assert header.skip > 0
    with pytest.raises(FormatError, match="decode_file"):
        StreamDecoder(header, engine)


def test_the_commands_do_the_same(tmp_path: Path) -> None:
    """On the packaged model, which is found by itself."""
    folder = tmp_path

    def aecodec(*words: str) -> Result:
        paths = [
            str(folder / word) if word.endswith((".codes", ".wav")) else word for word in words
        ]
        return CliRunner().invoke(main, paths)

    soundfile.write(folder / "a.wav", tone(72_000)[0], 24_000)
    assert aecodec("encode", "a.wav", "a.codes").exit_code == 0
    assert aecodec("cut", "a.codes", "b.codes", "--from", "0:01", "--to", "2.5").exit_code == 0
    assert aecodec("concat", "b.codes", "a.codes", "c.codes").exit_code == 0
    assert aecodec("peel", "c.codes", "d.codes", "--codebooks", "2").exit_code == 0
    good = aecodec("verify", "d.codes", "a.codes")
    assert (good.exit_code, good.output.count(": undamaged")) == (0, 2)
    assert aecodec("decode", "d.codes", "d.wav").exit_code == 0
    assert soundfile.info(folder / "d.wav").frames == 4.5 * 24_000
    (folder / "e.codes").write_bytes((folder / "d.codes").read_bytes()[:-1])
    bad = aecodec("verify", "e.codes", "a.wav")
    assert bad.exit_code == 1
    assert "no last packet" in bad.output and "not a .codes stream" in bad.output
    for words, message in (
        (("cut", "a.codes", "f.codes", "--from", "1:x"), "1:05.5"),
        (("cut", "a.codes", "f.codes", "--from", "9"), "ends before 9 seconds"),
        (("concat", "f.codes"), "and the output"),
        (("peel", "a.codes", "f.codes", "--bitrate", "1k"), "--codebooks"),
    ):
        failed = aecodec(*words)
        assert failed.exit_code in (1, 2) and message in failed.output, failed.output
    assert not (folder / "f.codes").exists()
