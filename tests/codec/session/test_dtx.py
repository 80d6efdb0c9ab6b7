"""Silence that is not sent: what is left out, what is heard instead, and what stays the same."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from codec import cut_file, decode_file, peel_file
from codec.activity.noise import ComfortNoise
from codec.activity.silence import SilenceDetector
from codec.calls.jitter import JitterBuffer
from codec.calls.rtp import RtpDepacketizer, RtpPacketizer
from codec.engines.base import Engine
from codec.engines.torch import TorchEngine
from codec.errors import CodecError, ConfigError, FormatError
from codec.files.listing import list_packets
from codec.format.container import Coding, Gap, Header, Packet, PacketReader, PacketWriter
from codec.format.reading import read_streams
from codec.network.model import Codec
from codec.rate.modes import Constant, RateLike
from codec.rate.redundancy import Redundancy
from codec.registry import Model, load_model
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.conftest import REPOSITORY, sound

HOP, RATE = 480, 24_000
SPEECH, SILENCE = 50, 150
"""Frames of each in `conversation`."""
NOISE = 3e-4
SIX = Constant(6)


@pytest.fixture(scope="module")
def engine() -> Model:
    return load_model()


@pytest.fixture(scope="module")
def conversation() -> np.ndarray:
    """A second of speech, three of a quiet room, and a second of speech: ``[1, N]``."""
    speech, rate = soundfile.read(REPOSITORY / "examples" / "speech.flac", dtype="float32")
    assert rate == RATE
    speech = np.resize(speech, SPEECH * HOP)
    quiet = np.zeros(SILENCE * HOP, np.float32)
    audio = np.concatenate((speech, quiet, speech))
    noise = NOISE * np.random.default_rng(0).standard_normal(len(audio))
    return (audio + noise).astype(np.float32)[None]


def encode(
    engine: Engine,
    audio: np.ndarray,
    rate: RateLike = SIX,
    redundancy: Redundancy | None = None,
) -> tuple[Header, list[Packet]]:
    packing = Packing.live(dtx=True, redundancy=redundancy)
    encoder = StreamEncoder(engine, rate=rate, packing=packing)
    return encoder.header, encoder.push(audio) + encoder.finish()


def decode(engine: Engine, header: Header, packets: list[Packet]) -> tuple[np.ndarray, int, int]:
    """Sound, and the numbers of packets that were silence and that were concealed."""
    decoder, pieces, following = StreamDecoder(header, engine), [], 0
    for packet in packets:
        if missing := (packet.sequence - following) % header.sequence_count:
            pieces.append(decoder.lost(missing))
        pieces.append(decoder.push(packet))
        following = packet.sequence + 1
    return np.concatenate(pieces, axis=1), decoder.num_silent, decoder.num_concealed


def level(audio: np.ndarray) -> float:
    return float(10 * np.log10(np.square(audio).mean() + 1e-12))


def test_silence_is_not_sent_and_noise_of_its_level_is_heard(
    engine: Engine, conversation: np.ndarray
) -> None:
    header, packets = encode(engine, conversation)
    heard, silent, concealed = decode(engine, header, packets)
    assert heard.shape == conversation.shape
    assert concealed == 0 and silent > 0.85 * SILENCE
    noise = [packet for packet in packets if packet.coding == Coding.COMFORT_NOISE]
    # At 400 ms, of a packet of 11 bytes: about 220 bits per second.
    assert 8 * sum(len(packet.payload) for packet in noise) < 250 * SILENCE / 50
    steps = np.diff([packet.sequence for packet in noise])
    assert len(noise) >= 6 and set(steps.tolist()) == {20}
    inside = slice((SPEECH + 20) * HOP, (SPEECH + SILENCE) * HOP)
    assert abs(level(heard[:, inside]) - level(conversation[:, inside])) < 6


def test_the_silence_begins_late_and_the_speech_after_it_in_time(
    engine: Engine, conversation: np.ndarray
) -> None:
    """200 ms of silence are sent first, and the first frame of speech is not left out."""
    _, packets = encode(engine, conversation)
    sent = {packet.sequence for packet in packets if packet.coding != Coding.COMFORT_NOISE}
    assert set(range(SPEECH + 10)) <= sent
    end = SPEECH + SILENCE
    assert not sent & set(range(SPEECH + 20, end - 1))
    assert set(range(end + 1, end + SPEECH)) <= sent
    levels = [level(conversation[:, n * HOP : (n + 1) * HOP]) for n in range(end, end + 10)]
    first = end + next(n for n, each in enumerate(levels) if each > level(NOISE * np.ones(1)) + 10)
    assert first in sent


def test_speech_sounds_as_without_dtx(engine: Engine, conversation: np.ndarray) -> None:
    """Before the silence to the bit, after it once the network has nearly forgotten the noise."""
    encoder = StreamEncoder(engine, rate=SIX)
    decoder = StreamDecoder(encoder.header, engine)
    packets = encoder.push(conversation) + encoder.finish()
    plain = np.concatenate([decoder.push(packet) for packet in packets], axis=1)
    heard, _, _ = decode(engine, *encode(engine, conversation))
    before = slice(0, (SPEECH + 8) * HOP)
    assert np.array_equal(heard[:, before], plain[:, before])
    onset = slice((SPEECH + SILENCE) * HOP, (SPEECH + SILENCE + 10) * HOP)
    assert level(heard[:, onset] - plain[:, onset]) < level(plain[:, onset]) - 10
    after = slice((SPEECH + SILENCE + 40) * HOP, None)
    assert level(heard[:, after] - plain[:, after]) < level(plain[:, after]) - 25


def test_the_noise_begins_and_ends_without_clicks(engine: Engine, conversation: np.ndarray) -> None:
    """No step between samples near a change is larger than those of the noise itself."""
    heard, _, _ = decode(engine, *encode(engine, conversation))
    steps = np.abs(np.diff(heard[0]))
    noise = steps[(SPEECH + 30) * HOP : (SPEECH + SILENCE - 5) * HOP]
    begins = steps[(SPEECH + 8) * HOP : (SPEECH + 14) * HOP]
    assert begins.max() < 2 * noise.max()
    assert noise.max() < 20 * NOISE


@pytest.mark.parametrize("options", [{"rate": 3_000}, {"redundancy": Redundancy(2, 1_500)}])
def test_it_goes_with_variable_bitrate_and_redundancy(
    engine: Engine, conversation: np.ndarray, options: dict[str, Any]
) -> None:
    header, packets = encode(engine, conversation, **options)
    heard, silent, concealed = decode(engine, header, packets)
    assert heard.shape == conversation.shape and silent > 0.85 * SILENCE and concealed == 0


def test_lost_comfort_noise_is_made_up_for_by_the_next(
    engine: Engine, conversation: np.ndarray
) -> None:
    header, packets = encode(engine, conversation)
    places = [n for n, each in enumerate(packets) if each.coding == Coding.COMFORT_NOISE]
    without = [each for n, each in enumerate(packets) if n != places[2]]
    heard, _, concealed = decode(engine, header, without)
    assert heard.shape == conversation.shape and concealed == 0
    # Without the first one, what is missing is taken for a loss until the second one comes.
    without = [each for n, each in enumerate(packets) if n != places[0]]
    heard, _, concealed = decode(engine, header, without)
    assert heard.shape == conversation.shape and concealed == 20


def test_noise_ends_when_nothing_follows(engine: Engine, conversation: np.ndarray) -> None:
    header, packets = encode(engine, conversation)
    last = next(n for n, each in enumerate(packets) if each.coding == Coding.COMFORT_NOISE)
    decoder = StreamDecoder(header, engine)
    for packet in packets[: last + 1]:
        decoder.push(packet)
    assert decoder.is_silent
    heard = decoder.lost(100)
    assert (decoder.num_silent, decoder.num_concealed) == (50, 50) and not decoder.is_silent
    assert level(heard[:, 20 * HOP : 45 * HOP]) > level(NOISE * np.ones(1)) - 8
    assert np.abs(heard[:, -20 * HOP :]).max() == 0


def test_a_jitter_buffer_takes_silence_for_silence(
    engine: Engine, conversation: np.ndarray
) -> None:
    """Through RTP, a network with jitter, and a buffer that must be shallower than the silence."""
    header, packets = encode(engine, conversation, redundancy=Redundancy(1, 1_000))
    packetizer, depacketizer = RtpPacketizer(header), RtpDepacketizer(header)
    rng, arrivals, markers = np.random.default_rng(0), [], []
    for packet in packets:
        data = packetizer.packetize([packet])
        if data[1] & 0x80:
            markers.append(packet)
        arrivals.append((0.02 * packet.sequence + rng.uniform(0, 0.03), data))
    # Speech begins twice: neither comfort noise nor what follows in a row has the marker.
    assert [packet.coding == Coding.COMFORT_NOISE for packet in markers] == [False, False]
    buffer, heard = JitterBuffer(header, engine, first_depth=0.06, max_depth=0.2), []
    for tick in range(len(conversation[0]) // HOP + 10):
        now = 0.02 * tick
        while arrivals and min(arrivals)[0] <= now:
            arrival = min(arrivals)
            arrivals.remove(arrival)
            for packet in depacketizer.depacketize(arrival[1]):
                buffer.push(packet, arrival[0])
        heard.append(buffer.pull(now))
    statistics = buffer.statistics
    assert buffer.finished
    assert statistics.concealed == statistics.recovered == statistics.late == 0
    assert statistics.silent > 0.85 * SILENCE and statistics.loss == 0
    quiet = np.concatenate(heard, axis=1)[:, (SPEECH + 30) * HOP : (SPEECH + SILENCE - 5) * HOP]
    frames = quiet.reshape(-1, HOP)
    assert min(map(level, frames)) > level(NOISE * np.ones(1)) - 15, "the noise has no holes"


def test_a_recorded_call_is_a_whole_file(
    engine: Engine, conversation: np.ndarray, tmp_path: Path
) -> None:
    header, packets = encode(engine, conversation)
    path, decoded = tmp_path / "call.codes", tmp_path / "call.wav"
    with path.open("wb") as file:
        writer = PacketWriter(file, header)
        for packet in packets:
            writer.write(packet)
    decode_file(path, decoded)
    heard, _ = soundfile.read(decoded, dtype="float32")
    expected, silent, _ = decode(engine, header, packets)
    assert np.abs(heard - expected[0].clip(-1, 1)).max() < 1e-4  # 16 bits
    facts = list(list_packets(path))
    assert {"comfort noise", "silence"} <= {each.coding for each in facts}
    num_frames = engine.spec.num_frames_with_tail(conversation.shape[1])
    assert sum(each.num_frames for each in facts) == num_frames
    with path.open("rb") as file:
        stream = next(read_streams(file))
        gaps = [item for batch in stream.batches for item in batch if isinstance(item, Gap)]
    assert stream.summary.damage() is None and stream.summary.num_lost == 0
    assert sum(gap.num_packets for gap in gaps) == silent
    with pytest.raises(CodecError, match="silence that was not sent"):
        cut_file(path, tmp_path / "part.codes", span=(0.5, None))
    with pytest.raises(CodecError, match="silence that was not sent"):
        peel_file(path, tmp_path / "smaller.codes", codebooks=1)


def test_damage_after_comfort_noise_is_damage(engine: Engine, conversation: np.ndarray) -> None:
    header, packets = encode(engine, conversation)
    data = bytearray(b"".join(packet.to_bytes() for packet in packets))
    following = next(n for n in range(55, 80) if packets[n].coding == Coding.COMFORT_NOISE) + 1
    begin = sum(packet.size for packet in packets[:following])
    data[begin + 12] ^= 1
    reader = PacketReader(header)
    gaps = [each for each in reader.push(bytes(data)) if isinstance(each, Gap)]
    assert [gap.is_silence for gap in gaps].count(False) == 1


def test_plain_streams_have_it_too(lapped: Codec) -> None:
    """Without a context model, in stereo, and with a silence before any speech."""
    audio = np.concatenate((np.zeros((2, 4_000)), sound(800, 2)), axis=1).astype(np.float32)
    encoder = StreamEncoder(lapped, channels=2, packing=Packing.live(dtx=True))
    packets = encoder.push(audio) + encoder.finish()
    header = Header.from_bytes(encoder.header.to_bytes())
    assert header == encoder.header and header.dtx and header.format == 2
    assert Coding.COMFORT_NOISE in {packet.coding for packet in packets}
    again = list(PacketReader(header).push(b"".join(each.to_bytes() for each in packets)))
    assert [each for each in again if isinstance(each, Packet)] == packets
    heard, silent, concealed = decode(TorchEngine(lapped), header, packets)
    assert heard.shape == audio.shape and silent and not concealed


def test_comfort_noise_holds_the_first_codes_of_the_newest_frames(lapped: Codec) -> None:
    encoder = StreamEncoder(lapped, channels=2, packing=Packing.live(dtx=True))
    audio = np.zeros((2, 4_000), np.float32)
    packets = encoder.push(audio)
    codes = lapped.encode(torch.from_numpy(audio)[:, None])[:, :1].numpy()
    (packet, *_) = (each for each in packets if each.coding == Coding.COMFORT_NOISE)
    decoder = StreamDecoder(encoder.header, lapped)
    noise = decoder._payloads.decode_noise(packet)
    end = packet.sequence + 1
    bits = encoder.header.bits[0]
    assert packet.to_bytes()[0] == 0xAA and packet.payload[0] == 16 * 7
    assert len(packet.payload) == 1 + 8 * 2 * bits // 8
    assert np.array_equal(noise, codes[:, :, end - 8 : end])


def test_the_order_of_noise_is_the_documented_one() -> None:
    noise = ComfortNoise(np.arange(8)[None, None], num_frames=50)
    played = [int(noise.next()[0, 0, 0]) for _ in range(100)]
    # The packet's own frame is the first in this order.
    assert played == [7 - 8 * (40_503 * i % 65_536) // 65_536 for i in range(1, 101)]
    assert len(set(played)) == 8 and all(a != b for a, b in itertools.pairwise(played))


def test_what_is_no_silence_is_sent() -> None:
    """A quiet tone, noise that is not far below the speech, and speech that fades."""
    rng = np.random.default_rng(0)
    loud = 0.1 * rng.standard_normal((1, RATE))
    time = np.arange(2 * RATE) / RATE
    noise = rng.standard_normal(2 * RATE)
    for quiet, is_silence in (
        (3e-4 * noise, True),
        (1e-3 * np.sin(6_000 * time), False),
        (1e-2 * noise, False),
        (2e-3 * noise * 10 ** (-3 * time), False),
    ):
        detector = SilenceDetector(RATE, HOP)
        audio = np.concatenate((loud, quiet[None]), axis=1).astype(np.float32)
        frames = audio.reshape(1, -1, HOP).transpose(1, 0, 2)
        found = [detector.find(frame) for frame in frames]
        assert any(found[: 50 + 15]) == is_silence


def test_silence_ends_with_a_weak_rise() -> None:
    rng = np.random.default_rng(0)
    audio = 3e-4 * rng.standard_normal((1, 2 * RATE)).astype(np.float32)
    audio[:, : RATE // 2] *= 300
    audio[:, RATE * 3 // 2 :] *= 4  # 12 dB
    detector = SilenceDetector(RATE, HOP)
    found = [detector.find(audio[:, n : n + HOP]) for n in range(0, 2 * RATE, HOP)]
    assert found == [False] * 35 + [True] * 40 + [False] * 10 + found[85:]


def test_what_cannot_leave_out_silence_is_refused(lapped: Codec, engine: Engine) -> None:
    with pytest.raises(ConfigError, match=r"leave out silence.*: give frames=1"):
        StreamEncoder(engine, packing=Packing.live(2, dtx=True))
    encoder = StreamEncoder(lapped, packing=Packing.live(dtx=True))
    with pytest.raises(FormatError, match="leave out silence"):
        dataclasses.replace(encoder.header, frames_per_packet=2)


def test_comfort_noise_that_does_not_fit_is_refused(lapped: Codec) -> None:
    encoder = StreamEncoder(lapped, packing=Packing.live(dtx=True))
    packets = encoder.push(np.zeros((1, 4_000), np.float32))
    packet = next(each for each in packets if each.coding == Coding.COMFORT_NOISE)
    payload = packet.payload
    for broken in (b"", payload[:-1], payload + b"a", b"\xff" + payload[1:], b"\x7f" + payload[1:]):
        decoder = StreamDecoder(encoder.header, lapped)
        with pytest.raises(FormatError, match="comfort noise does not fit"):
            decoder.push(dataclasses.replace(packet, payload=broken))
    with pytest.raises(FormatError, match="comfort noise does not fit"):
        header = StreamEncoder(lapped, packing=Packing.live(redundancy=Redundancy(0, 0))).header
        StreamDecoder(header, lapped).push(packet)
    reader = PacketReader(header)
    assert not any(isinstance(each, Packet) for each in reader.push(packet.to_bytes()))
