"""The jitter buffer: sound without interruption from packets that arrive in any order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest

from codec.activity.noise import ComfortNoise
from codec.calls.jitter import JitterBuffer
from codec.codes import Codebook, CodecSpec
from codec.engines.base import Engine
from codec.engines.torch import TorchEngine
from codec.entropy.payload import PayloadDecoder
from codec.errors import ConfigError
from codec.format.container import Coding, Header, Packet
from codec.network.model import Codec
from codec.rate.modes import Constant
from codec.rate.redundancy import Redundancy
from codec.registry import Model, load_model
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.conftest import sound
from tests.engines import ENGINES, make_engine

TICK = 40 / 8_000
"""Seconds of a frame of the model of these tests."""

ORDERS = 200
"""Random orders of arrival in one run of the tests."""


@pytest.fixture(scope="module")
def engine(lapped: Codec) -> TorchEngine:
    return TorchEngine(lapped)


class NumbersEngine(Engine):
    """An engine without a network: sound is made of the codes and of the frame before.

    So thousands of calls take seconds, and any frame that is wrong, missing or twice is heard.
    """

    spec = CodecSpec(
        name="numbers",
        sample_rate=8_000,
        hop_length=40,
        codebooks=(Codebook(32),) * 4,
        delay=20,
        fingerprint=b"numbers of codes",
    )
    _weights = np.array([1, 0.3, 0.1, 0.03], np.float32)[:, None] / 64
    _shape = np.sin(np.arange(1, 41) / 3).astype(np.float32)

    def init_encoder(self, channels: int) -> None:
        return None

    def encode_step(
        self,
        audio: np.ndarray,
        state: None,
        num_codebooks: int | None = None,
        ahead: np.ndarray | None = None,
    ) -> tuple[np.ndarray, None]:
        frames = np.abs(audio).reshape(len(audio), 1, -1, 40)
        scaled = frames.sum(axis=3) * 10.0 ** np.arange(4)[:, None]
        return (scaled.astype(np.int64) % 32)[:, :num_codebooks], None

    def init_decoder(self, channels: int) -> np.ndarray:
        return np.zeros((channels, 40), np.float32)

    def decode_step(self, codes: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = ((codes + 1) * self._weights[: codes.shape[1]]).sum(axis=1, dtype=np.float32)
        frames = [np.zeros((len(codes), 0), np.float32)]
        for value in values.T:
            state = value[:, None] * self._shape + np.float32(0.25) * state
            frames.append(state)
        return np.concatenate(frames, axis=1), state

    def conceal_step(self, num_frames: int, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.tile(state, num_frames), state

    def flush_step(self, state: np.ndarray) -> np.ndarray:
        return np.float32(0.25) * state


def stream(
    engine: Engine,
    num_frames: int,
    redundancy: Redundancy | None = None,
    first: int = 0,
    *,
    dtx: bool = False,
) -> tuple[Header, list[Packet]]:
    """Packets of a call whose first sequence number is ``first``; with ``dtx`` half is silence."""
    encoder = StreamEncoder(engine, packing=Packing.live(dtx=dtx, redundancy=redundancy))
    audio = sound(num_frames * engine.spec.hop_length - 7)
    if dtx:
        audio[:, audio.shape[1] // 8 : audio.shape[1] * 7 // 8] = 0
    packets = encoder.push(audio) + encoder.finish()
    count = encoder.header.sequence_count
    return encoder.header, [
        dataclasses.replace(packet, sequence=(first + packet.sequence) % count)
        for packet in packets
    ]


def run(
    buffer: JitterBuffer, arrivals: Iterable[tuple[float, Packet]], num_ticks: int
) -> np.ndarray:
    """Sound ``[C, num_ticks * hop]`` of packets that arrive at some times."""
    waiting = sorted(arrivals, key=lambda arrival: arrival[0])
    frames = []
    for tick in range(num_ticks):
        now = tick * TICK
        while waiting and waiting[0][0] <= now:
            time, packet = waiting.pop(0)
            buffer.push(packet, time)
        frames.append(buffer.pull(now))
        assert frames[-1].shape == (1, 40) and np.isfinite(frames[-1]).all()
    return np.concatenate(frames, axis=1)


def on_time(packets: list[Packet]) -> list[tuple[float, Packet]]:
    return [(number * TICK, packet) for number, packet in enumerate(packets)]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("frames_per_packet", [1, 3])
def test_an_undisturbed_call_is_the_stream_a_depth_later(
    name: str, frames_per_packet: int, lapped: Codec
) -> None:
    engine = make_engine(name, lapped)
    encoder = StreamEncoder(engine, packing=Packing.live(frames_per_packet))
    packets = encoder.push(sound(1_999)) + encoder.finish()
    decoder = StreamDecoder(encoder.header, engine)
    expected = np.concatenate([decoder.push(packet) for packet in packets], axis=1)
    buffer = JitterBuffer(encoder.header, engine, first_depth=0.02)
    arrivals = [(n * frames_per_packet * TICK, packet) for n, packet in enumerate(packets)]
    heard = run(buffer, arrivals, 60)
    start = 4 * 40 + engine.spec.delay
    assert np.array_equal(heard[:, start : start + 1_999], expected)
    assert not heard[:, :start].any() and not heard[:, start + 1_999 :].any()
    assert buffer.finished and buffer.statistics.loss == 0


def test_random_orders_of_arrival() -> None:
    """Duplicates, reordering, losses, wrap-around: exact lengths, and exact codes.

    What was played or recovered equals, to the bit, the sound of a stream in which recovered frames
    have as many codebooks as came with the later packet.
    """
    assert check_orders(range(ORDERS)) > ORDERS / 10


def check_orders(seeds: Iterable[int]) -> int:
    """Check a random call for each seed; the number of those in which nothing was concealed."""
    engine = NumbersEngine()
    plans = [
        (40, Redundancy(0, 0), False),
        (40, Redundancy(1, 2_000), False),
        (40, Redundancy(3, 6_000), False),
        (140, Redundancy(2, 4_000), True),
    ]
    streams = [
        [stream(engine, frames, plan, first, dtx=dtx) for frames, plan, dtx in plans]
        for first in (0, 65_520)
    ]
    exact = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        num_frames = plans[seed // 2 % 4][0]
        header, packets = streams[seed % 2][seed // 2 % 4]
        count = header.sequence_count
        buffer = JitterBuffer(header, engine, late=0.05, first_depth=float(rng.uniform(0, 0.06)))
        jitter = rng.choice([0, 0.005, 0.02, 0.1])
        arrivals = []
        for packet in packets:
            for _ in range(rng.choice([0, 1, 2, 3], p=[0.1, 0.7, 0.15, 0.05])):
                delay = min(rng.exponential(jitter), 0.15) if jitter else 0.0
                number = (packet.sequence - packets[0].sequence) % count
                arrivals.append((number * TICK + delay, packet))
        exact += check_call(engine, buffer, arrivals, packets, num_frames)
    return exact


def noted(decoder: StreamDecoder) -> list[tuple[str, Packet, int]]:
    """What becomes of frames from now on: how, of which packet, how many frames before its own."""
    made: list[tuple[str, Packet, int]] = []
    push, lost = decoder.push, decoder.lost

    def note_push(packet: Packet) -> np.ndarray:
        made.append(("played", packet, 0))
        return push(packet)

    def note_lost(num_packets: int = 1, later: Packet | None = None, ahead: int = 0) -> np.ndarray:
        if later is not None:
            made.append(("recovered", later, ahead + 1))
        elif decoder.is_silent:
            made.append(("silent", made[-1][1], 0))
        return lost(num_packets, later, ahead)

    decoder.push, decoder.lost = note_push, note_lost  # type: ignore[method-assign]
    return made


def check_call(
    engine: Engine,
    buffer: JitterBuffer,
    arrivals: list[tuple[float, Packet]],
    packets: list[Packet],
    num_frames: int,
) -> bool:
    """Check a call, and say whether nothing of it was concealed, so that all of it is known."""
    decoder = buffer._decoder
    made = noted(decoder)
    heard = run(buffer, arrivals, num_frames + 40)
    statistics = buffer.statistics
    distinct = {id(packet) for _, packet in arrivals}
    assert statistics.received == len(distinct)
    assert statistics.duplicates == len(arrivals) - len(distinct)
    assert statistics.damaged == 0
    assert statistics.played + statistics.late == statistics.received
    header = buffer._header
    payloads = PayloadDecoder(header, None)
    undisturbed = dict(zip(map(id, packets), payloads.decode(packets), strict=True))
    by_number = {packet.sequence: packet for packet in packets}
    place = next((n for n, each in enumerate(packets) if made and each is made[0][1]), 0)
    place -= made[0][2] if made else 0
    frames: list[np.ndarray] = []
    noise: ComfortNoise | None = None
    for kind, packet, age in made:
        codes: np.ndarray | None
        if kind == "silent":
            assert noise is not None
            frames.append(noise.next())
            continue
        noise = None
        if kind == "recovered":
            codes = payloads.decode_earlier(packet, age)
        elif packet.coding == Coding.COMFORT_NOISE:
            noise = ComfortNoise(payloads.decode_noise(packet), header.num_silent)
        if kind != "recovered":
            (codes,) = payloads.decode([packet])
        own = undisturbed[id(by_number[(packet.sequence - age) % header.sequence_count])]
        assert codes is not None and own is not None
        assert np.array_equal(codes, own[:, : codes.shape[1]])
        frames.append(codes)
    if statistics.concealed or not buffer.finished:
        return False
    in_order = statistics.stretched == statistics.dropped == 0
    first = made[0][1].sequence - made[0][2]
    due = (packets[-1].sequence - first) % header.sequence_count + 1
    assert statistics.played + statistics.recovered + statistics.silent == due == len(made)
    assert decoder.num_emitted == packets[-1].num_samples or place > 0
    expected, state = [], engine.init_decoder(1)
    for codes in frames:
        audio, state = engine.decode_step(codes, state)
        expected.append(audio)
    expected.append(engine.flush_step(state))
    signal = np.concatenate(expected, axis=1)[:, engine.spec.delay :]
    if in_order:
        begin = int(np.flatnonzero(heard[0])[0])
        length = min(decoder.num_emitted, signal.shape[1] - engine.spec.delay)
        assert np.array_equal(heard[:, begin : begin + length], signal[:, :length])
    return True


def test_a_missing_frame_is_recovered_from_the_nearest_later_packet(engine: TorchEngine) -> None:
    header, packets = stream(engine, 30, Redundancy(2, 4_000))
    arrivals = on_time(packets)
    for lost in (20, 10, 9):
        del arrivals[lost]
    buffer = JitterBuffer(header, engine, first_depth=3 * TICK)
    run(buffer, arrivals, 40)
    statistics = buffer.statistics
    assert (statistics.recovered, statistics.concealed) == (3, 0)
    assert statistics.loss == 3 / len(packets)


def test_without_redundancy_missing_frames_are_concealed(engine: TorchEngine) -> None:
    header, packets = stream(engine, 30)
    arrivals = on_time(packets)
    del arrivals[12], arrivals[7]
    buffer = JitterBuffer(header, engine)
    run(buffer, arrivals, 40)
    assert (buffer.statistics.recovered, buffer.statistics.concealed) == (0, 2)


@pytest.fixture(scope="module")
def speech_engine() -> Model:
    """The packaged model, which knows pauses; a random one sounds the same at all times."""
    return load_model()


def simulate(
    engine: Model, jitter: list[float], **options: float
) -> tuple[JitterBuffer, list[float]]:
    """A call with delays of each packet, and its depth at each tick."""
    hop, tick = engine.spec.hop_length, 0.02
    encoder = StreamEncoder(
        engine,
        packing=Packing.live(redundancy=Redundancy(0, 0)),
        rate=Constant(2),
    )
    audio = sound(len(jitter) * hop)
    audio *= np.arange(audio.shape[1]) // hop % 50 < 25
    packets = encoder.push(audio)
    buffer = JitterBuffer(encoder.header, engine, **options)
    arrivals = sorted(
        (n * tick + delay, packet.sequence, packet)
        for n, (packet, delay) in enumerate(zip(packets, jitter, strict=True))
    )
    depths = []
    for number in range(len(jitter)):
        now = number * tick + 0.001
        while arrivals and arrivals[0][0] <= now:
            time, _, packet = arrivals.pop(0)
            buffer.push(packet, time)
        buffer.pull(now)
        depths.append(buffer.statistics.depth)
    return buffer, depths


def test_the_depth_follows_the_jitter_in_pauses(speech_engine: Model) -> None:
    """Calm, then jitter of up to 100 ms, then calm again for longer than delays are remembered."""
    rng = np.random.default_rng(0)
    delays = [0.0] * 150 + list(rng.uniform(0, 0.1, 400)) + [0.0] * 800
    buffer, depths = simulate(speech_engine, delays, first_depth=0.02)
    assert max(depths[100:150]) < 0.055
    assert 0.09 < np.median(depths[450:550]) < 0.14
    assert max(depths[-50:]) < 0.055
    statistics = buffer.statistics
    assert statistics.stretched >= 3 and statistics.dropped >= 3


def test_at_most_the_stated_share_comes_too_late(speech_engine: Model) -> None:
    rng = np.random.default_rng(1)
    delays = list(rng.exponential(0.02, 800))
    for late in (0.005, 0.1):
        buffer, _ = simulate(speech_engine, delays, late=late)
        share = buffer.statistics.late / buffer.statistics.received
        assert share < 1.5 * late + 0.01
    assert share > 0.02, "a larger share makes the buffer shallower"


def test_pauses_are_stretched_and_shortened_without_clicks(engine: TorchEngine) -> None:
    """A stretched or shortened tone has no jump larger than its own steps."""
    header, _ = stream(engine, 30)
    buffer = JitterBuffer(header, engine)
    tone = np.sin(np.arange(200) / 4)[None].astype(np.float32)
    buffer._sound = tone.copy()
    heard = [buffer._give(buffer._take()), buffer._stretched(), buffer._shortened()]
    heard.append(buffer._give(buffer._take()))
    largest = np.abs(np.diff(tone)).max()
    assert np.abs(np.diff(np.concatenate(heard, axis=1))).max() <= 1.5 * largest
    assert buffer._sound.shape[1] == 200 - 4 * 40


@pytest.mark.parametrize("length", [200, 203, 239])
def test_a_quiet_end_is_shortened_as_far_as_there_is_sound(length: int) -> None:
    """The last packet may hold less than a frame."""
    engine = NumbersEngine()
    encoder = StreamEncoder(engine)
    packets = encoder.push(sound(length)) + encoder.finish()
    # All come at once, and almost all may be late: the buffer is far deeper than it must be.
    buffer = JitterBuffer(encoder.header, engine, first_depth=0.0, late=0.9)
    buffer._speech = 200.0  # everything else is quiet
    for packet in packets:
        buffer.push(packet, 0.0)
    for tick in range(12):
        assert buffer.pull(tick * TICK).shape == (1, 40)
    assert buffer.finished and buffer.statistics.dropped > 0


def test_what_is_left_is_played_when_nothing_comes_after_a_gap() -> None:
    engine = NumbersEngine()
    header, packets = stream(engine, 200, Redundancy(0, 0))
    buffer = JitterBuffer(header, engine, max_depth=0.2)
    run(buffer, [*on_time(packets[:50]), (50 * TICK, packets[-1])], 120)
    assert buffer.finished


def test_a_call_goes_on_after_an_interruption(engine: TorchEngine) -> None:
    """The network was away for a second, or the sender muted: in both cases it goes on."""
    header, packets = stream(engine, 400, Redundancy(0, 0))
    for first_after, begins in ((100, 300), (300, 300)):
        arrivals = on_time(packets[:100])
        later = packets[first_after:]
        arrivals += [((begins + n) * TICK, packet) for n, packet in enumerate(later[:80])]
        buffer = JitterBuffer(header, engine, max_depth=0.2)
        run(buffer, arrivals, 450)
        assert buffer.statistics.played == 180


def test_a_jump_of_sequence_numbers_is_believed_when_it_is_confirmed(engine: TorchEngine) -> None:
    header, packets = stream(engine, 300, Redundancy(0, 0))
    stray = dataclasses.replace(packets[50], sequence=40_000)
    jumped = [
        dataclasses.replace(packet, sequence=(packet.sequence + 30_000) % 65_536)
        for packet in packets[200:]
    ]
    arrivals = on_time([*packets[:50], stray, *packets[51:200], *jumped])
    buffer = JitterBuffer(header, engine)
    run(buffer, arrivals, 400)
    statistics = buffer.statistics
    assert statistics.late == 2, "the stray one, and the first one after the jump"
    assert statistics.played == len(packets) - 2 and buffer.finished


def test_packets_that_do_not_fit_are_concealed(engine: TorchEngine) -> None:
    header, packets = stream(engine, 60, Redundancy(1, 2_000))
    packets[20] = dataclasses.replace(packets[20], payload=b"")
    packets[30] = dataclasses.replace(packets[30], payload=packets[30].payload[:-1])
    buffer = JitterBuffer(header, engine)
    run(buffer, on_time(packets), 80)
    assert buffer.statistics.damaged == 2
    assert buffer.statistics.recovered + buffer.statistics.concealed == 2
    assert buffer.finished


def test_impossible_settings_are_refused(engine: TorchEngine) -> None:
    header, _ = stream(engine, 1)
    for late, reason in ((0.0, "less than 1"), (1.0, "less than 1"), (7.0, "from 0 to 1")):
        with pytest.raises(ConfigError, match=reason):
            JitterBuffer(header, engine, late=late)
    with pytest.raises(ConfigError, match="the first must lie between"):
        JitterBuffer(header, engine, first_depth=0.6)


@pytest.mark.parametrize("first_pull", [0, 400])
def test_sound_goes_on_after_a_stall_and_after_a_late_beginning(first_pull: int) -> None:
    """Longer than the buffer can be deep: the end of the call is as loud as without it."""
    engine = NumbersEngine()
    header, packets = stream(engine, 1_000, Redundancy(0, 0))
    stalled = [
        ((n if first_pull or not 250 <= n < 500 else 500) * TICK, packet)
        for n, packet in enumerate(packets)
    ]
    levels = []
    for arrivals, begin in ((on_time(packets), 0), (stalled, first_pull)):
        buffer = JitterBuffer(header, engine)
        late = [(max(0.0, at - begin * TICK), packet) for at, packet in arrivals]
        heard = run(buffer, late, 1_150 - begin)
        assert buffer.finished
        levels.append(np.sqrt(np.square(heard[:, -400 * 40 : -160 * 40]).mean()))
    assert 0.9 < levels[1] / levels[0] < 1.1


def test_another_stream_is_played_after_the_end_of_one() -> None:
    engine = NumbersEngine()
    header, packets = stream(engine, 100, Redundancy(0, 0))
    buffer = JitterBuffer(header, engine)
    again = [(at + 1.0, packet) for at, packet in on_time(packets)]
    run(buffer, on_time(packets), 130)
    assert buffer.finished
    heard = []
    for tick in range(200, 360):
        for at, packet in again:
            if at == tick * TICK:
                buffer.push(packet, at)
        heard.append(buffer.pull(tick * TICK))
    assert np.abs(np.concatenate(heard[100:120], axis=1)).max() > 0
    statistics = buffer.statistics
    assert statistics.played > 130 and buffer.finished


def test_a_packet_of_another_length_is_damaged() -> None:
    engine = NumbersEngine()
    encoder = StreamEncoder(engine, packing=Packing.live(3))
    packets = encoder.push(sound(40 * 90)) + encoder.finish()
    packets[5] = dataclasses.replace(packets[5], num_frames=2)
    packets[7] = dataclasses.replace(packets[7], num_frames=0, payload=b"")
    buffer = JitterBuffer(encoder.header, engine)
    run(buffer, [(3 * n * TICK, packet) for n, packet in enumerate(packets)], 110)
    assert (buffer.statistics.damaged, buffer.statistics.concealed) == (2, 2)
    assert buffer.finished
