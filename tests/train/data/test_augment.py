"""Augmentation: exact ratios, alignment and spectra; clean targets."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from codec.arrays import Samples
from codec.corpus.clips import FILTER_REACH
from codec.highpass import high_pass
from tests.conftest import RECORDING, sound
from train.data.augment import (
    NOISE_DB,
    SILENCE,
    Augmenter,
    active_power,
    add_noise,
    change_speed,
    colored_noise,
    low_pass,
    overdrive,
    reverberate,
    synthetic_room,
)
from train.recipe.sections import AugmentConfig

RATE = 24_000
SIZE = 7_919
NONE = AugmentConfig(polarity=False)
DEGRADATIONS = {
    "reverb_share": 1.0,
    "noise_share": 1.0,
    "clip_share": 1.0,
    "band_limit_share": 1.0,
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def never() -> Samples:
    raise AssertionError("nothing is mixed")


@pytest.fixture(scope="module")
def speech() -> Samples:
    samples, _ = soundfile.read(RECORDING, dtype="float32")
    return np.asarray(samples, np.float32)


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noises")
    soundfile.write(folder / "hiss.wav", sound(50_000, seed=5)[0], RATE)
    soundfile.write(folder / "click.wav", sound(900, seed=6)[0], 48_000)
    return folder


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    response = np.zeros(5_000)
    response[170], response[400], response[4_000] = -0.5, 0.2, 0.1
    soundfile.write(folder / "hall.wav", response, RATE)
    return folder


def test_nothing_is_changed_when_all_is_off(speech: Samples) -> None:
    augment = Augmenter(NONE, RATE, SIZE)
    assert augment.num_source_samples == SIZE
    degraded, clean = augment(speech[:SIZE], rng(), never)
    assert degraded is clean
    assert np.array_equal(clean, speech[:SIZE])


@pytest.mark.parametrize("share", DEGRADATIONS)
def test_each_degradation_changes_the_input_and_not_the_target(
    share: str, speech: Samples, noises: Path
) -> None:
    off: dict[str, Any] = dict.fromkeys(DEGRADATIONS, 0.0)
    config = dataclasses.replace(NONE, noise=str(noises), **off | {share: 1.0})
    target = speech[:SIZE].copy()
    degraded, clean = Augmenter(config, RATE, SIZE)(target, rng(), never)
    assert np.array_equal(clean, speech[:SIZE]) and np.array_equal(target, speech[:SIZE])
    assert not np.allclose(degraded, clean, atol=1e-3)
    assert degraded.shape == clean.shape and degraded.dtype == clean.dtype == np.float32
    assert np.abs(degraded).max() <= 1

    undegraded, clean = Augmenter(dataclasses.replace(config, **off), RATE, SIZE)(
        target, rng(), never
    )
    assert undegraded is clean


def test_shares_are_those_of_the_crops(speech: Samples) -> None:
    config = dataclasses.replace(NONE, clip_share=0.3)
    augment, generator = Augmenter(config, RATE, SIZE), rng()
    pairs = [augment(speech[:SIZE], generator, never) for _ in range(1000)]
    # Four standard deviations of a share of 1000 draws.
    assert np.mean([a is not b for a, b in pairs]) == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("kind", ["silence", "faint", "full", "square", "one sample"])
def test_everything_at_once_is_finite_within_full_scale_and_repeatable(
    kind: str, noises: Path, rooms: Path
) -> None:
    config = AugmentConfig(
        gain_db=(-12, 40),
        resample=0.3,
        mix=0.5,
        noise=str(noises),
        impulse_responses=str(rooms),
        **(DEGRADATIONS | {"noise_snr_db": (-20.0, 20.0)}),  # type: ignore[arg-type]
    )
    for memory_gb in (0.0, 1.0):
        augment = Augmenter(config, RATE, SIZE, memory_gb)
        size = augment.num_source_samples
        sources = {
            "silence": np.zeros(size),
            "faint": rng(1).standard_normal(size) * 1e-7,
            "full": rng(1).uniform(-1, 1, size),
            "square": np.sign(np.sin(np.arange(size) / 50)),
            "one sample": np.eye(1, size, size // 2)[0],
        }
        source = sources[kind].astype(np.float32)
        other = source[::-1]
        for seed in range(5):
            first = augment(source, rng(seed), partial(np.asarray, other))
            again = augment(source, rng(seed), partial(np.asarray, other))
            for audio, same in zip(first, again):
                assert audio.shape == (SIZE,) and audio.dtype == np.float32
                assert np.isfinite(audio).all() and np.abs(audio).max() <= 1
                assert np.array_equal(audio, same)
            if kind == "silence":
                assert not first[0].any() and not first[1].any()


def test_rumble_is_filtered_out_of_input_and_target(speech: Samples) -> None:
    rumbling = speech[:SIZE] + np.float32(0.2)
    config = dataclasses.replace(NONE, high_pass=True)
    degraded, clean = Augmenter(config, RATE, SIZE)(rumbling, rng(), never)
    assert degraded is clean
    assert np.array_equal(clean, high_pass(rumbling[None], RATE)[0].clip(-1, 1))
    assert abs(clean[-RATE // 10 :].mean()) < 0.02
    config = dataclasses.replace(config, clip_share=1.0)
    degraded, clean = Augmenter(config, RATE, SIZE)(rumbling, rng(), never)
    assert not np.array_equal(degraded, clean)
    assert abs(degraded[-RATE // 10 :].mean()) < 0.02


def test_gain_and_polarity_vary_and_never_clip(speech: Samples) -> None:
    config = AugmentConfig(gain_db=(-12, 4))
    augment, generator = Augmenter(config, RATE, SIZE), rng()
    crop = speech[20_000 : 20_000 + SIZE]
    crop = crop * (0.9 / np.abs(crop).max())
    peak = int(np.abs(crop).argmax())
    gains = np.array([augment(crop, generator, never)[1][peak] / crop[peak] for _ in range(400)])
    decibels = 20 * np.log10(np.abs(gains))
    assert 0.4 < (gains > 0).mean() < 0.6
    assert -12 <= decibels.min() < -11.5
    assert decibels.max() == pytest.approx(-20 * np.log10(0.9), abs=1e-3)
    degraded, clean = augment(crop, generator, never)
    gain = clean[peak] / crop[peak]
    assert np.allclose(clean, gain * crop, atol=1e-6) and degraded is clean


def test_mixing_adds_another_crop_to_input_and_target(speech: Samples) -> None:
    augment = Augmenter(dataclasses.replace(NONE, mix=1.0), RATE, SIZE)
    other = 0.1 * sound(SIZE)[0]
    degraded, clean = augment(speech[:SIZE], rng(), lambda: other)
    assert degraded is clean
    assert np.array_equal(clean, speech[:SIZE] + other)


def test_stationary_noise_replaces_some_crops(speech: Samples) -> None:
    augment, generator = (
        Augmenter(dataclasses.replace(NONE, stationary_noise=0.3), RATE, SIZE),
        rng(),
    )
    crop = speech[20_000 : 20_000 + SIZE]
    pairs = [augment(crop, generator, never) for _ in range(1000)]
    assert all(degraded is clean for degraded, clean in pairs)
    # Four standard deviations of a share of 1000 draws.
    assert np.mean([not np.array_equal(clean, crop) for _, clean in pairs]) == pytest.approx(
        0.3, abs=0.06
    )


def test_stationary_noise_has_many_colours_and_a_constant_level() -> None:
    generator, slopes = rng(), []
    for _ in range(50):
        noise = colored_noise(generator, 16_384, RATE)
        assert noise.dtype == np.float32 and len(noise) == 16_384
        assert 20 * np.log10(noise.std()) == pytest.approx(NOISE_DB, abs=0.01)
        power = np.square(np.abs(np.fft.rfft(noise)))
        low, high = power[256:512].mean(), power[4096:8192].mean()  # four octaves apart
        slopes.append(10 * np.log10(low / high) / 4)
        halves = noise.reshape(2, -1).std(axis=1)
        assert halves.max() < 1.5 * halves.min()
    assert -0.5 < min(slopes) < 1 and 5 < max(slopes) < 6.5


@pytest.mark.parametrize("speed", [0.9, 0.95, 1.031, 1.1])
def test_a_changed_speed_moves_frequencies_and_keeps_the_crop_full(speed: float) -> None:
    augment = Augmenter(dataclasses.replace(NONE, resample=0.1), RATE, SIZE)
    time = np.arange(augment.num_source_samples)
    source = (0.5 * np.sin(0.3 * time)).astype(np.float32)
    changed = change_speed(source, SIZE, speed)
    # The first FILTER_REACH samples are left out.
    expected = 0.5 * np.sin(0.3 * speed * (np.arange(SIZE) + FILTER_REACH))
    # soxr's quality HQ is good for 20 bits; its transition band is not touched here.
    assert np.abs(changed - expected).max() < 1e-4


def test_speeds_are_drawn_up_to_the_largest_change() -> None:
    augment, generator = Augmenter(dataclasses.replace(NONE, resample=0.1), RATE, SIZE), rng()
    source = np.sin(0.3 * np.arange(augment.num_source_samples)).astype(np.float32)
    speeds = []
    for _ in range(100):
        _, clean = augment(source, generator, never)
        crossings = np.flatnonzero(np.diff(np.sign(clean)) > 0)
        speeds.append((len(crossings) - 1) * 2 * np.pi / np.ptp(crossings) / 0.3)
    assert 0.89 < min(speeds) < 0.92 and 1.08 < max(speeds) < 1.11


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 7.3, 30.0])
def test_noise_is_added_at_exactly_its_ratio_to_active_sound(snr_db: float) -> None:
    audio, noise = sound(SIZE)[0] * 0.01, sound(SIZE, seed=3)[0] * 0.003
    frame = 480
    audio[10 * frame :] = 0  # a pause, which must not count as quiet speech
    noise[: 4 * frame] = 0
    added = add_noise(audio, noise, snr_db, RATE) - audio
    active = np.square(audio[: 10 * frame], dtype=np.float64).mean()
    loud = np.square(added[4 * frame : SIZE // frame * frame], dtype=np.float64).mean()
    assert 10 * np.log10(active / loud) == pytest.approx(snr_db, abs=1e-3)


def test_silence_and_silent_noise_are_unchanged() -> None:
    audio, silence = sound(SIZE)[0], np.zeros(SIZE, np.float32)
    assert np.array_equal(add_noise(audio, silence, 0, RATE), audio)
    assert np.array_equal(add_noise(silence, audio, 0, RATE), silence)
    assert active_power(silence, RATE) == 0 < SILENCE
    assert active_power(audio[:7], RATE) == pytest.approx(np.square(audio[:7]).mean())


def test_noise_from_files_has_the_drawn_ratio(speech: Samples, noises: Path) -> None:
    config = dataclasses.replace(
        NONE, noise=str(noises), noise_share=1.0, noise_snr_db=(12.0, 12.0)
    )
    crop = 0.1 * speech[30_000 : 30_000 + SIZE]
    augment = Augmenter(config, RATE, SIZE)
    for seed in range(10):
        degraded, clean = augment(crop, rng(seed), never)
        ratio = active_power(clean, RATE) / active_power(degraded - clean, RATE)
        assert 10 * np.log10(ratio) == pytest.approx(12, abs=0.01)


@pytest.mark.parametrize("direct_db", [-6.0, 0.0, 6.0])
def test_a_synthetic_room_decays_by_60_db_in_its_time(direct_db: float) -> None:
    response = synthetic_room(rng(), 0.5, direct_db, RATE).astype(np.float64)
    energy = np.square(response[1:])
    assert response[0] == 1
    assert 10 * np.log10(1 / energy.sum()) == pytest.approx(direct_db, abs=1e-3)
    # Schroeder's backward integral, its slope over the first 40 dB.
    decay = 10 * np.log10(np.cumsum(energy[::-1])[::-1] / energy.sum())
    end = int(np.argmax(decay < -40))
    slope = np.polyfit(np.arange(end) / RATE, decay[:end], 1)[0]
    assert -60 / slope == pytest.approx(0.5, rel=0.05)


def test_the_direct_sound_coincides_with_the_target() -> None:
    config = dataclasses.replace(NONE, reverb_share=1.0)
    augment = Augmenter(config, RATE, SIZE)
    crop = 0.1 * sound(SIZE)[0]
    for seed in range(5):
        degraded, clean = augment(crop, rng(seed), never)
        correlation = np.correlate(degraded, clean, "full")
        assert int(correlation.argmax()) == SIZE - 1
    impulse = np.eye(1, 3_000, 1_000, dtype=np.float32)[0] * 0.5
    heard = reverberate(impulse, synthetic_room(rng(), 0.3, 0.0, RATE))
    assert np.abs(heard[:1_000]).max() < 1e-6
    assert heard[1_000] == pytest.approx(0.5, abs=1e-6)
    assert np.abs(heard[1_001:]).max() > 1e-3


def test_recorded_rooms_are_aligned_on_their_peak(rooms: Path) -> None:
    config = dataclasses.replace(NONE, reverb_share=1.0, impulse_responses=str(rooms))
    impulse = np.eye(1, SIZE, 1_000, dtype=np.float32)[0] * 0.5
    degraded, _ = Augmenter(config, RATE, SIZE)(impulse, rng(), never)
    expected = np.zeros(SIZE)
    expected[1_000], expected[1_230], expected[4_830] = 0.5, -0.2, -0.1
    assert np.abs(degraded - expected).max() < 2e-4  # the file has 16 bits
    silent = np.zeros(100, np.float32)
    assert np.array_equal(reverberate(impulse, silent), impulse)


def test_overdriven_audio_is_cut_at_its_limit() -> None:
    audio = sound(SIZE)[0]
    cut = overdrive(audio, 6.0)
    limit = np.abs(audio).max() * 10 ** (-6 / 20)
    assert np.abs(cut).max() == pytest.approx(limit)
    inside = np.abs(audio) < limit
    assert np.array_equal(cut[inside], audio[inside]) and (~inside).sum() > 10


@pytest.mark.parametrize(("rate", "end_hz"), [(24_000, 2_000), (24_000, 7_900), (44_100, 3_400)])
def test_a_band_limit_removes_everything_above_it_and_nothing_below(
    rate: int, end_hz: float
) -> None:
    time = np.arange(rate) / rate
    middle = slice(rate // 4, -rate // 4)  # where the filter sees no edge

    def passed(frequency: float) -> np.ndarray:
        tone = np.sin(2 * np.pi * frequency * time).astype(np.float32)
        return np.stack([tone, low_pass(tone, end_hz, rate)])[:, middle]

    for frequency in (50, 0.5 * end_hz, 0.89 * end_hz):
        tone, filtered = passed(frequency)
        assert np.abs(filtered - tone).max() < 1e-3  # in place, with its phase
    for frequency in (1.01 * end_hz, 1.3 * end_hz, 0.49 * rate):
        assert np.abs(passed(frequency)[1]).max() < 1e-3


def test_a_band_limit_beyond_the_band_changes_nothing() -> None:
    audio = sound(SIZE)[0]
    assert low_pass(audio, 12_000, RATE) is audio


def test_a_low_pass_is_not_delayed() -> None:
    impulse = np.eye(1, 501, 250, dtype=np.float32)[0]
    filtered = low_pass(impulse, 3_000, RATE)
    assert np.allclose(filtered, filtered[::-1], atol=1e-6)
    assert int(filtered.argmax()) == 250
