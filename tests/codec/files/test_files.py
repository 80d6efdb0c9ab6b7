"""Whole files through the library: every kind of input, exact lengths, damage, hostile streams."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from codec import Constant, Packing, Quality, StreamEncoder, decode_file, encode_file
from codec.codes import Codebook
from codec.engines.torch import TorchEngine
from codec.errors import AudioError, CodecError, FormatError
from codec.format.container import Header, Packet, PacketReader
from codec.format.reading import summarize_file
from codec.io.outputs import atomic_output
from codec.network.model import Codec
from codec.rate.modes import RateLike
from codec.registry import Model, load_model
from codec.session.plan import make_plan
from tests.codec.entropy.oracle import matching_context
from tests.conftest import encode_in_packets, sound

RATES = [8_000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000]


def write(path: Path, samples: np.ndarray, rate: int, **options: str) -> Path:
    soundfile.write(path, samples.T, rate, **options)
    return path


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_rate_channels_and_length_come_back(
    lapped: Codec, tmp_path: Path, rate: int, channels: int
) -> None:
    hop = lapped.config.hop_length
    for num_samples in (0, 1, hop - 1, hop, hop + 1, 10_007):
        source = write(tmp_path / "in.wav", sound(num_samples, channels), rate)
        encode_file(source, tmp_path / "a.codes", model=lapped, force=True)
        scan = decode_file(tmp_path / "a.codes", tmp_path / "b.wav", model=lapped, force=True)
        assert scan.damage() is None
        facts = soundfile.info(tmp_path / "b.wav")
        assert (facts.samplerate, facts.channels, facts.frames) == (rate, channels, num_samples)


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.wav", "PCM_U8"),
        ("a.wav", "PCM_24"),
        ("a.wav", "PCM_32"),
        ("a.wav", "FLOAT"),
        ("a.wav", "DOUBLE"),
        ("a.wav", "ULAW"),
        ("a.wav", "IMA_ADPCM"),
        ("a.flac", "PCM_16"),
        ("a.ogg", "VORBIS"),
        ("a.opus", "OPUS"),
        ("a.mp3", "MPEG_LAYER_III"),
        ("a.aiff", "PCM_16"),
        ("a.caf", "PCM_16"),
    ],
)
def test_everything_that_libsndfile_reads_is_encoded(
    lapped: Codec, tmp_path: Path, name: str, subtype: str
) -> None:
    kind = {"a.opus": "OGG", "a.ogg": "OGG", "a.mp3": "MP3"}.get(name)
    source = tmp_path / name
    soundfile.write(source, sound(9_001, 2).T, 16_000, subtype=subtype, format=kind)
    scan = encode_file(source, tmp_path / "a.codes", model=lapped)
    assert scan.num_samples == soundfile.info(source).frames


def test_file_and_stream_hold_the_same_codes(lapped: Codec, tmp_path: Path) -> None:
    """At the model's own rate a file is one stream; reading it in blocks changes nothing."""
    samples = sound(20_011)
    source = write(tmp_path / "in.wav", samples, lapped.config.sample_rate, subtype="FLOAT")
    encode_in_packets(source, tmp_path / "a.codes", 7, model=lapped)
    encoder = StreamEncoder(lapped, packing=Packing.live(7))
    packets = encoder.push(samples) + encoder.finish()
    data = encoder.header.to_bytes() + b"".join(packet.to_bytes() for packet in packets)
    assert (tmp_path / "a.codes").read_bytes() == data


def test_mono_mixes_down_and_the_model_rate_can_be_asked_for(lapped: Codec, tmp_path: Path) -> None:
    samples = sound(5_000, 1)
    source = write(tmp_path / "in.wav", np.repeat(samples, 3, axis=0), 16_000, subtype="FLOAT")
    encode_file(source, tmp_path / "a.codes", model=lapped, mono=True)
    single = write(tmp_path / "single.wav", samples, 16_000, subtype="FLOAT")
    encode_file(single, tmp_path / "b.codes", model=lapped)
    assert (tmp_path / "a.codes").read_bytes() == (tmp_path / "b.codes").read_bytes()
    decode_file(tmp_path / "a.codes", tmp_path / "b.flac", model=lapped, sample_rate=8_000)
    facts = soundfile.info(tmp_path / "b.flac")
    assert (facts.samplerate, facts.channels, facts.frames) == (8_000, 1, 2_500)


