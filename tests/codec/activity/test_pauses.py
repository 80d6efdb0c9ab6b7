"""Pauses take next to no bits, and only what is noise is taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from codec.activity.pauses import NUM_REFERENCES, PauseDetector, fill_pauses
from codec.entropy.coding import decode_packets, encode_packets
from codec.entropy.context import NO_CODE, ContextModel, ContextShape
from tests.codec.entropy.oracle import random_context

SHAPE = ContextShape(4, 64, 3, width=8, hidden=5, dilations=(1, 2))
RATE, HOP = 8_000, 160


def find(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """After a second of loud noise."""
    detector = PauseDetector(RATE, HOP)
    rng = np.random.default_rng(1)
    detector.find(0.2 * rng.standard_normal((1, RATE)).astype(np.float32))
    pauses, references = detector.find(audio.astype(np.float32)[None])
    return pauses[0], references[0]


def noise(level: float, seconds: float = 2.0) -> np.ndarray:
    return level * np.random.default_rng(0).standard_normal(int(seconds * RATE))


@pytest.mark.parametrize("level", [0.0, 1e-5, 1e-4, 1e-3])
def test_noise_far_below_the_rest_is_a_pause(level: float) -> None:
    pauses, references = find(noise(level))
    assert references[:NUM_REFERENCES].all() and not pauses[:NUM_REFERENCES].any()
    assert pauses[NUM_REFERENCES:-4].all() and references[-4:].all()
    assert not (pauses & references).any()


def test_what_is_no_noise_or_not_far_below_is_no_pause() -> None:
    time = np.arange(2 * RATE) / RATE
    fading = noise(1e-3) * np.exp(-2 * time)
    for audio in (noise(0.02), 1e-3 * np.sin(2000 * time) + noise(1e-5), fading, noise(1e-3, 0.5)):
        pauses, references = find(audio)
        assert not pauses.any() and not references.any()


def test_frames_before_and_after_sound_are_no_part_of_a_pause() -> None:
    audio = noise(1e-4, 3.0)
    audio[:RATE] = 0.1 * np.sin(np.arange(RATE))
    audio[-1000:] += 0.1
    pauses, references = find(audio)
    quiet = np.flatnonzero(pauses | references)
    assert quiet[0] == RATE // HOP + 6 and quiet[-1] == (3 * RATE - 1000) // HOP - 5


def test_a_weak_beginning_is_no_part_of_a_pause() -> None:
    """A fricative 10 dB above the noise, still far below what was loudest."""
    audio = noise(1e-4, 3.0)
    begin = 2 * RATE + 3 * HOP
    audio[begin:] *= 10**0.5
    pauses, references = find(audio)
    assert pauses[NUM_REFERENCES : begin // HOP - 4].all()
    assert not (pauses | references)[begin // HOP - 4 :].any()


def test_a_breath_divides_a_pause() -> None:
    audio = noise(1e-4, 4.0)
    audio[2 * RATE :][: RATE // 4] *= 10
    pauses, references = find(audio)
    coded = np.flatnonzero(~(pauses | references))
    frame = 2 * RATE // HOP
    assert (coded.min(), coded.max()) == (frame - 4, frame + 13 - 1 + 6)
    assert pauses[:frame].any() and pauses[frame:].any()


def test_a_pause_repeats_the_frames_before_it() -> None:
    codes = np.arange(2 * 3 * 60).reshape(2, 3, 60)
    absent = codes.copy()
    absent[0, :, 20:50] = absent[0, :, 55:] = absent[1, :, 3:] = NO_CODE
    filled = fill_pauses(absent)
    assert np.array_equal(filled[0, :, :20], codes[0, :, :20])
    assert np.array_equal(filled[0, :, 50:55], codes[0, :, 50:55])
    for start, end, first in ((20, 50, 20 - NUM_REFERENCES), (55, 60, 50)):
        sources = filled[0, 0, start:end]
        assert first <= sources.min() and sources.max() < start
        assert np.array_equal(filled[0, 1, start:end], sources + 60)
        expected = [
            start - 1 - (start - first) * (40503 * i % 65536) // 65536 for i in range(end - start)
        ]
        assert sources.tolist() == expected
    assert set(filled[1, 0, 3:]) == {180, 181, 182}
    # Without frames before it a pause stays as it is.
    nothing = np.full((1, 3, 5), NO_CODE)
    assert np.array_equal(fill_pauses(nothing), nothing)


@pytest.mark.parametrize("segments", [1, 3])
@pytest.mark.parametrize("channels", [1, 2])
def test_frames_without_codes_cost_next_to_nothing(segments: int, channels: int) -> None:
    model = ContextModel(SHAPE, random_context(np.random.default_rng(0), SHAPE, largest=25))
    rng = np.random.default_rng(3)
    sent = rng.integers(64, size=(3, channels, 4, 100))
    counts = rng.integers(0, 5, (3, channels, 1, 100))
    sent = np.where(np.arange(4)[:, None] < counts, sent, NO_CODE)
    payloads, _ = encode_packets(model, sent, segments=segments, variable=True, pauses=True)
    received, _ = decode_packets(
        model,
        [(each, 100) for each in payloads],
        channels,
        4,
        segments=segments,
        variable=True,
        pauses=True,
    )
    assert np.array_equal(np.stack(received), sent)
    sent[..., 10:] = NO_CODE
    payloads, _ = encode_packets(model, sent, segments=segments, variable=True, pauses=True)
    alone, _ = encode_packets(model, sent[..., :10], variable=True)
    assert max(map(len, payloads)) < max(map(len, alone)) + 6 * segments * channels
