"""Entropy-coded streams: the same audio in fewer bytes, alone, chained, and with losses."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from codec import FileSize, Quality, decode_file, encode_file
from codec.bitrate import format_bitrate, parse_bitrate
from codec.corpus import read_tokens
from codec.engines.torch import TorchEngine
from codec.entropy.context_file import CONTEXT_FILE
from codec.entropy.payload import PayloadDecoder, PayloadEncoder
from codec.errors import CodecError, ConfigError, FormatError, ModelError
from codec.files.listing import list_packets
from codec.format.container import Coding, Header, Packet
from codec.format.reading import summarize_file
from codec.highpass import high_pass
from codec.network.model import Codec
from codec.network.weights import save_codec
from codec.rate.modes import Constant
from codec.registry import Model, load_model
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.codec.entropy.oracle import matching_context
from tests.codec.session.streams import chained_stream, plain_stream
from tests.conftest import encode_in_packets, sound
from tests.engines import core_engine


def tone(num_samples: int, channels: int = 1) -> np.ndarray:
    """A tone with some noise, ``[C, n]``: its codes are far from equally likely."""
    wave = 0.3 * np.sin(np.arange(num_samples) / 5)
    return (wave + 0.02 * sound(num_samples, channels)).astype(np.float32)


@pytest.fixture(scope="module")
def engine(lapped: Codec) -> Model:
    audio = tone(20_000)
    audio[:, 10_000:] *= 1e-3
    codes = lapped.encode(torch.from_numpy(audio[None]))[0].numpy()
    context = matching_context(np.random.default_rng(0), codes, lapped.config.codebook_size)
    return Model(TorchEngine(lapped), context)


def packets_of(engine: Model, audio: np.ndarray, **options: object) -> tuple[Header, list[Packet]]:
    encoder = StreamEncoder(engine, channels=len(audio), **options)  # type: ignore[arg-type]
    return encoder.header, encoder.push(audio) + encoder.finish()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("codebooks", [None, 2])
def test_files_are_smaller_and_decode_to_the_same_samples(
    engine: Model, tmp_path: Path, channels: int, codebooks: int | None
) -> None:
    soundfile.write(tmp_path / "in.wav", tone(10_007, channels).T, 8_000)
    decoded, sizes = [], []
    for name, plain in (("plain", True), ("coded", False)):
        codes, out = tmp_path / f"{name}.codes", tmp_path / f"{name}.wav"
        rate = Constant(codebooks, plain=plain)
        summary = encode_in_packets(tmp_path / "in.wav", codes, 7, model=engine, rate=rate)
        assert codes.stat().st_size == summary.num_bytes == summarize_file(codes).num_bytes
        assert summary.payload_bitrate == summarize_file(codes).payload_bitrate
        assert decode_file(codes, out, model=engine).damage() is None
        decoded.append(soundfile.read(out, dtype="int16")[0])
        sizes.append(summary.num_payload_bytes)
    assert np.array_equal(*decoded)
    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.parametrize("name", ["torch", "core"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_variable_file_has_the_bitrate_that_was_asked_for(
    engine: Model, lapped: Codec, name: str, channels: int, tmp_path: Path
) -> None:
    """On 20 seconds of which half is nearly silent, every byte counted.

    With trained models the bitrate is met within 2 %; here any code may cost anything.
    """
    used = engine if name == "torch" else Model(core_engine(lapped), engine.context)
    audio = tone(160_000, channels)
    audio[:, 40_000:120_000] *= 1e-3
    soundfile.write(tmp_path / "in.wav", audio.T, 8_000)
    sizes = []
    for bitrate in (2_000, 3_000):
        codes, out = tmp_path / f"{bitrate}.codes", tmp_path / f"{bitrate}.wav"
        summary = encode_file(tmp_path / "in.wav", codes, model=used, rate=bitrate)
        assert summary.header.variable and summary.header.num_codebooks == 4
        sizes.append(codes.stat().st_size)
        assert 8 * sizes[-1] / 20 / channels == pytest.approx(bitrate, rel=0.05)
        assert decode_file(codes, out, model=used).damage() is None
        assert soundfile.info(out).frames == 160_000
    lower = decode_file(codes, tmp_path / "low.wav", model=used, codebooks=1)
    assert lower.damage() is None


def test_short_files_have_segments_that_are_decoded_side_by_side(
    engine: Model, tmp_path: Path
) -> None:
    """Of at most a quarter of a long packet, and fewer where packets or channels are many."""
    found = []
    for seconds, channels in ((3, 1), (3, 4), (12, 1), (12, 2), (60, 1)):
        soundfile.write(tmp_path / "in.wav", tone(8_000 * seconds, channels).T, 8_000)
        target = tmp_path / f"{seconds}_{channels}.codes"
        summary = encode_file(tmp_path / "in.wav", target, model=engine)
        assert decode_file(target, tmp_path / "out.wav", model=engine, force=True).damage() is None
        found.append(summary.header.segments)
    assert found == [4, 2, 3, 2, 1]
    encode_in_packets(tmp_path / "in.wav", target, 7, model=engine)
    assert summarize_file(target).header.segments == 1


def test_a_context_model_is_loaded_when_it_is_needed(lapped: Codec, tmp_path: Path) -> None:
    """A broken one troubles only streams that need it."""
    save_codec(lapped, tmp_path / "model", name="test")
    (tmp_path / "model" / CONTEXT_FILE).write_bytes(b"broken")
    soundfile.write(tmp_path / "in.wav", tone(3_000)[0], 8_000)
    target = tmp_path / "plain.codes"
    broken = load_model(tmp_path / "model", backend="torch")
    encode_file(tmp_path / "in.wav", target, model=broken, rate=Constant(plain=True))
    assert decode_file(target, tmp_path / "out.wav", model=broken).damage() is None
    with pytest.raises(ModelError, match="is not a context model"):
        encode_file(tmp_path / "in.wav", tmp_path / "coded.codes", model=broken)


def test_a_size_or_a_quality_takes_the_place_of_a_bitrate(engine: Model, tmp_path: Path) -> None:
    audio = tone(80_000)
    audio[:, 40_000:] *= 0.03
    soundfile.write(tmp_path / "in.wav", audio.T, 8_000)
    source, target = tmp_path / "in.wav", tmp_path / "out.codes"
    sizes = [
        encode_file(source, target, model=engine, rate=Quality(each), force=True).num_bytes
        for each in (0, 3, 6, 10)
    ]
    assert sizes == sorted(sizes) and sizes[0] < 0.7 * sizes[3]
    for wanted in (sizes[0] + 200, (sizes[0] + sizes[3]) // 2, 2 * sizes[3]):
        summary = encode_file(source, target, model=engine, rate=FileSize(wanted), force=True)
        assert summary.num_bytes == target.stat().st_size
        assert 0.95 * min(wanted, sizes[3]) <= summary.num_bytes <= wanted
        assert decode_file(target, tmp_path / "out.wav", model=engine, force=True).damage() is None
    before = target.read_bytes()
    with pytest.raises(CodecError, match="give at least as many"):
        encode_file(source, target, model=engine, rate=FileSize(sizes[0] // 2), force=True)
    assert target.read_bytes() == before


def test_pauses_of_files_take_next_to_nothing(engine: Model, tmp_path: Path) -> None:
    audio = tone(160_000)
    audio[:, 40_000:120_000] = 1e-4 * np.random.default_rng(0).standard_normal(80_000)
    soundfile.write(tmp_path / "in.wav", audio.T, 8_000)
    target = tmp_path / "out.codes"
    summary = encode_file(tmp_path / "in.wav", target, model=engine, rate=2_000)
    assert summary.header.pauses
    packets = [each for each in list_packets(target, engine) if 6 <= each.seconds < 13]
    assert len(packets) >= 3 and all(each.codebooks is not None for each in packets)
    assert all(each.codebooks < 0.2 for each in packets if each.codebooks is not None)
    assert decode_file(target, tmp_path / "out.wav", model=engine).damage() is None
    whole, _ = soundfile.read(tmp_path / "out.wav")
    decode_file(target, tmp_path / "part.wav", model=engine, span=(9.7, 16.0))
    part, _ = soundfile.read(tmp_path / "part.wav")
    np.testing.assert_allclose(part, whole[77_600:128_000], atol=1.1 / 32768)


def test_the_bitrate_of_a_variable_stream_may_be_changed_while_it_runs(engine: Model) -> None:
    encoder = StreamEncoder(engine, rate=2_000, packing=Packing.live(20))
    sizes = []
    for bitrate in (2_000, 3_500, 2_000):
        if bitrate != encoder.bitrate:
            encoder.bitrate = bitrate
        packets = encoder.push(tone(80_000))
        sizes.append(sum(len(packet.payload) for packet in packets) / 10)
    assert 1.5 * sizes[0] < sizes[1] and sizes[2] < 1.2 * sizes[0]
    with pytest.raises(ConfigError, match="out of range"):
        encoder.bitrate = 1_000_000
    assert encoder.bitrate == 2_000
    constant = StreamEncoder(engine, rate=Constant(2))
    assert constant.bitrate is None
    with pytest.raises(ConfigError, match=r"start the stream with rate=Average"):
        constant.bitrate = 3_000


def test_a_variable_stream_costs_what_its_transport_adds(engine: Model) -> None:
    """The mean of all bytes is the target: heads of files would be a quarter of it here."""
    audio = tone(32_000)
    for packing, each, all_packets in (
        (Packing.live(20), 0, 0),
        (Packing.live(20, overhead=11), 11, 0),
        (Packing.file(0.1), 11, 64),
    ):
        header, packets = packets_of(engine, audio, rate=3_200, packing=packing)
        assert header.frames_per_packet == 20
        spent = all_packets + sum(each + len(packet.payload) for packet in packets)
        assert abs(8 * spent / 4 - 3_200) < 0.15 * 3_200, packing


@pytest.mark.parametrize("frames", [5, 20])
def test_a_bitrate_that_cannot_be_reached_is_refused_with_the_lowest_that_can(
    engine: Model, frames: int
) -> None:
    packing = Packing.live(frames, overhead=8)
    with pytest.raises(ConfigError, match="cannot be reached: 8 bytes") as refused:
        StreamEncoder(engine, rate=1_200, packing=packing)
    lowest = parse_bitrate(re.findall(r"take ([0-9.]+) kbit/s", str(refused.value))[0] + "k")
    encoder = StreamEncoder(engine, rate=lowest, packing=packing)
    with pytest.raises(ConfigError, match=f"take {format_bitrate(lowest)}, give at least"):
        encoder.bitrate = lowest - 1
    assert encoder.bitrate == lowest
    packets = encoder.push(tone(16_000)) + encoder.finish()
    spent = 8 * sum(8 + len(packet.payload) for packet in packets) / 2
    assert spent < 1.2 * lowest  # the first seconds spend more


def test_a_variable_stream_has_the_first_codes_of_each_frame(engine: Model, lapped: Codec) -> None:
    audio = tone(80_000)
    audio[:, 40_000:] *= 1e-3
    header, packets = packets_of(engine, audio, rate=2_500, packing=Packing.live(100))
    decoded = PayloadDecoder(header, engine.context).decode(packets)
    counts = np.concatenate([(codes[0] >= 0).sum(0) for codes in decoded if codes is not None])
    assert counts.min() == 1 and counts.max() == 4
    # The codes that are there are the first ones of each frame, and those of the encoder.
    spec = engine.spec
    filtered = high_pass(audio, spec.sample_rate, spec.hop_length)
    padding = spec.num_frames_with_tail(80_000) * spec.hop_length - 80_000
    padded = np.pad(filtered, ((0, 0), (0, padding)))
    everything = lapped.encode(torch.from_numpy(padded[None]))[0].numpy()
    joined = np.concatenate([codes[0] for codes in decoded if codes is not None], axis=1)
    assert np.mean(joined[joined >= 0] == everything[joined >= 0]) > 0.99
    assert (np.sort(joined < 0, axis=0) == (joined < 0)).all()


def test_how_packets_are_pushed_changes_nothing(engine: Model) -> None:
    audio = tone(4_003, 2)
    header, packets = packets_of(engine, audio, packing=Packing.live(3))
    encoder = StreamEncoder(engine, channels=2, packing=Packing.live(3))
    again = [
        each for start in range(0, 4_003, 61) for each in encoder.push(audio[:, start:][:, :61])
    ]
    assert again + encoder.finish() == packets
    one, all_at_once, in_pieces = (StreamDecoder(header, engine) for _ in range(3))
    single = np.concatenate([one.push(packet) for packet in packets], axis=1)
    assert np.array_equal(all_at_once.push_all(packets), single)
    pieces = list(in_pieces.push_each(packets))
    assert len(pieces) >= len(packets) and np.array_equal(np.concatenate(pieces, axis=1), single)
    assert {packet.coding for packet in packets} >= {Coding.CODED}


def test_what_a_context_model_does_not_expect_is_written_plain(engine: Model) -> None:
    """Uniform codes: no payload is longer than a plain one."""
    header, _ = packets_of(engine, tone(100), packing=Packing.live(5))
    rng = np.random.default_rng(0)
    encoder = PayloadEncoder(header, engine.context)
    kinds = set()
    for _ in range(50):
        payload, coding = encoder.encode(rng.integers(32, size=(1, 4, 5)))
        kinds.add(coding)
        assert len(payload) <= header.payload_size(5)
    assert Coding.PLAIN in kinds


@pytest.mark.parametrize("frames_per_packet", [1, 4])
def test_chained_packets_recover_from_losses(engine: Model, frames_per_packet: int) -> None:
    audio = tone(40 * 1_000, 2)
    header, chained = chained_stream(engine, audio, frames_per_packet)
    assert header.chained and Coding.CHAINED in {packet.coding for packet in chained}
    sent = PayloadDecoder(header, engine.context).decode(chained)
    expected = StreamDecoder(header, engine).push_all(chained)
    plain_header, plain = plain_stream(engine, audio, frames_per_packet)
    assert np.array_equal(expected, StreamDecoder(plain_header, engine).push_all(plain))
    decoder = PayloadDecoder(header, engine.context)
    lost = np.random.default_rng(1).random(len(chained)) < 0.02
    assert 0 < lost.sum() < len(lost)
    waits = longest = 0
    for packet, codes, is_lost in zip(chained, sent, lost, strict=True):
        assert codes is not None
        if is_lost:
            decoder.lost()
            waits += 1
            continue
        (found,) = decoder.decode([packet])
        if found is None:
            assert packet.coding == Coding.CHAINED
            waits += 1
        else:
            assert np.array_equal(found, codes)
            longest, waits = max(longest, waits), 0
    # A second of 200 frames at most, since losses are rarer than that.
    assert 0 < longest <= 2 * 200 / frames_per_packet


def test_a_session_conceals_what_it_cannot_decode(engine: Model) -> None:
    audio = tone(40 * 400)
    header, packets = chained_stream(engine, audio, 4)
    decoder = StreamDecoder(header, engine)
    pieces = [decoder.push_all(packets[:20]), decoder.lost(), decoder.push_all(packets[21:])]
    decoded = np.concatenate(pieces, axis=1)
    expected = StreamDecoder(header, engine).push_all(packets)
    assert decoded.shape == expected.shape
    lost, again = 20, next(n for n, each in enumerate(packets) if n > 20 and each.coding != 2)
    assert again > 25 and decoder.num_concealed == again - lost
    before = lost * 160 - 20  # a delay of half a frame
    assert np.array_equal(decoded[:, :before], expected[:, :before])
    faded = before + int((0.02 + 0.1) * 8_000)  # held, then faded
    assert not decoded[:, faded : again * 160 - 20].any()
    late = (again + 15) * 160  # the receptive field and the fade later
    np.testing.assert_allclose(decoded[:, late:], expected[:, late:], atol=1e-4)


def test_streams_name_their_context_model(engine: Model, lapped: Codec) -> None:
    header, packets = packets_of(engine, tone(500))
    assert header.context == b"matching"
    for other, own in ((TorchEngine(lapped), "none"), (_other(engine), b"another!".hex())):
        with pytest.raises(ModelError, match=f"context model {b'matching'.hex()}, .* has {own}"):
            StreamDecoder(header, other)
    with pytest.raises(FormatError, match="another format"):
        StreamDecoder(header, engine).push(Packet(0, 1, packets[0].payload))
    plain, _ = packets_of(Model(TorchEngine(lapped)), sound(500))
    with pytest.raises(FormatError, match="another format"):
        StreamDecoder(plain, engine).push(packets[0])


def test_tokens_are_read_from_coded_files(
    engine: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the model were packaged, whose streams need no further name."""
    monkeypatch.setattr("codec.registry.packaged_model", lambda _: engine)
    soundfile.write(tmp_path / "in.wav", tone(9_999)[0], 8_000)
    found = []
    for name, plain in (("coded", False), ("plain", True)):
        target = tmp_path / f"{name}.codes"
        encode_file(tmp_path / "in.wav", target, model=engine, rate=Constant(plain=plain))
        (tokens,) = read_tokens(target)
        found.append(tokens.frames)
    assert np.array_equal(found[0], found[1])
    assert found[0].shape == (251, 4)  # one for the end, which the decoder delays
    varying = tmp_path / "varying.codes"
    encode_file(tmp_path / "in.wav", varying, model=engine, rate=2_000)
    with pytest.raises(FormatError, match="--codebooks"):
        list(read_tokens(varying))


def test_a_model_takes_its_context_model_to_another_process(engine: Model) -> None:
    copy = pickle.loads(pickle.dumps(engine))
    audio = tone(2_000)
    assert packets_of(copy, audio) == packets_of(engine, audio)


def _other(engine: Model) -> Model:
    context = matching_context(
        np.random.default_rng(1), np.zeros((4, 9), np.int64), engine.spec.codebooks[0].size
    )
    context.identity = b"another!"
    return Model(engine.engine, context)