@pytest.mark.parametrize("variable", [False, True])
def test_every_number_of_channels_fits_a_packet_at_every_rate(variable: bool) -> None:
    """In packets of two seconds, or as many frames as fit."""
    model = load_model()
    counts = map(Constant, range(1, model.spec.num_codebooks + 1))
    rates: list[RateLike] = [Quality(5)] if variable else [*counts]
    for channels, rate in itertools.product(range(1, 256), rates):
        header = make_plan(model, rate, Packing.file(), channels=channels).header
        assert header.variable == header.pauses == variable
        if header.frames_per_packet < 2 * model.spec.frame_rate:
            with pytest.raises(FormatError, match="the limit is 65536"):
                dataclasses.replace(header, frames_per_packet=header.frames_per_packet + 1)


@pytest.mark.parametrize("channels", [8, 15, 255])
def test_many_channels_are_coded_with_a_bitrate(
    engine: Model, tmp_path: Path, channels: int
) -> None:
    source = write(tmp_path / "in.wav", sound(500, channels), 8_000)
    summary = encode_file(source, tmp_path / "a.codes", model=engine, rate=3_000)
    assert summary.header.variable == (engine.context is not None)
    assert decode_file(tmp_path / "a.codes", tmp_path / "b.wav", model=engine).damage() is None
    facts = soundfile.info(tmp_path / "b.wav")
    assert (facts.channels, facts.frames) == (channels, 500)


