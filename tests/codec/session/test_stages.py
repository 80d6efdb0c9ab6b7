"""Each stage of an encoder on its own, with arrays and a model of a few lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codec.codes import Codebook, CodecSpec
from codec.engines.base import Analysis, Engine, State
from codec.entropy.context import NO_CODE
from codec.entropy.payload import PayloadDecoder
from codec.errors import AudioError
from codec.format.container import Coding
from codec.rate.block import Block
from codec.rate.modes import Average, Constant, Quality
from codec.rate.redundancy import Redundancy
from codec.registry import Model
from codec.session.analyzer import Analyzer
from codec.session.packetizer import Packetizer
from codec.session.packing import Packing
from codec.session.plan import make_plan
from codec.session.planner import Planner
from tests.codec.entropy.oracle import matching_context

HOP, RATE, BOOKS = 160, 8_000, 3


class FakeEngine(Engine):
    """Codes are the number of the frame, the same for all codebooks, and look ahead by a frame."""

    spec = CodecSpec(
        name="fake",
        sample_rate=RATE,
        hop_length=HOP,
        codebooks=(Codebook(64),) * BOOKS,
        delay=40,
        fingerprint=bytes(range(16)),
        lookahead=HOP,
        tail=40,
    )

    def __init__(self) -> None:
        self.ahead: list[int] = []

    def init_encoder(self, channels: int) -> State:
        return 0

    def encode_step(
        self, audio: Any, state: State, num_codebooks: int | None = None, ahead: Any = None
    ) -> tuple[Any, State]:
        assert audio.flags.c_contiguous
        self.ahead.append(ahead.shape[1])
        frames = np.arange(state, state + audio.shape[1] // HOP) % 64
        shape = len(audio), num_codebooks or BOOKS, len(frames)
        return np.broadcast_to(frames, shape).copy(), state + len(frames)

    def analyze_step(self, audio: Any, state: State) -> tuple[Analysis, State]:
        codes, state = self.encode_step(audio, state, ahead=audio[:, :0])
        errors = np.broadcast_to(np.array([1.0, 0.5, 0.25])[:, None], codes.shape)
        latent = np.zeros((len(audio), codes.shape[2], 2), np.float32)
        return Analysis(codes, errors.astype(np.float32), latent), state

    def init_decoder(self, channels: int) -> State:
        raise NotImplementedError

    decode_step = conceal_step = flush_step = init_decoder  # type: ignore[assignment]


@pytest.fixture
def model() -> Model:
    codes = np.random.default_rng(0).integers(64, size=(BOOKS, 200))
    return Model(FakeEngine(), matching_context(np.random.default_rng(0), codes, 64))


def noise(num_samples: int, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((channels, num_samples))).astype(np.float32)


# Analyzer


def test_blocks_are_packets_of_frames_in_their_order(model: Model) -> None:
    analyzer = Analyzer(make_plan(model, Constant(2), Packing.live(2), channels=2))
    blocks: list[Block] = []
    for start in range(0, 1_000, 37):
        blocks += analyzer.push(noise(1_000, 2)[:, start:][:, :37])
    assert len(blocks) == 2  # two whole packets and what the engine looks ahead
    blocks += analyzer.finish()
    assert [block.codes[1, 1].tolist() for block in blocks] == [[0, 1], [2, 3], [4, 5], [6]]
    assert all(block.codes.shape[:2] == (2, 2) and block.slopes is None for block in blocks)
    assert model.engine.ahead == [HOP, HOP, HOP, 0]  # type: ignore[attr-defined]
    assert analyzer.num_samples == 1_000


def test_a_length_that_contradicts_the_audio_ends_nothing(model: Model) -> None:
    analyzer = Analyzer(make_plan(model, original_sample_rate=2 * RATE))
    assert not list(analyzer.push(noise(100)))
    with pytest.raises(AudioError, match=r"500 samples at 16000 Hz are 250 at the model's rate"):
        analyzer.finish(500)
    assert [block.codes.shape[2] for block in analyzer.finish(199)] == [1]


def test_variable_rates_get_slopes_and_pauses_of_files_get_none(model: Model) -> None:
    audio = noise(4 * RATE)
    audio[:, RATE : 3 * RATE] *= 1e-4
    analyzer = Analyzer(make_plan(model, 900, Packing.file()))
    (block, *_) = analyzer.push(audio)
    assert block.slopes is not None and block.latent is None
    assert block.slopes.shape == (1, 100, BOOKS) and np.isinf(block.slopes[..., 0]).all()
    numbers = np.isfinite(block.slopes[0]).sum(axis=1) + (block.slopes[0] == np.inf).sum(axis=1)
    assert (numbers[:50] == BOOKS).all() and set(numbers[80:].tolist()) == {0, 1}
    live = next(iter(Analyzer(make_plan(model, 900, Packing.live(100))).push(audio)))
    assert live.slopes is not None and (live.slopes > 0).all()
    assert live.slopes[0, 10, 1] > 10 * live.slopes[0, 80, 1]


def test_silence_is_marked_where_it_need_not_be_sent(model: Model) -> None:
    audio = noise(2 * RATE)
    audio[:, RATE:] *= 1e-4
    blocks = list(Analyzer(make_plan(model, packing=Packing.live(dtx=True))).push(audio))
    silent = [block.is_silence for block in blocks]
    assert not any(silent[:60]) and all(silent[65:])
    assert blocks[-1].codes.shape == (1, 1, 1)
    assert [int(block.codes[0, 0, 0]) for block in blocks] == [n % 64 for n in range(len(blocks))]


# Planner


def block(slopes: list[list[float]]) -> Block:
    found = np.array(slopes)[None]
    codes = np.arange(found.size).reshape(1, len(slopes), BOOKS).transpose(0, 2, 1) % 64
    return Block(codes, found)


def test_constant_rates_send_all_codes_at_once(model: Model) -> None:
    planner = Planner(make_plan(model))
    codes = np.array([[[1], [2], [3]]])
    assert np.array_equal(next(planner.push(Block(codes))), codes)
    assert not list(planner.finish())


def test_only_codes_above_lambda_are_sent_and_none_in_pauses(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codec.session.planner.quality_lambdas", lambda *_: [1.0])
    planner = Planner(make_plan(model, Quality(5), Packing.live(4)))
    steep, reference, pause = [np.inf, 3.0, 2.0], [np.inf, -np.inf, -np.inf], [-np.inf] * 3
    (codes,) = planner.push(block([steep, [np.inf, 2.0, 0.5], reference, pause]))
    assert (codes[0] != NO_CODE).sum(axis=0).tolist() == [3, 2, 1, 0]
    assert codes[0, :, 0].tolist() == [0, 1, 2] and codes[0, :, 2].tolist() == [6, NO_CODE, NO_CODE]


def test_packets_wait_for_those_after_them_and_share_the_bits(model: Model) -> None:
    """What needs little leaves its bits to what comes within a minute."""
    plan = make_plan(model, 500, Packing.file())
    flat, steep = [np.inf, 1e-6, 1e-7], [np.inf, 2.0, 1.0]
    planner, counts = Planner(plan), []
    for number in range(plan.wait + 3):
        for codes in planner.push(block([steep if number % 2 else flat] * 100)):
            counts.append(int((codes >= 0).sum()))
            planner.spent(6 * counts[-1], codes)
    assert len(counts) == 3
    for codes in planner.finish():
        counts.append(int((codes >= 0).sum()))
        planner.spent(6 * counts[-1], codes)
    assert len(counts) == plan.wait + 3
    assert counts[0] == 100 and counts[1] > 120


def test_what_packets_took_decides_what_the_next_may_take(model: Model) -> None:
    steep = [[np.inf, 2.0, 1.0]] * 10
    means = []
    for factor in (3, 12):
        planner, counts = Planner(make_plan(model, Average(600), Packing.live(10))), []
        for _ in range(40):
            (codes,) = planner.push(block(steep))
            counts.append(int((codes >= 0).sum()))
            planner.spent(factor * counts[-1], codes)
        means.append(np.mean(counts[20:]))
    assert means[0] > 1.5 * means[1]


# Packetizer


def test_packets_are_numbered_and_their_cost_is_known(model: Model) -> None:
    packetizer = Packetizer(make_plan(model, Constant(plain=True), Packing.live(2, overhead=9)))
    for number in range(3):
        packet, bits = packetizer.pack(np.full((1, BOOKS, 2), number))
        assert (packet.sequence, packet.num_frames) == (number, 2)
        assert bits == 8 * len(packet.payload)  # the target is lower by what the transport adds
    plan = make_plan(model, Constant(plain=True), Packing.file())
    packet, bits = Packetizer(plan).pack(np.zeros((1, BOOKS, 100), np.int64))
    assert bits == 8 * (len(packet.payload) + plan.header.head_size)


def test_redundant_frames_cost_the_rate_control_nothing(model: Model) -> None:
    packing = Packing.live(redundancy=Redundancy(2, 3_000))
    plan = make_plan(model, Constant(plain=True), packing)
    packetizer, found = Packetizer(plan), []
    for number in range(5):
        packet, bits = packetizer.pack(np.full((1, BOOKS, 1), number))
        found.append((packet.coding, bits))
    assert found[0] == (Coding.PLAIN, 24)
    assert found[-1][0] == Coding.PLAIN_WITH_EARLIER
    assert 24 <= found[-1][1] < 24 + 16  # the byte that says how many there are, and filling
    earlier = PayloadDecoder(plan.header, None).decode_earlier(packet, 1)
    assert earlier is not None and set(earlier.flat) == {3}


def test_silence_counts_and_is_described_now_and_then(model: Model) -> None:
    packetizer = Packetizer(make_plan(model, packing=Packing.live(dtx=True)))
    packetizer.pack(np.zeros((1, BOOKS, 1), np.int64))
    packets = [packetizer.pack_silence(np.full((1, 1, 1), n % 64)) for n in range(41)]
    sent = [number for number, packet in enumerate(packets) if packet is not None]
    assert sent == [0, 20, 40]
    assert packets[20] is not None and packets[20].coding == Coding.COMFORT_NOISE
    assert packets[20].sequence == 21
    packet, _ = packetizer.pack(np.zeros((1, BOOKS, 1), np.int64))
    assert packet.sequence == 42