def test_resampling_keeps_time(lapped: Codec, tmp_path: Path) -> None:
    """What is decoded lies where the original lies, also at another rate."""
    from codec.io.audio import Resampler

    time = np.arange(48_000) / 48_000
    samples = (np.sin(2 * np.pi * 300 * time)[None]).astype(np.float32)
    down, up = Resampler(48_000, 8_000, 1), Resampler(8_000, 48_000, 1)
    low = [down.push(samples[:, :31_000]), down.push(samples[:, 31_000:]), down.finish(8_000)]
    back = np.concatenate([*(up.push(piece) for piece in low), up.finish(48_000)], axis=1)
    assert back.shape == samples.shape
    np.testing.assert_allclose(back[:, 2000:-2000], samples[:, 2000:-2000], atol=2e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"this is no sound\n" * 50, "is not audio"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "is not audio"),
        (None, "does not exist"),
    ],
)
def test_what_is_no_audio_is_named_and_leaves_nothing(
    lapped: Codec, tmp_path: Path, content: bytes | None, message: str
) -> None:
    source = tmp_path / "in.wav"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(AudioError, match=message):
        encode_file(source, tmp_path / "a.codes", model=lapped)
    assert not list(tmp_path.glob("*.codes*")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_samples_far_into_a_file_leave_nothing(
    lapped: Codec, tmp_path: Path, value: float
) -> None:
    samples = sound(50_000)
    samples[0, 40_000] = value
    source = write(tmp_path / "in.wav", samples, 8_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite"):
        encode_file(source, tmp_path / "a.codes", model=lapped)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.parametrize("rate", [4_000, 384_000])
def test_rates_out_of_range_are_refused(lapped: Codec, tmp_path: Path, rate: int) -> None:
    source = write(tmp_path / "in.wav", sound(100), rate)
    with pytest.raises(AudioError, match=f"{rate} samples per second"):
        encode_file(source, tmp_path / "a.codes", model=lapped)


def test_an_output_format_that_cannot_hold_the_sound_is_named(
    lapped: Codec, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.wav", sound(500, 5), 22_050)
    encode_file(source, tmp_path / "a.codes", model=lapped)
    for name, message in (("b.mp3", "cannot hold 5 channels"), ("b.xyz", "end the output's name")):
        with pytest.raises(AudioError, match=message):
            decode_file(tmp_path / "a.codes", tmp_path / name, model=lapped)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.codes", "in.wav"]


def test_an_existing_output_is_kept_unless_forced(lapped: Codec, tmp_path: Path) -> None:
    source = write(tmp_path / "in.wav", sound(500), 8_000)
    target = tmp_path / "a.codes"
    target.write_bytes(b"precious")
    with pytest.raises(CodecError, match="--force"):
        encode_file(source, target, model=lapped)
    assert target.read_bytes() == b"precious"
    encode_file(source, target, model=lapped, force=True)
    assert summarize_file(target).damage() is None


def test_an_output_may_not_be_its_own_input(lapped: Codec, tmp_path: Path) -> None:
    source = write(tmp_path / "in.wav", sound(500), 8_000)
    before = source.read_bytes()
    (tmp_path / "link.wav").symlink_to(source)
    for target in (source, tmp_path / "link.wav"):
        with pytest.raises(CodecError, match="is the input itself"):
            encode_file(source, target, model=lapped, force=True)
    assert source.read_bytes() == before


def test_files_cost_at_most_two_per_cent_more_than_their_codes(tmp_path: Path) -> None:
    from codec.network.weights import load_codec

    source = write(tmp_path / "in.wav", sound(24_000 * 10), 24_000)
    scan = encode_file(source, tmp_path / "a.codes", model=load_codec(), rate=6_000)
    assert (tmp_path / "a.codes").stat().st_size == scan.num_bytes <= 1.02 * 10 * 6_000 / 8


def test_a_failure_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_output(target, force=True) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


# Damage


@pytest.fixture(params=["plain", "coded"])
def engine(request: pytest.FixtureRequest, lapped: Codec) -> Model:
    """An engine that makes streams of format 1, and one that makes those of format 2."""
    codes = lapped.encode(torch.from_numpy(sound(4_000)[None]))[0].numpy()
    context = matching_context(np.random.default_rng(0), codes, lapped.config.codebook_size)
    return Model(TorchEngine(lapped), context if request.param == "coded" else None)


@pytest.fixture
def stream(engine: Model, tmp_path: Path) -> tuple[bytes, np.ndarray]:
    """A short stream of several packets, and what it decodes to."""
    source = write(tmp_path / "in.wav", sound(321), 8_000)
    encode_in_packets(source, tmp_path / "s.codes", 2, model=engine)
    decode_file(tmp_path / "s.codes", tmp_path / "s.wav", model=engine)
    return (tmp_path / "s.codes").read_bytes(), soundfile.read(tmp_path / "s.wav")[0]


def outcome(model: Model | Codec, data: bytes, folder: Path) -> tuple[str, np.ndarray | None]:
    """``right``, ``partial`` or ``refused``, and the audio; anything else fails the test."""
    source, target = folder / "x.codes", folder / "x.wav"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    try:
        scan = decode_file(source, target, model=model)
    except CodecError as error:
        assert "\n" not in str(error)
        assert not target.exists()
        return "refused", None
    assert (summarize_file(source).damage() is None) == (scan.damage() is None)
    return ("right" if scan.damage() is None else "partial"), soundfile.read(target)[0]


def test_a_file_cut_at_any_byte_gives_what_came_before(
    engine: Model, stream: tuple[bytes, np.ndarray], tmp_path: Path
) -> None:
    data, expected = stream
    for length in range(len(data)):
        kind, audio = outcome(engine, data[:length], tmp_path)
        assert kind == ("refused" if length < Header.size_of(data) else "partial")
        if audio is not None:
            assert len(audio) <= len(expected) + 80
            whole = max(0, len(audio) - 80 - 40)  # all but the flushed end and a lost packet
            np.testing.assert_array_equal(audio[:whole], expected[:whole])


def test_a_file_with_any_byte_flipped_is_reported(
    engine: Model, stream: tuple[bytes, np.ndarray], tmp_path: Path
) -> None:
    data, expected = stream
    for position in range(len(data)):
        for flip in (0x01, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= flip
            kind, audio = outcome(engine, bytes(damaged), tmp_path)
            assert kind == ("refused" if position < Header.size_of(data) else "partial")
            assert audio is None or abs(len(audio) - len(expected)) <= 80


def forge(data: bytes, **changes: int | bytes) -> bytes:
    header = dataclasses.replace(Header.from_bytes(data), **changes)  # type: ignore[arg-type]
    return header.to_bytes() + data[Header.size_of(data) :]


def test_forged_streams_are_refused_or_bounded(
    engine: Model, stream: tuple[bytes, np.ndarray], tmp_path: Path
) -> None:
    data, _ = stream
    for changes, message in (
        ({"fingerprint": bytes(16)}, "made with model"),
        ({"sample_rate": 4_000}, "contradicts"),
        ({"hop_length": 41}, "contradicts"),
        ({"codebooks": (Codebook(2**16),)}, "contradicts"),
    ):
        (tmp_path / "x.codes").write_bytes(forge(data, **changes))
        with pytest.raises(CodecError, match=message):
            decode_file(tmp_path / "x.codes", tmp_path / "x.wav", model=engine)
    # Counts that fit no packet any more: nothing can be decoded, and little is written.
    for changes in ({"channels": 255}, {"frames_per_packet": 1_000}):
        kind, audio = outcome(engine, forge(data, **changes), tmp_path)
        assert kind in ("partial", "refused")
        assert audio is None or len(audio) <= 5 * 1_000 * 40


def test_a_forged_end_does_not_make_up_sound(lapped: Codec, tmp_path: Path) -> None:
    header = Header(1, (Codebook(32),) * 4, 2, 8_000, 8_000, 40, lapped.fingerprint)
    for num_samples in (2**63, 10**6):
        data = header.to_bytes() + Packet(0, 0, b"", num_samples).to_bytes()
        kind, audio = outcome(lapped, data, tmp_path)
        assert kind == "partial" and audio is not None and len(audio) <= 40


def test_one_forged_packet_does_not_make_up_minutes(lapped: Codec, tmp_path: Path) -> None:
    header = Header(1, (Codebook(32),) * 4, 2000, 8_000, 8_000, 40, lapped.fingerprint)
    (tmp_path / "x.codes").write_bytes(header.to_bytes() + Packet(255, 0, b"", 1).to_bytes())
    with pytest.raises(FormatError, match="too damaged"):
        decode_file(tmp_path / "x.codes", tmp_path / "x.wav", model=lapped)


def test_a_last_packet_that_takes_sound_back_is_reported(lapped: Codec, tmp_path: Path) -> None:
    header = Header(1, (Codebook(32),) * 4, 1, 8_000, 8_000, 40, lapped.fingerprint)
    packets = [Packet(0, 1, bytes(header.payload_size(1))), Packet(1, 0, b"", 5)]
    data = header.to_bytes() + b"".join(packet.to_bytes() for packet in packets)
    assert outcome(lapped, data, tmp_path)[0] == "partial"


def test_forged_packet_numbers_do_not_make_up_hours(lapped: Codec, tmp_path: Path) -> None:
    header = Header(1, (Codebook(32),) * 4, 2, 8_000, 8_000, 40, lapped.fingerprint)
    payload = bytes(header.payload_size(2))
    packets = [Packet(200 * n % 256, 2, payload).to_bytes() for n in range(1, 50)]
    (tmp_path / "x.codes").write_bytes(header.to_bytes() + b"".join(packets))
    with pytest.raises(FormatError, match="too damaged"):
        decode_file(tmp_path / "x.codes", tmp_path / "x.wav", model=lapped)


def test_a_scan_counts_what_a_reader_finds(
    stream: tuple[bytes, np.ndarray], tmp_path: Path
) -> None:
    data, _ = stream
    scan = summarize_file(tmp_path / "s.codes")
    packets = list(PacketReader(scan.header).push(data[scan.header.size :]))
    assert (scan.num_packets, scan.num_frames, scan.num_samples) == (len(packets), 9, 321)
    assert scan.num_bytes == len(data)
    assert scan.duration_seconds == 321 / 8_000
